"""Channels in the order of networks and in that of people."""

import numpy as np
import pytest

from utils.channels import displayable, swap_red_and_blue


@pytest.mark.parametrize(
    ("pixel", "shown"),
    [([7], [7, 7, 7]), ([7, 8], [7, 7, 7]), ([7, 8, 9], [7, 8, 9]), ([7, 8, 9, 10], [9, 8, 7]), (range(7), [2, 1, 0])],
)
def test_what_can_be_shown_is_bgr(pixel, shown):
    image = np.broadcast_to(np.array(pixel, np.uint8), (2, 5, len(pixel)))
    picture = displayable(image)
    assert picture.shape == (2, 5, 3) and picture.dtype == np.uint8 and (picture == shown).all()


@pytest.mark.parametrize("pixel", [[7], [7, 8], [7, 8, 9], [7, 8, 9, 10]])
def test_only_three_channels_are_swapped(pixel):
    image = np.full((2, 5, len(pixel)), pixel, np.uint8)
    swapped = swap_red_and_blue(image)
    assert (swapped == (pixel[::-1] if len(pixel) == 3 else pixel)).all() and swapped.flags.c_contiguous
    assert np.array_equal(swap_red_and_blue(swapped), image)
