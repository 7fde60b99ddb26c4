import hashlib
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml

import utils.data.synthetic as synthetic
from utils.data.shapes.geometry import CLASS_SHAPES, DECOY_SHAPES, SOLID, Sprite, cut_sprite, place
from utils.data.shapes.paint import FILL_PATTERNS, contrasting_colour
from utils.data.shapes.scene import LEAST_SIDE, SIZES_HW, Canvas
from utils.data.synthetic import CLASS_NAMES, GENERATORS, generate_shapes10, make_scene, write_scene
from utils.errors import UserError

COUNTS = {"train": 5, "val": 3}
PROJECT = Path(__file__).resolve().parents[2]


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def generator(*seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "shapes10"
    generate_shapes10(folder, counts=COUNTS)
    return folder


@pytest.fixture(scope="module")
def scenes() -> list:
    return [make_scene(0, "train", index) for index in range(150)]


def test_layout(made):
    expected = {
        f"{kind}/{split}/{index:06d}.{suffix}"
        for kind, suffix in (("images", "jpg"), ("labels", "txt"))
        for split, count in COUNTS.items()
        for index in range(count)
    }
    assert set(digests(made)) == expected
    assert [path.name for path in made.parent.iterdir()] == ["shapes10"]  # the hidden folder is gone


def test_same_seed_same_bytes(made, tmp_path):
    generate_shapes10(tmp_path / "again", counts=COUNTS)
    assert digests(tmp_path / "again") == digests(made)


def test_order_and_threads_do_not_matter(made, tmp_path):
    for name in digests(made):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    wanted = [(split, index) for split, count in COUNTS.items() for index in range(count)]
    random.Random(3).shuffle(wanted)
    for split, index in wanted:
        write_scene(tmp_path, 0, split, index)
    assert digests(tmp_path) == digests(made)


def test_seeds_splits_and_indices_differ():
    keys = [(0, "train", 0), (1, "train", 0), (0, "val", 0), (0, "train", 1)]
    assert len({make_scene(*key).image.tobytes() for key in keys}) == len(keys)


def test_known_scene():
    # Guards results measured on the set: a change of any draw moves these boxes by far more than the tolerance.
    scene = make_scene(0, "val", 5)
    names = [CLASS_NAMES[kind] for kind in scene.classes]
    assert names == ["circle", "square", "circle", "arrowhead", "pentagon"]
    expected = [[323, 0, 364, 39], [214, 27, 307, 119], [229, 169, 364, 304], [110, 173, 203, 290], [44, 207, 111, 270]]
    np.testing.assert_allclose(scene.boxes, expected, atol=2)


def test_label_files_are_valid(made):
    rows = [line for path in sorted(made.glob("labels/*/*.txt")) for line in path.read_text().splitlines()]
    assert rows
    for row in rows:
        kind, *box = row.split(" ")
        assert 0 <= int(kind) < len(CLASS_NAMES)
        assert all(len(value.split(".")[1]) == 6 for value in box)
        x, y, width, height = map(float, box)
        assert width > 0 and height > 0
        assert -1e-6 <= x - width / 2 and x + width / 2 <= 1 + 1e-6
        assert -1e-6 <= y - height / 2 and y + height / 2 <= 1 + 1e-6


def test_boxes_enclose_exactly_what_is_visible(scenes):
    for scene in scenes:
        assert scene.image.shape[:2] == scene.owner.shape and scene.image.shape[:2] in SIZES_HW
        for number, (left, top, right, bottom) in zip(scene.numbers, scene.boxes, strict=True):
            rows, columns = np.nonzero(scene.owner == number)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom)
            assert min(right - left, bottom - top) >= LEAST_SIDE


def test_labels_are_boxes_over_the_image_size(scenes):
    scene = next(scene for scene in scenes if len(scene.classes) and scene.owner.shape[0] != scene.owner.shape[1])
    height, width = scene.owner.shape
    labels = scene.labels()
    corners = np.concatenate([labels[:, 1:3] - labels[:, 3:] / 2, labels[:, 1:3] + labels[:, 3:] / 2], 1)
    np.testing.assert_allclose(corners * (width, height, width, height), scene.boxes, atol=1e-9)
    assert labels[:, 0].tolist() == scene.classes.tolist()


def test_variety(scenes):
    counts = [len(scene.classes) for scene in scenes]
    assert 2 <= counts.count(0) <= 25
    assert sum(count >= 18 for count in counts) >= 5
    assert {scene.owner.shape for scene in scenes} == set(SIZES_HW)
    sides = np.concatenate([scene.boxes[:, 2:] - scene.boxes[:, :2] for scene in scenes]).max(1)
    assert sides.min() < 16 and sides.max() > 130
    assert np.count_nonzero(sides < 32) > 0.2 * len(sides) and np.count_nonzero(sides > 64) > 0.15 * len(sides)
    edges = [(scene.boxes == 0).any() or (scene.boxes[:, 2:] == scene.owner.shape[::-1]).any() for scene in scenes]
    assert sum(edges) > 10  # some objects are cut by the image's edge


def test_classes_are_balanced(scenes):
    tally = Counter(np.concatenate([scene.classes for scene in scenes]).tolist())
    mean = sum(tally.values()) / len(CLASS_NAMES)
    assert set(tally) == set(range(len(CLASS_NAMES)))
    assert all(0.7 * mean < count < 1.3 * mean for count in tally.values())


def hard_edged(name: str, degrees: int, centre_xy: tuple[int, int]) -> Sprite:
    soft = cut_sprite(place(CLASS_SHAPES[name](generator(0)), degrees, 60, centre_xy))
    return Sprite(soft.left, soft.top, np.where(soft.mask >= SOLID, 255, 0).astype(np.uint8))


@pytest.mark.parametrize("shift", [0, 10, 25, 45, 60])
def test_painted_boxes_follow_occlusion(shift):
    # White on black, then grey: the truth is read off the picture itself, without the owner map.
    canvas = Canvas(np.zeros((100, 160, 3), np.uint8))
    star, pentagon = hard_edged("star5", 20, (50, 50)), hard_edged("pentagon", 0, (50 + shift, 50))
    for number, (sprite, grey) in enumerate([(star, 255), (pentagon, 90)], start=1):
        canvas.paint(sprite, np.full((*sprite.mask.shape, 3), grey, np.uint8), number)
    for number, (sprite, grey) in enumerate([(star, 255), (pentagon, 90)], start=1):
        rows, columns = np.nonzero(canvas.image[..., 0] == grey)
        visible, box = canvas.visible_box(sprite, number)
        assert visible == len(rows) and (visible == sprite.area) == (number == 2 or shift == 60)
        assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@pytest.mark.parametrize("name", CLASS_NAMES)
@pytest.mark.parametrize(("size", "degrees"), [(8, 0), (30, 17), (121, 200)])
def test_shapes_have_the_size_asked_for(name, size, degrees):
    sprite = cut_sprite(place(CLASS_SHAPES[name](generator(1)), degrees, size, (200, 150)))
    rows, columns = np.nonzero(sprite.mask >= SOLID)
    width, height = np.ptp(columns) + 1, np.ptp(rows) + 1
    assert abs(max(width, height) - size) <= 3
    assert abs(sprite.left + columns.min() + width / 2 - 200) <= 2
    assert abs(sprite.top + rows.min() + height / 2 - 150) <= 2


@pytest.mark.parametrize("maker", DECOY_SHAPES)
def test_decoys_are_drawn(maker):
    for seed in range(10):
        sprite = cut_sprite(place(maker(generator(seed)), 33, 40, (0, 0)))
        assert sprite.area > 100


@pytest.mark.parametrize(
    ("left", "top", "visible"),
    [(-5, -5, 25), (5, 3, 100), (35, 0, 50), (-10, 0, 0), (-90, 7, 0), (400, 7, 0), (0, 400, 0)],
)
def test_sprites_are_cut_at_the_edge(left, top, visible):
    canvas = Canvas(np.zeros((30, 40, 3), np.uint8))
    sprite = Sprite(left, top, np.full((10, 10), 255, np.uint8))
    canvas.cast_shadow(sprite, 2)
    canvas.paint(sprite, np.full((10, 10, 3), 200, np.uint8), 4)
    assert np.count_nonzero(canvas.owner == 4) == visible
    assert canvas.visible_box(sprite, 4)[0] == visible


@pytest.mark.parametrize("pattern", FILL_PATTERNS)
@pytest.mark.parametrize("size_hw", [(1, 3), (9, 5), (60, 80)])
def test_patterns_fill_any_size(pattern, size_hw):
    weights = pattern(generator(5), size_hw)
    assert weights.shape == size_hw and weights.dtype == np.uint8


@pytest.mark.parametrize("other", [(0, 0, 0), (128, 128, 128), (255, 0, 255)])
def test_contrasting_colours_contrast(other):
    rng = generator(2)
    for _ in range(30):
        assert abs(contrasting_colour(rng, np.array(other), 220) - other).sum() >= 220


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_interrupted_generation_leaves_nothing(tmp_path, monkeypatch, error):
    def write_or_fail(folder: Path, seed: int, split: str, index: int) -> None:
        if index == 2:
            raise error("stopped")
        write_scene(folder, seed, split, index)

    monkeypatch.setattr(synthetic, "write_scene", write_or_fail)
    with pytest.raises(error):
        generate_shapes10(tmp_path / "shapes10", counts=COUNTS)
    assert list(tmp_path.iterdir()) == []


def test_a_race_keeps_the_first(made, tmp_path, monkeypatch):
    target = tmp_path / "shapes10"

    def lose_the_race(folder: Path, *_: object) -> None:
        monkeypatch.undo()
        generate_shapes10(target, counts=COUNTS)

    monkeypatch.setattr(synthetic, "_write_scenes", lose_the_race)
    generate_shapes10(target, counts=COUNTS)
    assert digests(target) == digests(made)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "shapes10").mkdir()
    generate_shapes10(tmp_path / "shapes10", counts={"val": 1})
    assert (tmp_path / "shapes10" / "images" / "val" / "000000.jpg").is_file()


def test_a_filled_folder_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="delete the folder"):
        generate_shapes10(tmp_path, counts={"val": 1})
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_yaml_agrees_with_the_generator():
    content = yaml.safe_load((PROJECT / "data" / "shapes10.yaml").read_text(encoding="utf-8"))
    assert GENERATORS[content["generator"]] is generate_shapes10
    assert tuple(content["names"][index] for index in range(len(CLASS_NAMES))) == CLASS_NAMES
    for split in ("train", "val", "test"):
        assert content[split] == f"images/{split}" and split in synthetic.COUNTS
