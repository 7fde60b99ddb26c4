import itertools

import numpy as np
import pytest

from tests.data.pictures import tile_of
from tests.golden_data import load_golden, meta_of
from utils.data.mosaic import draw_mosaic9_offset, draw_mosaic_centre, mosaic4, mosaic9
from utils.data.scene import GREY
from utils.data.strength import Augmentation
from utils.data.warp import STILL, affine_matrix, draw_affine, warp

SIZE = 64
SIZES_HW = [(64, 48), (40, 64), (64, 64), (30, 64), (64, 20), (50, 64), (64, 33), (64, 64), (12, 64)]


@pytest.fixture(scope="module")
def golden():
    return load_golden("augment.npz")


def smooth_tiles(count, channels=3):
    """Return tiles of slow waves, each of another brightness: resampled twice, they look as if resampled once."""
    tiles = []
    for number, (height, width) in enumerate(SIZES_HW[:count]):
        rows, columns = np.mgrid[:height, :width]
        wave = 20 * np.sin(rows / 12 + number) + 20 * np.cos(columns / 15)
        image = np.repeat((60 + 18 * number + wave).astype(np.uint8)[..., None], channels, 2)
        tiles.append(tile_of(image, [[number, width * 0.2, height * 0.1, width * 0.9, height * 0.7]]))
    return tiles


@pytest.mark.parametrize("number", range(6))
def test_mosaic4_equals_v61(golden, number):
    name, case = f"mosaic{number}", meta_of(golden)["mosaic"][number]
    size, centre_xy = case["img_size"], tuple(case["center_xy"])
    tiles = []
    for tile, size_hw in enumerate(case["sizes_hw"]):
        image_name = f"{name}_im{tile}"
        image = golden[image_name] if image_name in golden.files else np.zeros((*size_hw, 3), np.uint8)
        labels = golden[f"{name}_labels{tile}"].astype(np.float64)
        half, size_xy = labels[:, 3:] / 2, np.array(size_hw[::-1])
        corners = [(labels[:, 1:3] - half) * size_xy, (labels[:, 1:3] + half) * size_xy]
        tiles.append(tile_of(image, np.concatenate([labels[:, :1], *corners], 1)))
    collage = mosaic4(tiles, centre_xy, size)
    for place, expected in zip(collage.places, golden[f"{name}_rects"], strict=True):
        (x, y), visible = place.origin_xy, np.array(place.visible)
        assert [*visible, *(visible - [x, y, x, y]), x, y] == expected.tolist()
    np.testing.assert_allclose(collage.labels, golden[f"{name}_labels_out"], atol=1e-4)
    if f"{name}_out" in golden.files:
        np.testing.assert_array_equal(collage.scene().image, golden[f"{name}_out"])


def test_mosaic_keeps_polygons_on_their_pixels():
    polygon = np.array([[0, 0], [10, 0], [10, 10]], np.float32)
    tiles = [tile_of(np.zeros((20, 20, 3), np.uint8), [[0, 0, 0, 10, 10]], [polygon]) for _ in range(4)]
    joined = mosaic4(tiles, (20, 20), 20)
    for label, segment in zip(joined.labels, joined.segments, strict=True):
        np.testing.assert_allclose(label[1:], [*segment.min(0), *segment.max(0)])


def test_mosaic_drops_polygons_when_some_labels_have_none():
    polygon = np.array([[0, 0], [10, 0], [10, 10]], np.float32)
    image = np.zeros((20, 20, 3), np.uint8)
    with_polygon, without = tile_of(image, [[0, 0, 0, 10, 10]], [polygon]), tile_of(image, [[0, 0, 0, 10, 10]])
    assert mosaic4([with_polygon, without, without, without], (20, 20), 20).segments == []


def test_mosaic_centre_lies_in_the_middle_half():
    generator = np.random.default_rng(0)
    centres = np.array([draw_mosaic_centre(64, generator) for _ in range(200)])
    assert centres.min() >= 32 and centres.max() < 96


# --- nine tiles


@pytest.mark.parametrize("offset_xy", [(0, 0), (63, 17), (30, 30)])
def test_mosaic9_lays_tiles_around_the_first(offset_xy):
    """The rule of the specification, on a canvas of three times the size."""
    tiles, canvas, origins = smooth_tiles(9), np.full((3 * SIZE, 3 * SIZE, 3), GREY, np.uint8), []
    (h0, w0), s = SIZES_HW[0], SIZE
    for number, (h, w) in enumerate(SIZES_HW):
        hp, wp = SIZES_HW[max(number - 1, 0)]
        x, y = {
            0: (s, s),
            1: (s, s - h),
            2: (s + wp, s - h),
            3: (s + w0, s),
            4: (s + w0, s + hp),
            5: (s + w0 - w, s + h0),
            6: (s + w0 - wp - w, s + h0),
            7: (s - w, s + h0 - h),
            8: (s - w, s + h0 - hp - h),
        }[number]
        origins.append((x, y))
        left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, 3 * s), min(y + h, 3 * s)
        if left < right and top < bottom:
            canvas[top:bottom, left:right] = tiles[number].picture()[top - y : bottom - y, left - x : right - x]
    scene = mosaic9(tiles, offset_xy, SIZE).scene()
    left, top = offset_xy
    np.testing.assert_array_equal(scene.image, canvas[top : top + 2 * s, left : left + 2 * s])
    for label, tile, (x, y) in zip(scene.labels, tiles, origins, strict=True):
        moved = tile.labels[0, 1:] + np.array([x - left, y - top] * 2)
        np.testing.assert_allclose(label[1:], moved.clip(0, 2 * s), atol=1e-4)


def test_mosaic9_offset_lies_within_one_size():
    offsets = np.array([draw_mosaic9_offset(64, np.random.default_rng(seed)) for seed in range(200)])
    assert offsets.min() >= 0 and 55 < offsets.max() < 64


# --- drawn straight into the output


STRENGTHS = {
    "still": Augmentation(),
    "zoom and shift": Augmentation(translate=0.2, scale=0.5),
    "rotation and shear": Augmentation(degrees=40, translate=0.1, scale=0.4, shear=10),
    "perspective": Augmentation(degrees=5, translate=0.1, scale=0.2, perspective=0.001),
}


@pytest.mark.parametrize("strength", STRENGTHS.values(), ids=STRENGTHS.keys())
@pytest.mark.parametrize(("count", "channels"), [(4, 3), (9, 3), (4, 1), (4, 6)])
def test_collage_equals_its_canvas_warped(strength, count, channels):
    """Objects exactly; pixels but for the seams, where the canvas way blends neighbours."""
    for seed in range(12):
        generator = np.random.default_rng(seed)
        tiles = smooth_tiles(count, channels)
        if count == 4:
            collage = mosaic4(tiles, draw_mosaic_centre(SIZE, generator), SIZE, channels)
        else:
            collage = mosaic9(tiles, draw_mosaic9_offset(SIZE, generator), SIZE, channels)
        draw = draw_affine(strength, generator)
        matrix = affine_matrix(draw, (2 * SIZE, 2 * SIZE), (SIZE, SIZE))
        direct = collage.warp(matrix, (SIZE, SIZE), draw.scale)
        canvas = warp(collage.scene(), matrix, (SIZE, SIZE), draw.scale)
        np.testing.assert_array_equal(direct.labels, canvas.labels)
        assert direct.image.shape == canvas.image.shape == (SIZE, SIZE, channels)
        different = (np.abs(direct.image.astype(int) - canvas.image) > 3).mean()
        assert different < 0.08, f"seed {seed}: {different:.1%} of the pixels"


def test_neighbours_leave_no_gap_and_do_not_overlap():
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    for seed, strength in itertools.product(range(20), (STRENGTHS["zoom and shift"], STRENGTHS["rotation and shear"])):
        generator = np.random.default_rng(seed)
        draw = draw_affine(strength, generator)._replace(translate_x=0.5, translate_y=0.5, scale=1.3)
        matrix = affine_matrix(draw, (2 * SIZE, 2 * SIZE), (SIZE // 2, SIZE // 2))
        collage = mosaic4([tile_of(white)] * 4, (SIZE + seed % 5, SIZE - seed % 7), SIZE)
        assert (collage.warp(matrix, (SIZE // 2, SIZE // 2), 1.3).image == 255).all()


def test_tiles_that_do_not_show_are_not_decoded():
    shown = []

    def tile(number):
        image = np.full((SIZE, SIZE, 3), number, np.uint8)
        plain = tile_of(image)
        return type(plain)(plain.size_hw, plain.labels, plain.segments, lambda: shown.append(number) or image)

    collage = mosaic4([tile(number) for number in range(4)], (32, 32), SIZE)
    matrix = affine_matrix(STILL._replace(scale=2.0), (2 * SIZE, 2 * SIZE), (SIZE, SIZE))
    collage.warp(matrix, (SIZE, SIZE), 2.0)
    assert shown == [3]
