"""detect.py --visualize: feature maps and gates as pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

import detect
from models.formats.facts import facts_of
from models.formats.settings import ExportSettings
from models.formats.torchscript import export, write_facts
from models.yolo import Model
from utils.detect.visualize import GAP, TILE, Gate, RowWatch, draw_gate, feature_grid, measure_gate, spread_over_image
from utils.errors import UserError
from utils.eval.plots import save_figure

STAGES = (
    *("stage0_Conv", "stage1_Conv", "stage2_C3", "stage3_Conv", "stage4_C3", "stage5_Conv", "stage6_C3"),
    *("stage7_Conv", "stage8_C3", "stage9_SPPF", "stage10_Conv", "stage11_Upsample", "stage12_Concat", "stage13_C3"),
    *("stage14_Conv", "stage15_Upsample", "stage16_Concat", "stage17_C3", "stage18_Conv", "stage19_Concat"),
    *("stage20_C3", "stage21_Conv", "stage22_Concat", "stage23_C3"),
)


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "two squares.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (48, 100, 3), np.uint8))
    return path


def run(weights, source: Path, project: Path, **options) -> Path:
    options = {"imgsz": 128, "visualize": True, **options}
    return detect.run(weights=str(weights), source=str(source), project=str(project), device="cpu", **options)


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)).replace("\\", "/") for path in folder.rglob("*") if path.is_file()}


def of_stages(stages) -> set[str]:
    return {f"two squares/{stage}_features.{suffix}" for stage in stages for suffix in ("png", "npy")}


def test_a_picture_a_stage(tiny_weights, picture, tmp_path):
    folder = run(tiny_weights, picture, tmp_path)
    assert files_of(folder) == {"two squares.png", *of_stages(STAGES)}
    maps = np.load(folder / "two squares/stage17_C3_features.npy")
    assert maps.shape == (32, 8, 16) and maps.dtype == np.float32 and maps.std() > 0
    grid = cv2.imread(str(folder / "two squares/stage17_C3_features.png"))
    assert grid.shape == (GAP + 4 * (TILE // 2 + GAP), GAP + 8 * (TILE + GAP), 3)


def test_gates_are_drawn_too_and_a_run_without_other_outputs_has_its_folder(tiny_nam_weights, picture, tmp_path):
    folder = run(tiny_nam_weights, picture, tmp_path, nosave=True)
    expected = of_stages([*STAGES, "stage24_NAMAttention"]) | {"two squares/stage24_NAMAttention_gate.png"}
    assert files_of(folder) == expected
    height, width, _ = cv2.imread(str(folder / "two squares/stage24_NAMAttention_gate.png")).shape
    assert height == 720 and width > 1080


def test_maps_of_one_pixel_row_are_left_out(tiny_weights, picture, tmp_path):
    folder = run(tiny_weights, picture, tmp_path, imgsz=[32, 64], nosave=True)
    assert "stage9_SPPF" in STAGES and "two squares/stage9_SPPF_features.png" not in files_of(folder)
    assert "two squares/stage6_C3_features.png" in files_of(folder)


def test_predictions_stay_the_same(tiny_nam_weights, picture, tmp_path):
    options = {"save_txt": True, "save_conf": True, "conf_thres": 0.0, "max_det": 20}
    texts = [
        (run(tiny_nam_weights, picture, tmp_path, visualize=wanted, **options) / "labels/two squares.txt").read_text()
        for wanted in (True, False)
    ]
    assert texts[0] == texts[1] and texts[0]


def test_other_formats_and_ensembles_are_refused_in_one_line(tiny_config, tiny_weights, tmp_path):
    script = tmp_path / "tiny.torchscript"
    settings, model = ExportSettings((64, 64)), Model(tiny_config).eval()
    export(model, script, settings)
    write_facts(script, facts_of(model, settings, tiny_weights))
    (tmp_path / "broken.jpg").write_bytes(b"no image")  # not read before the refusal
    for weights, said in (([str(script)], "tiny.torchscript"), ([str(tiny_weights)] * 2, "got 2 files")):
        with pytest.raises(UserError, match=r"--visualize .*name one \.pt file") as error:
            detect.run(
                weights=weights, source=str(tmp_path), project=str(tmp_path / "runs"), device="cpu", visualize=True
            )
        assert said in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("shape", "rows", "tile_hw"),
    [
        ((3, 4, 4), 1, (160, 160)),
        ((32, 10, 20), 4, (80, 160)),
        ((100, 320, 200), 4, (160, 100)),
        ((9, 2, 3), 2, (107, 160)),
    ],
)
def test_grid_geometry(shape, rows, tile_hw):
    grid = feature_grid(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    height, width = tile_hw
    assert grid.shape == (GAP + rows * (height + GAP), GAP + 8 * (width + GAP), 3) and grid.dtype == np.uint8
    shown = min(shape[0], 32)
    for channel in range(8 * rows):
        top, left = GAP + channel // 8 * (height + GAP), GAP + channel % 8 * (width + GAP)
        tile = grid[top : top + height, left : left + width]
        assert (tile == 255).all() == (channel >= shown)
    assert (grid[:GAP] == 255).all() and (grid[:, -GAP:] == 255).all()


def test_each_channel_has_its_own_range():
    maps = np.zeros((3, 2, 2), np.float32)
    maps[0, 0, 0], maps[1] = 1e-6, [[-500, 0], [0, 500]]  # and a constant one
    grid = feature_grid(maps)
    assert len(np.unique(grid[GAP : GAP + TILE, GAP : GAP + TILE].reshape(-1, 3), axis=0)) == 2
    assert len(np.unique(grid[GAP : GAP + TILE, 2 * GAP + TILE : 2 * (GAP + TILE)].reshape(-1, 3), axis=0)) == 3
    assert len(np.unique(grid[GAP : GAP + TILE, 3 * GAP + 2 * TILE : 3 * (GAP + TILE)].reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_gate_is_measured(dtype):
    weights = torch.tensor([0.5, 2.0, 0.0]).view(3, 1, 1)
    before = torch.randn(3, 40, 50, generator=torch.manual_seed(0)) * 100
    gate = measure_gate(before.to(dtype), (before * weights).to(dtype))
    np.testing.assert_allclose(gate.channels, [0.5, 2.0, 0.0], atol=2e-3)
    expected = (before * weights).abs().sum(0) / before.abs().sum(0)
    np.testing.assert_allclose(gate.pixels, expected.numpy(), atol=2e-3)
    empty = measure_gate(torch.zeros(2, 3, 3), torch.zeros(2, 3, 3))
    assert not empty.channels.any() and not empty.pixels.any()


class Halve(nn.Module):
    i, type = 0, "some.Halve"

    def forward(self, x):
        return x / 2


def test_a_watch_ends_and_forgets_the_image_before():
    row = Halve()
    with RowWatch([row], {0}) as watch:
        row(torch.ones(1, 2, 32, 64))
        assert list(watch.maps) == ["stage0_Halve"] and watch.input_hw == (32, 64)
        np.testing.assert_allclose(watch.measured["stage0_Halve"].channels, [0.5, 0.5])
        row(torch.ones(1, 2, 1, 64))
        assert not watch.maps and not watch.measured
    row(torch.ones(1, 2, 32, 64))
    assert not watch.maps


@pytest.mark.parametrize(
    ("image_hw", "input_hw"),
    [((100, 200), (64, 64)), ((200, 100), (64, 64)), ((90, 160), (64, 96)), ((64, 64), (64, 64))],
)
def test_the_padding_is_cut_away_and_places_stay(image_hw, input_hw):
    scale = min(input_hw[0] / image_hw[0], input_hw[1] / image_hw[1])
    pad_y, pad_x = ((side - scale * own) / 2 for side, own in zip(input_hw, image_hw, strict=True))
    rows, columns = np.mgrid[: input_hw[0], : input_hw[1]].astype(np.float32) + 0.5
    for ramp, pad, axis in ((rows, pad_y, 0), (columns, pad_x, 1)):
        heat = spread_over_image(ramp, input_hw, image_hw)
        assert heat.shape == image_hw
        places = np.arange(image_hw[axis]) + 0.5
        expected = np.broadcast_to((places * scale + pad)[:, None] if axis == 0 else places * scale + pad, image_hw)
        np.testing.assert_allclose(heat, expected, atol=1.0)


@pytest.mark.parametrize(("image_hw", "channels"), [((120, 200), 3), ((200, 120), 3), ((120, 200), 1), ((120, 200), 6)])
def test_the_heat_map_covers_the_picture(tmp_path, image_hw, channels):
    pixels = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    gate = Gate(np.linspace(0, 1, 16), pixels)
    figure = draw_gate(gate, "stage24_NAMAttention", np.full((*image_hw, channels), 128, np.uint8), (64, 64))
    assert figure.get_suptitle() == "stage24 NAMAttention"
    assert f"mean {pixels.mean():.3f}" in figure.axes[1].get_title() and "mean 0.500" in figure.axes[0].get_title()
    save_figure(figure, tmp_path / "gate.png", 150)
    drawn = cv2.imread(str(tmp_path / "gate.png"))
    drawn = drawn[:, round(drawn.shape[1] * figure.axes[1].get_position().x0) - 5 :]  # without the bars
    coloured = (drawn.max(2).astype(int) - drawn.min(2) > 30).astype(np.uint8)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(coloured)
    box = max(boxes[1:], key=lambda one: min(one[2], one[3]))  # the colour bar is narrow
    assert box[2] / box[3] == pytest.approx(image_hw[1] / image_hw[0], rel=0.02)
    assert box[4] > 0.97 * box[2] * box[3]
