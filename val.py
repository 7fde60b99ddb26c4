"""Measure a model on a data set: ``python val.py --weights W --data D.yaml``."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.eval.options import ValOptions, check_combinations
from utils.options import describe_options, make_options, run_command

if TYPE_CHECKING:
    import torch

    from utils.eval.evaluate import Evaluation
    from utils.eval.job import Subject


def main(options: ValOptions) -> "Evaluation | list[Evaluation]":
    """Measure, print the table and write pictures and page; several models for ``--compare`` and ``--task study``."""
    from models.formats import check_weights
    from models.plugins import load_plugins
    from utils.data.config import load_dataset_config
    from utils.data.splits import load_samples
    from utils.device import describe_device, select_device
    from utils.eval.job import Job
    from utils.log import LOGGER, set_up_logging

    set_up_logging()
    LOGGER.info(describe_options("val", options))
    check_combinations(options)
    load_plugins(options.plugins)
    device = select_device(options.device)
    LOGGER.info(f"YOLOv5-NAM {describe_device(device)}")
    for file in filter(None, options.weights):
        check_weights(Path(file))  # not after hours of fetching data
    config = load_dataset_config(options.data, (options.split,))
    subjects = load_subjects(options, device, config.names)
    config = config.as_single_class() if options.single_cls else config
    job = Job(options, config, load_samples(config, options.split), device)
    subjects = [job.suited(subject) for subject in subjects]
    if options.task == "study":
        return job.study(subjects)
    if options.compare:
        return job.compare(subjects)
    return job.measure(subjects[0])


def load_subjects(options: ValOptions, device: "torch.device", names: Mapping[int, str]) -> "list[Subject]":
    """Load the models: each file one for ``--compare`` and ``--task study``, else all files one ensemble.

    Args:
        options: of the command line.
        device: where networks run.
        names: of the classes, for files that have none.
    """
    from models.formats import load_backend
    from models.formats.backend import predict_by_rows
    from utils.device import use_half
    from utils.eval.job import Subject
    from utils.weights import newest_weights

    half = use_half(options.half or (options.task == "speed" and device.type == "cuda"), device)
    weights = list(filter(None, options.weights)) or [str(newest_weights())]
    groups = [[file] for file in weights] if options.compare or options.task == "study" else [weights]
    subjects = []
    for group in groups:
        backend = load_backend(group, device, half, options.augment, options.dnn, names, pixels=options.as_detect)
        predict = predict_by_rows(backend.find_rows, options.conf_thres) if options.as_detect else backend
        subjects.append(Subject(group, predict, backend.meta))
    return subjects


def run(**options: Any) -> "Evaluation | list[Evaluation]":
    """Measure from Python, with the names of the command-line options: ``run(data="coco128.yaml", imgsz=320)``."""
    return main(make_options(ValOptions, options))


if __name__ == "__main__":
    run_command("val.py", ValOptions, main, __doc__)
