"""Boxes decoded one by one, against the table of all boxes."""

import numpy as np
import pytest
import torch

from models.formats import load_backend
from models.formats.backend import likely_rows
from models.formats.facts import facts_of, tidy
from models.formats.graph import LevelGraph
from models.formats.levels import decode_likely, levels_of
from models.formats.settings import ExportSettings
from tests.formats.runtimes import CPU
from tests.models.recipes import random_images


@pytest.fixture(scope="module")
def outputs(tiny_weights):
    """Return levels, logits and table of a network for two images of 64 x 96 px."""
    model = load_backend([tiny_weights], CPU).model
    levels = levels_of(facts_of(model, ExportSettings(), tiny_weights))
    images = random_images(0, 2, 64, 96)
    with torch.inference_mode():
        decoded = model(images)[0]
        table, *logits = LevelGraph(model)(images)
    torch.testing.assert_close(table, decoded, rtol=1e-5, atol=1e-4)
    return levels, [one.numpy() for one in logits], table.numpy()


@pytest.mark.parametrize(
    ("least", "some", "all_of_them"), [(0, True, True), ("between", True, False), (1, False, False)]
)
def test_likely_boxes_are_those_of_the_table_in_its_order(outputs, least, some, all_of_them):
    levels, logits, table = outputs
    if least == "between":  # two scores that rounding does not swap
        ordered = np.sort(table[..., 4].ravel())
        gap = np.diff(ordered).argmax()
        least = float(ordered[gap : gap + 2].mean())
    found, wanted = decode_likely(logits, levels, (64, 96), least), likely_rows(table, least)
    count = sum(map(len, wanted))
    assert (count > 0) == some and (count == table[..., 4].size) == all_of_them
    for rows, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-4)


def test_what_is_no_number_is_among_them(outputs):
    levels, logits, _ = outputs
    broken = [one.copy() for one in logits]
    broken[1][1, 3, 4] = np.nan
    first, second = decode_likely(broken, levels, (64, 96), 1.0)
    assert not len(first) and len(second) == 1 and np.isnan(second[0, 4])


@pytest.mark.parametrize(
    "facts",
    [
        {"strides": [8.0]},
        {"strides": "8", "anchors": "9"},
        {"strides": [8.0], "anchors": [[[1, 2], [3]]]},
        {"strides": [0], "anchors": [[[1, 2]]]},
        {"strides": [8.0], "anchors": [[["a", "b"]]]},
        {"strides": [8.0, 16.0], "anchors": [[[1, 2]]]},
    ],
)
def test_facts_that_make_no_levels_are_refused(facts):
    with pytest.raises(ValueError, match="strides and anchors"):
        tidy(facts)


def test_files_that_do_not_tell_have_no_levels():
    assert levels_of(tidy({"stride": 32})) == []
