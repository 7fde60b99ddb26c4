"""The screen, by a stand-in for mss: tests have no display."""

import sys
from types import ModuleType

import numpy as np
import pytest

from utils.data.sources import load_source
from utils.errors import UserError

MONITORS = [
    {"left": 0, "top": 0, "width": 300, "height": 100},
    {"left": 0, "top": 0, "width": 100, "height": 100},
    {"left": 100, "top": 0, "width": 200, "height": 80},
]


@pytest.fixture
def screens(monkeypatch):
    """Two screens side by side; give the areas that were looked at."""
    seen = []

    class Screens:
        monitors = MONITORS

        def __enter__(self):
            return self

        def __exit__(self, *_):
            seen.append("closed")

        def grab(self, area):
            if area["width"] > 300:
                raise RuntimeError("XGetImage failed\nwith details")
            seen.append(area)
            return np.full((area["height"], area["width"], 4), 7, np.uint8)

    module = ModuleType("mss")
    module.mss = Screens
    monkeypatch.setitem(sys.modules, "mss", module)
    return seen


@pytest.mark.parametrize(
    ("source", "area"),
    [
        ("screen", MONITORS[1]),
        ("screen 0", MONITORS[0]),
        ("Screen 2", MONITORS[2]),
        ("screen 5 6 20 10", {"left": 5, "top": 6, "width": 20, "height": 10}),
        ("screen 2 5 6 20 10", {"left": 105, "top": 6, "width": 20, "height": 10}),
    ],
)
def test_pictures_of_an_area(screens, source, area):
    frames = iter(load_source(source))
    first, second = next(frames), next(frames)
    frames.close()
    assert screens == [area, area, "closed"]
    assert first.image.shape == (area["height"], area["width"], 3) and first.clip.live
    assert (first.index, second.index, second.clip.frame) == (0, 1, 2) and first.name != second.name


def test_each_picture_is_taken_when_asked_for_until_closed(screens):
    source = load_source("screen")
    source.channels = 1
    frames = iter(source)
    assert next(frames).image.shape == (100, 100, 1) and len(screens) == 1
    source.close()
    assert list(frames) == [] and screens[-1] == "closed" and (source.live, len(source)) == (True, 0)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("screen 3", "there are 2, numbered from 1; 0 is all"),
        ("screen 0 0 999 9", r"no picture of .*XGetImage failed\)$"),
    ],
)
def test_screens_that_are_not_there(screens, source, message):
    with pytest.raises(UserError, match=message):
        list(load_source(source))


def test_without_mss_or_display(screens, monkeypatch):
    def no_display():
        raise OSError("Cannot connect to display")

    monkeypatch.setattr(sys.modules["mss"], "mss", no_display)
    with pytest.raises(UserError, match=r"there is no display to look at \(Cannot connect to display\)"):
        list(load_source("screen"))
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(UserError, match="needs the package mss; pip install mss"):
        list(load_source("screen"))
