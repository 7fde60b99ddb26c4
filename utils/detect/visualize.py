"""What a network sees: pictures of its feature maps, and of what its gates let through."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor, nn

from utils.channels import displayable
from utils.data.letterbox import fit_letterbox
from utils.data.sources import Frame
from utils.detect.detector import Detections
from utils.eval.draw import save_picture
from utils.eval.plots import INK, save_figure
from utils.files import atomic_write

CHANNELS, COLUMNS = 32, 8  # of a picture of feature maps (v6.1)
TILE, GAP = 160, 4  # px; longer side of one channel, space around it
LEAST_SPAN = 0.01  # of a colour scale, so that noise does not look like structure


@dataclass(frozen=True)
class Gate:
    """What a layer with its input's shape did to one map, measured on sizes: Σ|out| / Σ|in|, 1 where nothing changes.

    Attributes:
        channels: (C,) over the pixels of each channel.
        pixels: (h, w) over the channels of each pixel.
    """

    channels: np.ndarray
    pixels: np.ndarray


def measure_gate(before: Tensor, after: Tensor) -> Gate:
    """Compare the (C, h, w) input and output of a gate. Where the input is all zero, the weight is 0."""
    sizes = torch.stack((before, after)).float().abs()  # (2, C, h, w)

    def ratio(sums: Tensor) -> np.ndarray:
        return (sums[1] / sums[0].clamp(min=torch.finfo(sums.dtype).tiny)).cpu().numpy()

    return Gate(ratio(sizes.sum((2, 3))), ratio(sizes.sum(1)))


@dataclass
class RowWatch:
    """Sees what the rows of a network give while used as a context manager, and keeps it until the next image.

    Watching costs a copy of each map, which counts as inference time.

    Attributes:
        rows: modules with v6.1's attributes ``i``, the row's index, and ``type``, its name in the model YAML.
        gates: indices of the rows that are measured as gates.
        maps: (C, h, w) float32 outputs by stage name such as ``stage3_Conv``; only those with more than one row and
            column of pixels.
        measured: the gates, by stage name.
        input_hw: size of the network's input, px.
    """

    rows: Iterable[nn.Module]
    gates: Collection[int]
    maps: dict[str, np.ndarray] = field(default_factory=dict, init=False)
    measured: dict[str, Gate] = field(default_factory=dict, init=False)
    input_hw: tuple[int, int] = field(default=(0, 0), init=False)

    def __enter__(self) -> "RowWatch":
        self._handles = [row.register_forward_hook(self._see) for row in self.rows]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _see(self, row: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if row.i == 0:  # of the next image
            self.maps.clear()
            self.measured.clear()
            self.input_hw = tuple(inputs[0].shape[2:])
        if not isinstance(output, Tensor) or min(output.shape[2:], default=0) <= 1:
            return
        stage = f"stage{row.i}_{row.type.split('.')[-1]}"
        self.maps[stage] = output[0].float().cpu().contiguous().clone().numpy()  # a later row may work in place
        if row.i in self.gates:
            self.measured[stage] = measure_gate(inputs[0][0], output[0])


@dataclass(frozen=True)
class StageSink:
    """Writes what the network saw into a folder an image.

    ``<stage>_features.png`` shows 32 channels, ``<stage>_features.npy`` holds all, (C, h, w) float32 (v6.1's files);
    ``<stage>_gate.png`` shows what a gate did.

    Attributes:
        folder: the run folder.
        watch: saw the network look at the image that is written, last of all.
    """

    folder: Path
    watch: RowWatch
    in_order = True

    def close(self) -> None:
        """Do nothing: each file is complete when it is written."""

    def write(self, frame: Frame, detections: Detections) -> None:
        """Write the pictures of one image."""
        folder = self.folder / frame.name
        for stage, maps in self.watch.maps.items():
            save_picture(folder / f"{stage}_features.png", feature_grid(maps))
            with atomic_write(folder / f"{stage}_features.npy") as temporary:
                np.save(temporary, maps)
        for stage, gate in self.watch.measured.items():
            save_figure(draw_gate(gate, stage, frame.image, self.watch.input_hw), folder / f"{stage}_gate.png", 150)


def feature_grid(maps: np.ndarray) -> np.ndarray:
    """Return the first 32 channels of (C, h, w) ``maps`` side by side, each over its own range, as a BGR picture.

    Small maps are enlarged to tiles of 160 px whose pixels can be seen, large ones averaged down to that.
    """
    shown = torch.from_numpy(maps[:CHANNELS])
    scale = TILE / max(shown.shape[1:])
    size_hw = [max(round(side * scale), 1) for side in shown.shape[1:]]
    tiles = F.interpolate(shown[None], size_hw, mode="area" if scale < 1 else "nearest")[0]  # (n, H, W)
    low, high = tiles.amin((1, 2), keepdim=True), tiles.amax((1, 2), keepdim=True)
    levels = ((tiles - low) / (high - low).clamp(min=torch.finfo(tiles.dtype).tiny) * 255).byte().numpy()
    coloured = cv2.applyColorMap(levels.reshape(-1, size_hw[1]), cv2.COLORMAP_VIRIDIS).reshape(*levels.shape, 3)
    empty = -len(coloured) % COLUMNS
    framed = np.pad(coloured, ((0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    framed = np.pad(framed, ((0, empty), (0, 0), (0, 0), (0, 0)), constant_values=255)
    count, height, width, _ = framed.shape
    grid = framed.reshape(count // COLUMNS, COLUMNS, height, width, 3).swapaxes(1, 2)  # (row, y, column, x, BGR)
    grid = grid.reshape(count // COLUMNS * height, COLUMNS * width, 3)
    return np.pad(grid, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=255)


def draw_gate(gate: Gate, stage: str, image: np.ndarray, input_hw: tuple[int, int]) -> Figure:
    """Draw the weight of each channel, and those of the pixels over the (H, W, C) image that the network saw."""
    width = min(max(4.2 * image.shape[1] / image.shape[0], 2), 9) + 0.8  # inches for picture and colour bar
    figure = Figure(figsize=(7 + width, 4.8), layout="constrained")
    bars, picture = figure.subplots(1, 2, width_ratios=(7, width))
    count = len(gate.channels)
    bars.stairs(gate.channels, np.arange(count + 1) - 0.5, fill=True, color=INK)
    bars.axhline(gate.channels.mean(), color="#f58231", linestyle=":", linewidth=2)
    bars.set(xlim=(-0.5, count - 0.5), xlabel="channel", ylabel="Σ|out| / Σ|in|")
    bars.set_title(f"{count} channel weights, mean {gate.channels.mean():.3f}")
    bars.grid(axis="y", color="0.92")
    bars.set_axisbelow(True)
    bars.spines[["top", "right"]].set_visible(False)
    _draw_heat(picture, spread_over_image(gate.pixels, input_hw, image.shape[:2]), image)
    picture.set_title(f"pixel weights, mean {gate.pixels.mean():.3f}")
    figure.suptitle(stage.replace("_", " "), fontweight="bold")
    return figure


def _draw_heat(axes: Axes, heat: np.ndarray, image: np.ndarray) -> None:
    middle, span = (heat.max() + heat.min()) / 2, max(heat.max() - heat.min(), LEAST_SPAN)
    norm = Normalize(middle - span / 2, middle + span / 2)
    axes.imshow(cv2.cvtColor(displayable(image), cv2.COLOR_BGR2GRAY), cmap="gray", vmin=0, vmax=255)
    axes.imshow(heat, cmap="turbo", norm=norm, alpha=0.55)
    axes.set_axis_off()
    bar = axes.figure.colorbar(ScalarMappable(norm, "turbo"), ax=axes, fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]


def spread_over_image(pixels: np.ndarray, input_hw: tuple[int, int], image_hw: tuple[int, int]) -> np.ndarray:
    """Return an (h, w) map of the network's padded input as (H, W) values for the pixels of the image."""
    fit = fit_letterbox(image_hw, input_hw)
    padded = cv2.resize(pixels, input_hw[::-1], interpolation=cv2.INTER_LINEAR)
    inside = padded[fit.top : input_hw[0] - fit.bottom, fit.left : input_hw[1] - fit.right]
    return cv2.resize(inside, image_hw[::-1], interpolation=cv2.INTER_LINEAR)
