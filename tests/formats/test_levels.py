"""Boxes decoded one by one, against the table of all boxes."""

import numpy as np
import pytest
import torch

from models.formats import load_backend
from models.formats.backend import likely_rows
from models.formats.facts import tidy
from models.formats.graph import LevelGraph
from models.formats.levels import Level, rows_of_levels
from tests.formats.runtimes import CPU
from tests.models.recipes import random_images


@pytest.fixture(scope="module")
def outputs(tiny_weights):
    """Return cells, objectness, levels and table of a network for two images of 64 x 96 px."""
    model = load_backend([tiny_weights], CPU).model
    decoded = model(random_images(0, 2, 64, 96))[0]
    strides, anchors = model.detect.strides, model.detect.anchors_px.numpy()
    with torch.inference_mode():
        table, *rest = (output.numpy() for output in LevelGraph(model)(random_images(0, 2, 64, 96)))
    np.testing.assert_allclose(table, decoded.detach(), rtol=1e-5, atol=1e-4)
    cells, objectness, weights, biases = (rest[start::4] for start in range(4))
    return cells, objectness, list(map(Level, strides, anchors, weights, biases)), table


@pytest.mark.parametrize(("least", "some", "each"), [(0, True, True), ("between", True, False), (1, False, False)])
def test_likely_boxes_are_those_of_the_table_in_its_order(outputs, least, some, each):
    cells, objectness, levels, table = outputs
    if least == "between":  # two scores that rounding does not swap
        ordered = np.sort(table[..., 4].ravel())
        gap = np.diff(ordered).argmax()
        least = float(ordered[gap : gap + 2].mean())
    found, wanted = rows_of_levels(cells, objectness, levels, least), likely_rows(table, least)
    count = sum(map(len, wanted))
    assert (count > 0) == some and (count == table[..., 4].size) == each
    for rows, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-4)


def test_what_is_no_number_is_among_them(outputs):
    cells, objectness, levels, _ = outputs
    broken = [one.copy() for one in objectness]
    broken[1][1, 2, 3, 2] = np.nan
    spoilt = [one.copy() for one in cells]
    spoilt[1][1, 2 * broken[1].shape[2] + 3] = np.nan
    first, second = rows_of_levels(spoilt, broken, levels, 1.0)
    assert not len(first) and len(second) == 1 and np.isnan(second[0, 4])


@pytest.mark.parametrize(
    "facts",
    [
        {"strides": [8.0]},
        {"strides": "8", "anchors": "9"},
        {"strides": [8.0], "anchors": [[[1, 2], [3]]]},
        {"strides": [0], "anchors": [[[1, 2]]]},
        {"strides": [8.0], "anchors": [[["a", "b"]]]},
        {"strides": [8.0], "anchors": [[[10**400, 1]]]},
        {"strides": [8.0, 16.0], "anchors": [[[1, 2]]]},
    ],
)
def test_facts_that_make_no_levels_are_refused(facts):
    with pytest.raises(ValueError, match="strides and anchors"):
        tidy(facts)
