"""What is known of a run before its network is built."""

from dataclasses import dataclass, field, replace

import torch

from utils.data.config import DatasetConfig
from utils.data.samples import Samples
from utils.distributed import Processes
from utils.eval.coco_json import is_coco
from utils.eval.evaluate import EvaluationSettings
from utils.train.hyperparameters import Hyperparameters
from utils.train.options import TrainOptions

COCO_IOU = 0.65  # above which boxes are dropped in the final measurement on COCO


@dataclass(frozen=True)
class Setup:
    """Options, data and place of a run.

    Attributes:
        options: as given; a batch size of -1 is replaced when it is known.
        hyp: as read, before gains are scaled to head and image size.
        config: the data set.
        samples: its images and labels, by split.
        device: where the run takes place.
        processes: those that train together.
    """

    options: TrainOptions
    hyp: Hyperparameters
    config: DatasetConfig
    samples: dict[str, Samples]
    device: torch.device
    processes: Processes = field(default_factory=Processes)

    @property
    def evaluation_settings(self) -> EvaluationSettings:
        """v6.1's thresholds for measuring while and after training."""
        return EvaluationSettings(single_class=self.options.single_cls, device=self.device)

    @property
    def final_settings(self) -> EvaluationSettings:
        """v6.1's thresholds for measuring the best weights: on COCO it suppresses less than while training."""
        settings = self.evaluation_settings
        return replace(settings, iou=COCO_IOU) if is_coco(self.config) else settings
