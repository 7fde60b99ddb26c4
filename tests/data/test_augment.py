import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.pictures import assert_same_picture, scene_of
from tests.golden_data import load_golden, meta_of
from utils.data import augment
from utils.data.strength import Augmentation
from utils.data.warp import affine_matrix, draw_affine, warp


@pytest.fixture(scope="module")
def golden():
    return load_golden("augment.npz")


@pytest.mark.parametrize("number", range(3))
def test_mixup_equals_v61(golden, number):
    name = f"mix{number}"
    first = scene_of(golden[f"{name}_a"], golden[f"{name}_la"])
    second = scene_of(golden[f"{name}_b"], golden[f"{name}_lb"])
    mixed = augment.mixup(first, second, float(golden[f"{name}_ratio"]))
    np.testing.assert_array_equal(mixed.image, golden[f"{name}_out"])
    np.testing.assert_array_equal(mixed.labels, golden[f"{name}_lout"])


def test_copy_paste_equals_v61(golden):
    segments = [golden[f"cp_seg{index}"] for index in range(5)]
    scene = scene_of(golden["cp_im"], golden["cp_labels"], segments)
    pasted = augment.copy_paste(scene, meta_of(golden)["copy_paste"]["chosen"])
    np.testing.assert_allclose(pasted.labels, golden["cp_labels_out"], atol=1e-4)
    assert_same_picture(pasted.image, golden["cp_out"])


def test_copy_paste_mirrors_object_pixels_and_label():
    image = np.zeros((20, 60, 3), np.uint8)
    image[5:16, 5:16] = 200
    polygon = np.array([[5, 5], [15, 5], [15, 15], [5, 15]], np.float32)
    pasted = augment.copy_paste(scene_of(image, [[3, 5, 5, 15, 15]], [polygon]), [0])
    np.testing.assert_array_equal(pasted.labels[1], [3, 45, 5, 55, 15])
    np.testing.assert_array_equal(pasted.image[10, 46:54], 200)
    np.testing.assert_array_equal(pasted.image[10, 6:15], 200)
    assert not image[:, 30:].any(), "the input is left alone"


def test_copy_paste_draws_distinct_objects():
    chosen = augment.draw_copy_paste(5, 0.6, np.random.default_rng(1))
    assert len(set(chosen)) == 3 and set(chosen) <= set(range(5))


@pytest.mark.parametrize("number", range(4))
def test_hsv_equals_v61(golden, number):
    name = f"hsv{number}"
    tables = augment.hsv_tables(golden[f"{name}_gains"])
    for column, channel in enumerate("hsv"):
        np.testing.assert_array_equal(tables[:, column], golden[f"{name}_lut_{channel}"])
    image = golden[f"{name}_im"]
    before = image.copy()
    assert_same_picture(augment.jitter_hsv(image, golden[f"{name}_gains"]), golden[f"{name}_out"])
    np.testing.assert_array_equal(image, before)


def test_hsv_gains_range():
    generator = np.random.default_rng(0)
    gains = np.array([augment.draw_hsv_gains(Augmentation(0.015, 0.7, 0.4), generator) for _ in range(300)])
    assert (np.abs(gains - 1).max(0) <= [0.015, 0.7, 0.4]).all()
    assert (np.abs(gains - 1).max(0) >= [0.013, 0.6, 0.35]).all()


@pytest.mark.parametrize("flip", [augment.flip_left_right, augment.flip_up_down])
def test_flip_keeps_labels_on_their_pixels(flip):
    image = np.zeros((30, 40, 3), np.uint8)
    image[4:9, 10:25] = 255
    flipped = flip(scene_of(image, [[2, 10, 4, 25, 9]]))
    left, top, right, bottom = flipped.labels[0, 1:].astype(int)
    assert (flipped.image[top:bottom, left:right] == 255).all()
    assert flipped.image.astype(int).sum() == image.astype(int).sum()
    np.testing.assert_array_equal(flip(flipped).labels, [[2, 10, 4, 25, 9]])


@pytest.mark.parametrize("flip", [augment.flip_left_right, augment.flip_up_down])
def test_flip_of_an_image_without_labels(flip):
    assert flip(scene_of(np.zeros((8, 8, 3), np.uint8))).labels.shape == (0, 5)


# --- polygons stay with their boxes


def outlined(count=6, size=60, seed=0):
    """Return noise with objects whose boxes are the boxes around their polygons."""
    generator = np.random.default_rng(seed)
    segments = [generator.uniform(5, size - 5, (7, 2)).astype(np.float32) for _ in range(count)]
    labels = [[number, *segment.min(0), *segment.max(0)] for number, segment in enumerate(segments)]
    return scene_of(generator.integers(0, 256, (size, size, 3)).astype(np.uint8), labels, segments)


def assert_boxes_are_those_of_polygons(scene):
    assert len(scene.segments) == len(scene.labels)
    for label, segment in zip(scene.labels, scene.segments, strict=True):
        np.testing.assert_allclose(label[1:], [*segment.min(0), *segment.max(0)], atol=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        augment.flip_left_right,
        augment.flip_up_down,
        lambda scene: augment.mixup(scene, outlined(seed=1), 0.5),
        lambda scene: augment.copy_paste(scene, [0, 1, 2]),
        lambda scene: augment.cutout(scene, augment.draw_cutout((60, 60), 3, np.random.default_rng(3))),
    ],
    ids=["left right", "up down", "mixup", "copy-paste", "cutout"],
)
def test_polygons_survive(change):
    scene = outlined()
    before = scene.image.copy(), scene.labels.copy()
    changed = change(scene)
    assert len(changed.labels) > 0
    assert_boxes_are_those_of_polygons(changed)
    np.testing.assert_array_equal(scene.image, before[0])
    np.testing.assert_array_equal(scene.labels, before[1])


def test_mixup_with_a_scene_without_polygons_has_none():
    plain = outlined()
    plain.segments = []
    assert augment.mixup(outlined(), plain, 0.5).segments == []


# --- cutout


def test_cutout_draws_v61_rectangles():
    sizes = {}
    for seed in range(50):
        for cut in augment.draw_cutout((320, 640), 3, np.random.default_rng(seed)):
            left, top, right, bottom = cut.box
            assert 0 <= left <= 640 and right <= 640 and right - left <= 640 * cut.share
            assert 0 <= top <= 320 and bottom <= 320 and bottom - top <= 320 * cut.share
            assert all(64 <= value <= 191 for value in cut.colour) and len(cut.colour) == 3
            sizes[cut.share] = sizes.get(cut.share, 0) + 1
    assert {share: count // 50 for share, count in sizes.items()} == {0.5: 1, 0.25: 2, 0.125: 4, 0.0625: 8, 0.03125: 16}


@pytest.mark.parametrize(
    ("share", "right", "left_over"),
    [(0.5, 16, 1), (0.5, 15, 2), (0.03125, 16, 1), (0.03, 16, 2), (0.03, 30, 2)],
)
def test_cutout_removes_what_it_hides(share, right, left_over):
    """60 % of the first box are hidden from x = 16 on; the smallest cuts never count."""
    scene = scene_of(np.zeros((40, 60, 3), np.uint8), [[1, 10, 10, 20, 20], [2, 40, 10, 50, 20]])
    cut = augment.cutout(scene, [augment.Cut((0, 0, right, 40), (100, 120, 140), share)])
    assert len(cut.labels) == left_over and cut.labels[-1, 0] == 2
    assert (cut.image[:, :right] == (100, 120, 140)).all() and not cut.image[:, right:].any()


# --- any numbers


@settings(max_examples=60, deadline=None)
@given(
    boxes=st.lists(st.tuples(*[st.floats(0, 60, width=32)] * 4), max_size=5),
    strength=st.builds(
        Augmentation,
        degrees=st.floats(0, 180),
        translate=st.floats(0, 0.9),
        scale=st.floats(0, 0.9),
        shear=st.floats(0, 60),
        perspective=st.floats(0, 0.001),
    ),
    seed=st.integers(0, 2**32),
    with_polygons=st.booleans(),
)
def test_boxes_stay_inside_finite_and_of_their_class(boxes, strength, seed, with_polygons):
    corners = np.sort(np.array(boxes, np.float32).reshape(-1, 2, 2), 1)
    labels = np.concatenate([np.arange(len(boxes))[:, None] + 3, corners.reshape(-1, 4)], 1)
    polygons = [np.array([a, [b[0], a[1]], b, [a[0], b[1]]]) for a, b in corners] if with_polygons else []
    scene, generator = scene_of(np.zeros((60, 60, 3), np.uint8), labels, polygons), np.random.default_rng(seed)
    draw = draw_affine(strength, generator)
    scene = warp(scene, affine_matrix(draw, (60, 60), (48, 64)), (48, 64), draw.scale)
    scene = augment.flip_up_down(augment.flip_left_right(scene))
    scene = augment.cutout(scene, augment.draw_cutout(scene.size_hw, 3, generator))
    assert scene.image.shape == (48, 64, 3) and np.isfinite(scene.labels).all()
    assert len(scene.segments) in (0, len(scene.labels))
    assert set(scene.labels[:, 0]) <= set(labels[:, 0].astype(np.float32))
    left, top, right, bottom = scene.labels[:, 1:].T
    assert (0 <= left).all() and (left < right).all() and (right <= 64).all()
    assert (0 <= top).all() and (top < bottom).all() and (bottom <= 48).all()
