"""The proof that an exported file does what its source does, on real images."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from utils.brightness import BRIGHTEST
from utils.data.loader import make_validation_loader
from utils.data.samples import Samples
from utils.eval.evaluate import EvaluationSettings, evaluate
from utils.export.images import as_input
from utils.export.parity import MARGIN, TOLERANCES, WEAKEST, Parity, Predict, Suppression, compare

MOST_MAP_IMAGES = 500
OBJECTNESS = 4  # column

FindRows = Callable[[np.ndarray, float], list[np.ndarray]]


@dataclasses.dataclass
class Proof:
    """What exported files of one model are compared with.

    Attributes:
        source: the model they come from, see Backend.
        images: (h, w, C) uint8, to compare single predictions on.
        size_hw: of the network's input, px.
        batch_size: images a call.
        names: of the classes, by index.
        device: where the models run.
        samples: labelled images to compare the mAP on, squares of one size only; or None.
    """

    source: Predict
    images: Sequence[np.ndarray]
    size_hw: tuple[int, int]
    batch_size: int
    names: Mapping[int, str]
    device: torch.device
    samples: Samples | None = None
    _source_maps: dict[tuple[EvaluationSettings, int | None], float] = dataclasses.field(
        default_factory=dict, init=False
    )

    def of(
        self, exported: Predict, precision: str, suppression: Suppression | None = None, stride: int | None = None
    ) -> Parity:
        """Compare a file with its source.

        Args:
            exported: the file, loaded.
            precision: a key of TOLERANCES.
            suppression: that inside its graph, or None.
            stride: of the model, if the file takes images of any size; None if of one.
        """
        batches = list(self._batches(stride))
        finished = suppression is not None
        found = compare(self.source, exported, batches, suppression or Suppression(), MARGIN[precision], finished)
        own_rules = suppression is not None and (
            suppression.agnostic or (suppression.most_per_class or suppression.most) < suppression.most
        )
        if self.samples is None or self.size_hw[0] != self.size_hw[1] or own_rules:  # val.py suppresses by other rules
            return found
        samples = self.samples[:MOST_MAP_IMAGES] if len(self.samples) > MOST_MAP_IMAGES else self.samples
        settings = _evaluation(suppression, self.device)
        if (settings, stride) not in self._source_maps:
            self._source_maps[settings, stride] = self._map(samples, self.source, settings, stride)
        return dataclasses.replace(
            found,
            map50_95=self._map(samples, exported, settings, stride),
            map50_95_source=self._source_maps[settings, stride],
            map_images=len(samples),
        )

    def fault_of_rows(self, exported: Predict, find_rows: FindRows, precision: str, stride: int | None) -> str:
        """Say where the rows that detect.py gets of a file are others than in its whole prediction; empty if nowhere.

        Args:
            exported: the file, loaded.
            find_rows: of the same file, see Backend.
            precision: see ``of``. The network is the same both times: what it rounds, it rounds alike, nearly always.
            stride: see ``of``.
        """
        most = TOLERANCES["FP16" if precision == "INT8" else "FP32"]
        for images in self._batches(stride):
            pixels = (images * BRIGHTEST).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
            found = find_rows(pixels.numpy(force=True), 0.0)
            for rows, table in zip(found, exported(images).numpy(force=True), strict=True):
                # Objectness may round to 0, which is no box of a table, but one of a cell that was asked for all.
                wanted = table if len(rows) == len(table) else table[table[:, OBJECTNESS] > 0]
                if rows.shape != wanted.shape:
                    return f"{len(rows)} likely boxes instead of {len(wanted)}"
                certain = wanted[:, OBJECTNESS] > (WEAKEST if precision == "INT8" else 0)
                apart = np.abs(rows - wanted)[certain].max(0, initial=0)
                pixels_apart, scores_apart = apart[:OBJECTNESS].max(), apart[OBJECTNESS:].max()
                if not (pixels_apart <= most.box_px and scores_apart <= most.score):  # NaN is a fault, too
                    return f"likely boxes {pixels_apart:.2g} px and scores {scores_apart:.1g} away"
        return ""

    def _batches(self, stride: int | None) -> Iterator[Tensor]:
        """Yield (B, C, H, W) images, filled batches of one shape, or each in its own."""
        inputs = [torch.from_numpy(as_input(image, self.size_hw, stride)) for image in self.images]
        size = self.batch_size if stride is None else 1
        for start in range(0, len(inputs), size):
            yield torch.cat(inputs[start : start + size]).to(self.device)

    def _map(self, samples: Samples, predict: Predict, settings: EvaluationSettings, stride: int | None) -> float:
        channels = self.images[0].shape[2]
        loader = make_validation_loader(
            samples, self.size_hw[0], self.batch_size, stride, 0, channels=channels, as_detect=True
        )
        forward: Callable[[Tensor], tuple[Tensor, None]] = lambda images: (predict(images), None)  # noqa: E731
        return evaluate(forward, loader, self.names, settings).map50_95


def _evaluation(suppression: Suppression | None, device: torch.device) -> EvaluationSettings:
    """Return how the mAP is measured: as val.py does, or with the thresholds that are inside the graph."""
    if suppression is None:
        return EvaluationSettings(multi_label=False, device=device)
    return EvaluationSettings(
        suppression.confidence, suppression.iou, suppression.most, multi_label=False, device=device
    )
