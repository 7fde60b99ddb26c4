"""A split of a data set: its images and labels found and checked, and what is wrong with them said."""

from utils.data.cache import cached_scan
from utils.data.config import DatasetConfig
from utils.data.listing import label_path, list_images
from utils.data.samples import Samples
from utils.errors import UserError
from utils.log import LOGGER

WARNINGS_SHOWN = 20
UNUSABLE_SHARE = 0.05  # of the images of a split; more of them are worth a line of their own


def load_samples(config: DatasetConfig, split: str) -> Samples:
    """Find and check the images and labels of a split; log a one-line summary and what is wrong.

    Args:
        config: the data set; its ``single_class`` turns all classes into 0.
        split: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        UserError: the split is absent, empty or all corrupt, a training split has no labels, or a class is not below
            ``config.nc``.
    """
    if split not in config.splits:
        raise UserError(f"{config.file} has no '{split}' split; it has {', '.join(config.splits)}")
    entries = config.splits[split]
    where = ", ".join(f"'{entry}'" for entry in entries)
    images = list_images(entries)
    if not images:
        raise UserError(f"{config.file}: split '{split}' has no images in {where}")
    scan, recalled = cached_scan(images, entries, f"{split}: scanning {where}")
    for warning in scan.warnings[:WARNINGS_SHOWN]:
        LOGGER.warning(f"{split}: WARNING: {warning}")
    if len(scan.warnings) > WARNINGS_SHOWN:
        rest = len(scan.warnings) - WARNINGS_SHOWN
        LOGGER.warning(f"{split}: WARNING: and {rest} more; python -m utils.data.doctor '{config.file}' lists them")
    if scan.corrupt > UNUSABLE_SHARE * len(images):
        LOGGER.warning(f"{split}: WARNING: only {len(scan.samples)} of {len(images)} images can be used")
    LOGGER.info(f"{split}: {len(images)} images, labels {scan.summary()} in {where}{' (cached)' if recalled else ''}")
    if not scan.samples:
        raise UserError(
            f"{config.file}: split '{split}': all {len(images)} images in {where} are unusable, "
            f"first: {scan.warnings[0]}"
        )
    if not len(scan.samples.labels):
        message = f"split '{split}' has no labels for its images in {where}; expected them at '{label_path(images[0])}'"
        if split == "train":
            raise UserError(f"{config.file}: {message}")
        LOGGER.warning(f"{split}: WARNING: {message}")
    if config.single_class:
        return scan.samples.with_class_zero()
    _check_classes(scan.samples, config)
    return scan.samples


def _check_classes(samples: Samples, config: DatasetConfig) -> None:
    found = samples.first_class_beyond(config.nc)
    if found is None:
        return
    index, number = found
    file = label_path(samples.image(index))
    lines = file.read_text(encoding="utf-8-sig").splitlines()
    beyond = (line for line, text in enumerate(lines, 1) if text.strip() and float(text.split()[0]) >= config.nc)
    raise UserError(
        f"{file}:{next(beyond, 0)}: class {number:g}, but {config.file} has {config.nc} classes "
        f"(0 to {config.nc - 1}); correct the label or add the class to 'names'"
    )
