import numpy as np
import pytest

from tests.golden_data import load_golden, meta_of
from utils.data import augment
from utils.data.augment import AffineDraw, Augmentation, Scene


@pytest.fixture(scope="module")
def golden():
    return load_golden("augment.npz")


def scene_of(image, labels=(), segments=()):
    return Scene(image, np.array(labels, np.float32).reshape(-1, 5), list(segments))


def assert_same_picture(ours, reference):
    """Equal up to one grey level on 99 % of pixels: the reference was made with another OpenCV."""
    assert ours.shape == reference.shape
    difference = np.abs(ours.astype(int) - reference.astype(int))
    assert (difference <= 1).mean() >= 0.99


# --- letterbox


@pytest.mark.parametrize("size_hw", [(1080, 1), (1, 1080), (1, 1)])
def test_letterbox_takes_pictures_one_pixel_wide(size_hw):
    image = np.full((*size_hw, 3), 7, np.uint8)
    padded = augment.letterbox(image, augment.fit_letterbox(size_hw, (64, 64)))
    assert padded.shape == (64, 64, 3) and (padded == 7).any()


def test_letterbox_geometry_equals_v61():
    cases = [case for case in load_golden("letterbox.json")["letterbox"] if not case["scaleFill"]]
    assert len(cases) > 30
    for case in cases:
        shape = case["new_shape"]
        frame_hw = (shape, shape) if isinstance(shape, int) else tuple(shape)
        stride = case["stride"] if case["auto"] else None
        fit = augment.fit_letterbox((case["h"], case["w"]), frame_hw, scale_up=case["scaleup"], stride=stride)
        resized_wh = case["resized_wh"] or (case["w"], case["h"])  # null where nothing was resized
        assert fit.resized_hw == tuple(resized_wh[::-1]), case
        assert fit.ratio == pytest.approx(case["ratio_w"]), case
        assert fit.half_pad_xy == pytest.approx((case["dw"], case["dh"])), case
        assert (fit.resized_hw[0] + fit.top + fit.bottom, fit.resized_hw[1] + fit.left + fit.right) == (
            case["out_h"],
            case["out_w"],
        ), case
        for side in ("top", "bottom", "left", "right"):
            assert getattr(fit, side) == case[side], case


def test_letterbox_pixels_equal_v61(golden):
    for name in ("lb0", "lb1", "lb2"):
        options = meta_of(golden)[name]
        image = golden[f"{name}_im"]
        fit = augment.fit_letterbox(
            image.shape[:2],
            tuple(options["new_shape"]),
            scale_up=options.get("scaleup", True),
            stride=32 if options["auto"] else None,
        )
        assert_same_picture(augment.letterbox(image, fit), golden[f"{name}_out"])


# --- mosaic, mixup, copy-paste


@pytest.mark.parametrize("number", range(6))
def test_mosaic_equals_v61(golden, number):
    name, case = f"mosaic{number}", meta_of(golden)["mosaic"][number]
    size, centre_xy = case["img_size"], tuple(case["center_xy"])
    scenes = []
    for tile, size_hw in enumerate(case["sizes_hw"]):
        dst, src = augment.mosaic_rectangles(tile, tuple(size_hw), centre_xy, 2 * size)
        expected = golden[f"{name}_rects"][tile]
        assert [*dst, *src] == expected[:8].tolist()
        assert [dst[0] - src[0], dst[1] - src[1]] == expected[8:].tolist()
        image_name = f"{name}_im{tile}"
        image = golden[image_name] if image_name in golden.files else np.zeros((*size_hw, 3), np.uint8)
        labels = golden[f"{name}_labels{tile}"].astype(np.float64)
        half, size_xy = labels[:, 3:] / 2, np.array(size_hw[::-1])
        corners = [(labels[:, 1:3] - half) * size_xy, (labels[:, 1:3] + half) * size_xy]
        scenes.append(scene_of(image, np.concatenate([labels[:, :1], *corners], 1)))
    joined = augment.mosaic4(scenes, centre_xy, size)
    np.testing.assert_allclose(joined.labels, golden[f"{name}_labels_out"], atol=1e-4)
    if f"{name}_out" in golden.files:
        np.testing.assert_array_equal(joined.image, golden[f"{name}_out"])


def test_mosaic_keeps_polygons_on_their_pixels():
    polygon = np.array([[0, 0], [10, 0], [10, 10]], np.float32)
    scenes = [scene_of(np.zeros((20, 20, 3), np.uint8), [[0, 0, 0, 10, 10]], [polygon]) for _ in range(4)]
    joined = augment.mosaic4(scenes, (20, 20), 20)
    for label, segment in zip(joined.labels, joined.segments, strict=True):
        np.testing.assert_allclose(label[1:], [*segment.min(0), *segment.max(0)])


def test_mosaic_drops_polygons_when_some_labels_have_none():
    polygon = np.array([[0, 0], [10, 0], [10, 10]], np.float32)
    image = np.zeros((20, 20, 3), np.uint8)
    with_polygon, without = scene_of(image, [[0, 0, 0, 10, 10]], [polygon]), scene_of(image, [[0, 0, 0, 10, 10]])
    assert augment.mosaic4([with_polygon, without, without, without], (20, 20), 20).segments == []


def test_mosaic_centre_lies_in_the_middle_half():
    generator = np.random.default_rng(0)
    centres = np.array([augment.draw_mosaic_centre(64, generator) for _ in range(200)])
    assert centres.min() >= 32 and centres.max() < 96


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


# --- affine


@pytest.mark.parametrize("number", range(9))
def test_affine_equals_v61(golden, number):
    name, case = f"persp{number}", meta_of(golden)["persp"][number]
    image, targets = golden[f"{name}_im"], golden[f"{name}_targets"]
    output_hw = tuple(case["out_hw"])
    draw = AffineDraw(*golden[f"{name}_draws"])
    matrix = augment.affine_matrix(draw, image.shape[:2], output_hw)
    np.testing.assert_allclose(matrix, golden[f"{name}_M"], atol=1e-7)

    segments = [golden[f"{name}_seg{index}"] for index in range(case["n_segments"])]
    if len(targets) and not segments:
        boxes = augment.warp_boxes(targets[:, 1:], matrix, output_hw)
        np.testing.assert_allclose(boxes, golden[f"{name}_boxes_before_filter"], atol=1e-4)
        kept = augment.keep_boxes(targets[:, 1:] * draw.scale, boxes)
        np.testing.assert_array_equal(kept, golden[f"{name}_keep"])
    warped = augment.warp(scene_of(image, targets, segments), matrix, output_hw, draw.scale)
    np.testing.assert_allclose(warped.labels, golden[f"{name}_targets_out"], atol=1e-3)
    assert warped.labels.dtype == np.float32
    assert_same_picture(warped.image, golden[f"{name}_out"])


@pytest.mark.parametrize("number", range(9))
def test_affine_draws_stay_in_v61_ranges(golden, number):
    case = meta_of(golden)["persp"][number]
    strength, generator = Augmentation(**case["hyp"]), np.random.default_rng(0)
    draws = np.array([augment.draw_affine(strength, generator) for _ in range(300)])
    low, high = np.array(case["draw_ranges"]).T
    assert (draws >= low - 1e-12).all() and (draws <= high + 1e-12).all()
    assert (np.ptp(draws, 0) >= 0.9 * (high - low)).all()


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("cand_default", {}),
        ("cand_area0.01", {"min_area_left": 0.01}),
        ("cand_wh5_ar3_area0.5", {"min_side": 5, "max_aspect": 3, "min_area_left": 0.5}),
    ],
)
def test_box_filter_equals_v61(golden, name, limits):
    kept = augment.keep_boxes(golden["cand_box1"], golden["cand_box2"], **limits)
    np.testing.assert_array_equal(kept, golden[name])


# --- colour and flips


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
