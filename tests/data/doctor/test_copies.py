"""Copies among fingerprints, against plain loops."""

import numpy as np
import pytest

from utils.data.doctor import copies
from utils.data.doctor.copies import MOST_BITS, candidate_pairs, find_copies, look_alike
from utils.data.doctor.pictures import THUMBNAIL, Prints


def hashes_with_relatives(count: int, seed: int) -> np.ndarray:
    """Return (count,) uint64, every third with 0 to 6 bits of the one before it turned."""
    generator = np.random.default_rng(seed)
    hashes = generator.integers(2**64, size=count, dtype=np.uint64)
    for index in range(1, count, 3):
        turned = generator.choice(64, generator.integers(7), replace=False)
        hashes[index] = hashes[index - 1] ^ np.bitwise_or.reduce(np.uint64(1) << turned.astype(np.uint64), initial=0)
    return hashes


@pytest.mark.parametrize("seed", range(3))
def test_candidates_are_those_of_a_plain_loop_each_once(seed):
    hashes = hashes_with_relatives(200, seed)
    words = hashes.tolist()
    expected = {
        frozenset((one, other))
        for one in range(200)
        for other in range(one)
        if (words[one] ^ words[other]).bit_count() <= MOST_BITS
    }
    found = [frozenset(pair) for pairs in candidate_pairs(hashes) for pair in pairs.tolist()]
    assert len(expected) > 30
    assert len(found) == len(set(found)) and set(found) == expected


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_to_compare(count):
    prints = Prints(
        np.zeros(count, "S32"),
        np.zeros(count, np.uint64),
        np.zeros((count, THUMBNAIL, THUMBNAIL), np.uint8),
        np.ones(count, bool),
    )
    assert find_copies(prints) == ([], [])


def blots(seed: int) -> np.ndarray:
    """Return a (24, 24) uint8 thumbnail of another picture for each seed."""
    coarse = np.random.default_rng(seed).integers(30, 220, (6, 6), np.uint8)
    return np.kron(coarse, np.ones((4, 4), np.uint8))


def test_groups_join_what_is_the_same_and_what_looks_the_same():
    thumbnails = np.stack([blots(0), blots(0), blots(1), blots(0) + 2, blots(2), blots(1)])
    digests = np.array([b"a", b"a", b"b", b"c", b"d", b"e"], "S32")
    readable = np.array([True, True, True, True, True, False])
    prints = Prints(digests, np.zeros(6, np.uint64), thumbnails, readable)
    assert find_copies(prints) == ([[0, 1]], [[0, 3]])


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        (lambda image: image, True),
        (lambda image: image * 0.8 + 20, True),
        (lambda image: image + np.random.default_rng(0).normal(0, 2, image.shape), True),
        (lambda image: image.T, False),
        (lambda image: image[:, ::-1], False),
        (lambda image: np.where(np.add.outer(np.arange(24), np.arange(24)) < 8, 0, image), False),
    ],
)
def test_what_looks_the_same(change, alike):
    changed = np.clip(change(blots(3).astype(float)), 0, 255).astype(np.uint8)
    assert look_alike(np.stack([blots(3), changed]), np.array([[0, 1]])).tolist() == [alike]


def test_a_film_of_one_scene_ends_in_time(monkeypatch):
    """Thousands of pictures with the same hash: not all pairs are compared, and the group is found all the same."""
    monkeypatch.setattr(copies, "MOST_PAIRS", 20_000)
    monkeypatch.setattr(copies, "MOST_CONFIRMED", 20_000)
    count = 3000
    digests = np.array([str(index).encode() for index in range(count)], "S32")
    thumbnails = np.broadcast_to(blots(0), (count, THUMBNAIL, THUMBNAIL))
    prints = Prints(digests, np.zeros(count, np.uint64), thumbnails, np.ones(count, bool))
    assert find_copies(prints) == ([], [list(range(count))])
