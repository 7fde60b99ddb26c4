import numpy as np
import pytest
import torch

from utils.eval.draw import PALETTE, class_colour, default_line_width, draw_detections, plot_batch, plot_targets


def test_palette_has_twenty_distinct_colours_and_repeats():
    assert len(set(PALETTE)) == 20
    assert class_colour(23) == class_colour(3)


@pytest.mark.parametrize(("shape", "width"), [((1080, 810, 3), 3), ((64, 64, 3), 2), ((4000, 6000, 3), 15)])
def test_line_width_grows_with_the_image(shape, width):
    assert default_line_width(np.empty(shape, np.uint8)) == width


def test_box_is_drawn_on_a_copy():
    image = np.zeros((100, 120, 3), np.uint8)
    drawn = draw_detections(image, np.array([[20.2, 30.4, 80.0, 90.0]]), [""], [(10, 200, 30)], line_width=1)
    assert not image.any()
    assert drawn[30, 50].tolist() == drawn[60, 20].tolist() == drawn[60, 80].tolist() == [10, 200, 30]
    assert not drawn[60, 50].any()


@pytest.mark.parametrize("text", ["bus 0.91", "Fußgänger", "пешеход", "x" * 200])
@pytest.mark.parametrize("box", [[40, 40, 90, 90], [-9, -9, 20, 20], [110, 95, 300, 300], [0, 0, 0, 0], [500] * 4])
def test_any_label_fits_anywhere(text, box):
    image = np.zeros((100, 120, 3), np.uint8)
    drawn = draw_detections(image, np.array([box]), [text], [(200, 40, 40)])
    assert drawn.shape == image.shape
    assert drawn.any() or box[0] >= 500


def test_nothing_to_draw_leaves_the_image():
    image = np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    assert np.array_equal(draw_detections(image, np.zeros((0, 4)), [], []), image)


@pytest.mark.parametrize(("pixel", "shown"), [([70], [70] * 3), ([70, 80, 90, 100], [90, 80, 70])])
def test_images_of_other_channels_are_drawn_as_bgr(pixel, shown):
    image = np.full((60, 80, len(pixel)), pixel, np.uint8)
    drawn = draw_detections(image, np.array([[20, 20, 40, 40]]), [""], [(10, 200, 30)], line_width=1)
    assert drawn.shape == (60, 80, 3) and (image == pixel).all()
    assert drawn[5, 5].tolist() == shown and drawn[30, 20].tolist() == [10, 200, 30]
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    grid = plot_targets(images, torch.tensor([[0, 3, 0.5, 0.5, 0.5, 0.5]]))
    assert grid[5, 5].tolist() == shown and grid[30, 20].tolist() == list(class_colour(3))


@pytest.mark.parametrize(
    ("count", "input_hw", "shape"),
    [(1, (64, 96), (64, 96)), (2, (64, 96), (128, 192)), (5, (64, 96), (192, 288)), (40, (640, 320), (1920, 960))],
)
def test_grid_shape(count, input_hw, shape):
    images = torch.zeros(count, 3, *input_hw, dtype=torch.uint8)
    assert plot_batch(images, [torch.zeros(0, 6)] * count).shape == (*shape, 3)


def test_grid_is_filled_by_columns_and_is_bgr():
    images = torch.zeros(3, 3, 32, 48, dtype=torch.uint8)
    images[1, 0] = 200  # red
    grid = plot_batch(images, [torch.zeros(0, 6)] * 3)
    assert grid[48, 24].tolist() == [0, 0, 200], "second image lies below the first"
    assert grid[48, 72].tolist() == [255, 255, 255], "the fourth place is empty"


def test_targets_are_drawn_where_they_are():
    targets = torch.tensor([[0, 3, 0.5, 0.5, 0.5, 0.5]])
    grid = plot_targets(torch.zeros(1, 3, 200, 200, dtype=torch.uint8), targets, None, ["folder/name.jpg"])
    assert grid[149, 100].tolist() == list(class_colour(3))
    assert grid[100, 49].tolist() == list(class_colour(3))
    assert grid[190, 5].any(), "the file name is shown at the bottom"
