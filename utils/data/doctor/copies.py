"""Images that are the same, or nearly: found by hashes, confirmed by thumbnails."""

from collections.abc import Iterator

import numpy as np

from utils.data.doctor.pictures import Prints

MOST_BITS = 4  # of 64 may differ between hashes; one of 5 bands is then the same
BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))  # first bit, number of bits
FLATTEST = 6.0  # grey levels of standard deviation; with less there is too little to compare
MOST_RMS, MOST_LOCAL = 5.0, 20.0  # grey levels between thumbnails: on the whole, and anywhere
ROWS_AT_ONCE = 4096
MOST_PAIRS = 50_000_000  # hashes compared in a band; only pictures that nearly all look the same reach it
BITS = np.unpackbits(np.arange(2**16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(1, dtype=np.uint8)
MOST_CONFIRMED = 500_000  # thumbnails compared


def find_copies(prints: Prints) -> tuple[list[list[int]], list[list[int]]]:
    """Group images that are copies of each other.

    Returns:
        exact: groups of two or more indices of files with the same bytes.
        near: groups of indices of images that look the same; of files with the same bytes only the first is in it.
    """
    usable = np.flatnonzero(prints.readable)
    _, first, inverse = np.unique(prints.digests[usable], return_index=True, return_inverse=True)
    exact = _groups(np.stack([usable, usable[first][inverse]], 1))
    distinct = np.sort(usable[first])
    return exact, _groups(near_pairs(prints, distinct))


def near_pairs(prints: Prints, images: np.ndarray) -> np.ndarray:
    """Return (k, 2) pairs of ``images``, (n,) indices of different files, that look the same."""
    spread = [prints.thumbnails[part].std((1, 2)) for part in _parts(images)]
    images = images[np.concatenate([np.zeros(0), *spread]) >= FLATTEST]
    found, left = [np.zeros((0, 2), np.int64)], MOST_CONFIRMED
    for pairs in candidate_pairs(prints.hashes[images]):
        pairs = images[pairs[:left]]
        left -= len(pairs)
        found += [part[look_alike(prints.thumbnails, part)] for part in _parts(pairs)]
    return np.concatenate(found)


def _parts(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield rows[start : start + ROWS_AT_ONCE]


def candidate_pairs(hashes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield (k, 2) index pairs of (n,) uint64 ``hashes`` that differ in at most ``MOST_BITS`` bits, each pair once.

    Hashes are sorted by one band of bits, then by the others. Each is compared with the next one, the one after it
    and so on, all at once, while the band is the same: n log n for hashes that are spread, instead of n squared.
    """
    bands = np.stack([(hashes >> np.uint64(first)) & np.uint64((1 << bits) - 1) for first, bits in BANDS])
    for number, band in enumerate(bands):
        order = np.lexsort((hashes, band))
        active, step, compared = np.arange(len(order)), 1, 0
        while len(active) and compared < MOST_PAIRS:
            active = active[: np.searchsorted(active, len(order) - step)]
            active = active[band[order[active]] == band[order[active + step]]]
            one, other = order[active], order[active + step]
            near = _count_bits(hashes[one] ^ hashes[other]) <= MOST_BITS
            new = near & ~(bands[:number, one] == bands[:number, other]).any(0)  # else an earlier band has told
            yield np.stack([one[new], other[new]], 1)
            step, compared = step + 1, compared + len(active)


def _count_bits(values: np.ndarray) -> np.ndarray:
    """Return the number of ones in each of (n,) uint64."""
    return BITS[values.view(np.uint16).reshape(-1, 4)].sum(1)


def look_alike(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Tell which (k, 2) pairs of (n, s, s) uint8 thumbnails show the same, apart from brightness and contrast.

    Returns:
        (k,) bool.
    """
    first, second = (thumbnails[pairs[:, side]].astype(np.float32) for side in (0, 1))  # (k, s, s)
    axes = (1, 2)
    centred_first = first - first.mean(axes, keepdims=True)
    centred_second = second - second.mean(axes, keepdims=True)
    spread_first, spread_second = first.std(axes, keepdims=True), second.std(axes, keepdims=True)
    apart = abs(centred_second * (spread_first / np.maximum(spread_second, 1e-6)) - centred_first)
    return (np.sqrt((apart**2).mean(axes)) <= MOST_RMS) & (apart.max(axes) <= MOST_LOCAL)


def _groups(pairs: np.ndarray) -> list[list[int]]:
    """Return the sorted groups of two or more that (k, 2) ``pairs`` join."""
    leader: dict[int, int] = {}

    def find(index: int) -> int:
        while leader.setdefault(index, index) != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for one, other in pairs[pairs[:, 0] != pairs[:, 1]].tolist():
        low, high = sorted((find(one), find(other)))
        leader[high] = low
    groups: dict[int, list[int]] = {}
    for index in sorted(leader):
        groups.setdefault(find(index), []).append(index)
    return list(groups.values())
