"""What training tells about NAM's scales."""

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from utils.eval.plots import save_results_plot
from utils.eval.scale_plot import save_scale_plot
from utils.hooks.csv_file import COLUMNS
from utils.hooks.scales import ScaleFigures
from utils.log import LOGGER

GAMMA, LAMBDA = "model.24.Channel_Att.bn2.weight", "model.24.Spatial_Att.norm.weight"
NAMES = (*COLUMNS, "train/nam_loss", "nam/below_0.01")


def write_results(folder, epochs=3):
    rows = [",".join(f"{epoch + column:20.5g}" for column in range(len(NAMES))) for epoch in range(epochs)]
    (folder / "results.csv").write_text("\n".join([",".join(f"{name:>20}" for name in NAMES), *rows]) + "\n")


def scales_of(*values):
    return {GAMMA: nn.Parameter(torch.tensor(values))}


def size_of(path):
    height, width, _ = cv2.imread(str(path)).shape
    return width, height


@pytest.mark.parametrize(
    ("values", "share"),
    [((1.0, 1.0), 0.0), ((0.009, -0.009, 0.011, -0.011), 0.5), ((0.0, 0.0), 1.0), ((-5.0, 0.0, 1.0, 2.0), 0.25)],
)
def test_the_share_that_is_switched_off(tmp_path, values, share):
    assert ScaleFigures(tmp_path, scales_of(*values)).share_below() == share


def test_the_line_of_an_epoch(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(LOGGER, "info", lines.append)
    ScaleFigures(tmp_path, scales_of(*[0.0] * 64, *[1.0] * 448)).epoch_end(None)
    assert lines == ["NAM scales below 0.01: 12.5 % of 512"]


def test_the_start_survives_an_interruption(tmp_path):
    scales = scales_of(1.0, 1.0)
    ScaleFigures(tmp_path, scales)
    nn.init.constant_(scales[GAMMA], 0.5)
    ScaleFigures(tmp_path, scales, first_epoch=2)
    with np.load(tmp_path / "nam_start.npz") as start:
        assert {name: start[name].tolist() for name in start} == {GAMMA: [1.0, 1.0]}
    ScaleFigures(tmp_path, scales)  # a new run in an old folder
    with np.load(tmp_path / "nam_start.npz") as start:
        assert start[GAMMA].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("start_known", [True, False])
def test_the_chart_at_the_end(tmp_path, start_known):
    write_results(tmp_path)
    scales = scales_of(1.0, 0.5) | {LAMBDA: nn.Parameter(torch.ones(400))}
    hook = ScaleFigures(tmp_path, scales, first_epoch=0 if start_known else 1)
    hook.epochs_done()
    assert size_of(tmp_path / "nam_scales.png") == (2 * 920, 720)
    assert (tmp_path / "nam_scales.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("layers", "panels"), [(1, (2, 1)), (3, (2, 2)), (5, (3, 2)), (8, (3, 3))])
def test_a_panel_a_layer_and_one_for_the_share(tmp_path, layers, panels):
    write_results(tmp_path)
    values = {f"model.{row}.gate.0.weight": np.linspace(-1, 1, 9) for row in range(layers)}
    save_scale_plot(values, values, tmp_path / "results.csv", "nam/below_0.01", tmp_path / "a.png")
    width, height = size_of(tmp_path / "a.png")
    assert (width / 920, height / 720) == panels


def test_results_png_draws_the_columns_of_v61_only(tmp_path):
    write_results(tmp_path)
    assert size_of(save_results_plot(tmp_path / "results.csv")) == (2400, 1200)
