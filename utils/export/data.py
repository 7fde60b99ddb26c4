"""What the data set of ``--data`` is good for in an export: INT8 is fitted to it, and the mAP compared on it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utils.data.config import DatasetConfig, load_dataset_config
from utils.data.samples import Samples
from utils.data.splits import load_samples
from utils.errors import UserError
from utils.eval.class_mapping import check_classes
from utils.export.images import calibration, images_of_split, images_to_compare
from utils.export.options import ExportOptions

if TYPE_CHECKING:
    from models.formats import Format

MOST_COMPARED = 16  # images on which single predictions are compared


@dataclass(frozen=True)
class ExportData:
    """The data set of an export; all None and empty where none is named.

    Attributes:
        config: the data set. samples: images and labels of its val split. to_fit: images of its train split, for INT8.
    """

    config: DatasetConfig | None = None
    samples: Samples | None = None
    to_fit: Sequence[Path] = ()

    def check(self, names: Mapping[int, str], channels: int) -> None:
        """See that a model goes with the data set.

        Raises:
            UserError: its classes or channels are others.
        """
        if self.config is None:
            return
        if channels != self.config.channels:
            raise UserError(
                f"the model takes images of {channels} channels, but {self.config.file} says ch: "
                f"{self.config.channels}; name the data set it was trained on with --data"
            )
        check_classes(names, self.config.names, self.config.file)

    def images_to_compare(self, channels: int) -> list[np.ndarray]:
        """Return (h, w, C) uint8 images of the val split, or others where no data set is named."""
        paths = images_of_split(self.config, "val", MOST_COMPARED) if self.config else []
        return images_to_compare(paths, channels)

    def calibration(self, size_hw: tuple[int, int], channels: int) -> Callable[[], Iterator[np.ndarray]] | None:
        """Return what gives the images to fit INT8 to, see settings.Calibration; None if there are none."""
        return calibration(self.to_fit, size_hw, channels) if self.to_fit else None


def load_data(options: ExportOptions, rows: "Sequence[Format]") -> ExportData:
    """Read the data set of ``--data``, as far as it is needed for the formats ``rows``."""
    if not options.data:
        return ExportData()
    int8 = any((options.int8 and "int8" in row.options) or "int8" in row.implied for row in rows)
    config = load_dataset_config(options.data, ("train", "val") if int8 else ("val",))
    to_fit = images_of_split(config, "train", options.calibration_images) if int8 else []
    return ExportData(config, load_samples(config, "val"), to_fit)
