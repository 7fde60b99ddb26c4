import numpy as np

from utils.data.recent import RecentImages, recent_budget


def maker():
    made = []

    def make(index):
        made.append(index)
        return np.full((10, 10, 1), index, np.uint8)

    return made, make


def test_images_used_last_are_kept():
    made, make = maker()
    recent = RecentImages(250)
    for index in (1, 2, 1, 3, 1, 2):  # 3 displaces 2, and 2 then 3
        assert (recent.get(index, make) == index).all()
    assert made == [1, 2, 3, 2]


def test_nothing_is_kept_without_room():
    made, make = maker()
    recent = RecentImages(99)
    assert [recent.get(1, make).max() for _ in range(3)] == [1, 1, 1]
    assert made == [1, 1, 1]


def test_remembered_images_cannot_be_written_to():
    _, make = maker()
    assert not RecentImages(1000).get(1, make).flags.writeable


def test_processes_share_the_budget(monkeypatch):
    monkeypatch.setattr("utils.data.recent.available_memory", lambda: 1_000_000)
    assert recent_budget(4) == recent_budget(1) // 4 == 25_000
    monkeypatch.setattr("utils.data.recent.available_memory", lambda: 10**12)
    assert recent_budget(1) == 1 << 30
