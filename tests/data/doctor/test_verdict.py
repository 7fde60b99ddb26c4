"""The one line that training prints."""

from pathlib import Path

import numpy as np
import pytest

from utils.data.config import load_dataset_config
from utils.data.doctor.diagnose import verdict
from utils.data.doctor.split import read_splits
from utils.data.samples import Sample

SHOWN = "python -m utils.data.doctor"


def sample(*classes: float, sides: float = 0.4) -> Sample:
    labels = np.array([[one, 0.5, 0.5, sides - index / 20, sides] for index, one in enumerate(classes)], np.float32)
    return Sample(Path("/set/images/a.jpg"), (480, 640), labels.reshape(-1, 5), [])


CLEAN = [sample(0, 1, 2)]


@pytest.mark.parametrize(
    ("train", "val", "expected"),
    [
        (CLEAN, CLEAN, "data: labels without findings"),
        (CLEAN, [sample(0, 1)], "data: labels without findings"),
        ([sample(0, 1)], [sample(0)], "data: 1 finding (1 class without a box); "),
        ([sample(0, 1)], [sample(2)], "data: 1 finding (1 class without a training box); "),
        ([sample(0, 1, 2), sample(0, sides=0.001)], CLEAN, "data: 1 finding (1 box below 2 px); "),
        (
            [sample(0, 1), sample(0, sides=0.99), sample(0, sides=0.001)],
            [sample(0, sides=0)],
            "data: 4 findings (1 box without area, 1 class without a box, 1 box below 2 px and 1 more); ",
        ),
    ],
)
def test_what_labels_tell(train, val, expected, made):
    line = verdict({"train": train, "val": val}, load_dataset_config(str(made.yaml)), 640)
    assert line.startswith(expected) and "\n" not in line
    assert (SHOWN in line) == (expected[-1] == " ") and "--imgsz" not in line


def test_the_command_it_names_uses_the_image_size_of_the_run(made):
    line = verdict({"train": [sample(0, 1)], "val": CLEAN}, load_dataset_config(str(made.yaml)), 320)
    assert line.endswith(f"{SHOWN} '{made.yaml}' --imgsz 320 shows them")


def test_a_val_split_that_is_train_again_counts_once(made):
    made.configure(val="images/train")
    samples = {"train": [sample(0, 1, 2), sample(0, sides=0.001)]}
    line = verdict(samples | {"val": samples["train"]}, load_dataset_config(str(made.yaml)), 640)
    assert "(1 box below 2 px)" in line


def test_it_reads_no_file(made):
    config = load_dataset_config(str(made.yaml))
    made.write("0 .5 .5 .001 .2\n")
    samples = {split.name: split.samples for split in read_splits(config)[0]}
    (made.root / "labels").rename(made.root / "elsewhere")
    assert "1 box below 2 px" in verdict(samples, config, 128)
