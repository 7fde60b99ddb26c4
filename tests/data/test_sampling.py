import numpy as np
import pytest

from tests.golden_data import load_golden
from utils.data.sampling import (
    DealtBatches,
    SeededBatches,
    class_weights,
    difficulty_weights,
    image_weights,
    part_of_batch,
)


def epoch_of(batches, epoch=0):
    batches.set_epoch(epoch)
    return list(batches)


def test_order_and_seeds_follow_from_seed_and_epoch():
    def keys_of(seed, epoch):
        return epoch_of(SeededBatches(10, 4, True, seed), epoch)

    assert keys_of(1, 0) == keys_of(1, 0)
    assert keys_of(1, 0) != keys_of(1, 1) != keys_of(2, 1)
    keys = keys_of(1, 0)
    assert [len(batch) for batch in keys] == [4, 4, 2]
    assert sorted(index for batch in keys for index, _ in batch) == list(range(10))
    assert len({seed for batch in keys for _, seed in batch}) == 10


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (None, [[0, 1, 2], [3, 4, 5], [6]]),
        ([7], [[0, 1, 2], [3, 4, 5], [6]]),
        ([4, 1, 2], [[0, 1, 2], [3], [4], [5, 6]]),
        ([1] * 7, [[0], [1], [2], [3], [4], [5], [6]]),
    ],
)
def test_no_batch_reaches_across_runs(runs, expected):
    batches = DealtBatches(7, 3, runs=runs)
    assert [[index for index, _ in batch] for batch in batches] == expected
    assert len(batches) == len(expected)


# --- several processes


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize(
    ("length", "batch_size", "group"), [(24, 8, 1), (21, 8, 1), (21, 10, 4), (3, 4, 4), (33, 8, 1)]
)
def test_processes_share_the_batches_that_one_would_load(length, batch_size, group, size):
    alone = epoch_of(SeededBatches(length, batch_size, True, 5), 1)
    shares = [SeededBatches(length, batch_size, True, 5, (rank, size), group) for rank in range(size)]
    assert {len(share) for share in shares} == {len(alone)}
    for whole, *parts in zip(alone, *(epoch_of(share, 1) for share in shares), strict=True):
        assert all(parts), "no process has an empty batch"
        assert {key for part in parts for key in part} == set(whole)
        if len(whole) >= size * group:
            assert sum(map(len, parts)) == len(whole)
            counts = [len(part) for part in parts]
            assert max(counts) - min(counts) <= group


@pytest.mark.parametrize(
    ("count", "size", "group", "parts"),
    [
        (5, 2, 1, [[0, 2, 4], [1, 3]]),
        (2, 5, 1, [[0], [1], [0], [1], [0]]),
        (10, 2, 4, [[0, 1, 2, 3, 8, 9], [4, 5, 6, 7]]),
        (6, 3, 4, [[0, 1, 2, 3], [4, 5], [0, 1, 2, 3]]),
    ],
)
def test_part_of_batch(count, size, group, parts):
    keys = [(index, 0) for index in range(count)]
    assert [[index for index, _ in part_of_batch(keys, (rank, size), group)] for rank in range(size)] == parts


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_whole_batches_are_dealt_in_turn(size):
    alone = epoch_of(SeededBatches(17, 4))
    hands = [DealtBatches(17, 4, share=(rank, size)) for rank in range(size)]
    assert [len(hand) for hand in hands] == [len(epoch_of(hand)) for hand in hands]
    assert sum(map(len, hands)) == len(alone)
    for number, batch in enumerate(alone):
        assert epoch_of(hands[number % size])[number // size] == batch


# --- weights


def test_weights_decide_how_often_an_item_is_drawn():
    batches = SeededBatches(1000, 16, True, 3)
    weights = np.repeat([0.0, 1.0, 3.0], [500, 250, 250])
    batches.set_weights(weights)
    epochs = [[key for batch in epoch_of(batches, epoch) for key in batch] for epoch in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2]
    for positions in ([0], [2, 3, 4]):  # the images themselves, and the other tiles of their mosaics
        drawn = np.array(epochs[0])[:, positions].ravel()
        assert (drawn >= 500).all()
        assert (drawn >= 750).mean() == pytest.approx(0.75, abs=0.06)
    assert [len(batch) for batch in epoch_of(batches)] == [16] * 62 + [8]
    assert len({seed for _, seed, *_ in epochs[0]}) == 1000


def test_weights_are_the_same_for_every_process():
    def drawn_by(share):
        batches = SeededBatches(10, 4, True, 3, share)
        batches.set_weights(np.arange(10.0))
        return epoch_of(batches)

    for whole, *parts in zip(drawn_by((0, 1)), drawn_by((0, 2)), drawn_by((1, 2)), strict=True):
        assert parts == [whole[0::2], whole[1::2]]


@pytest.mark.parametrize("nothing", [None, np.zeros(10)])
def test_without_weights_every_item_comes_once(nothing):
    batches = SeededBatches(10, 4, True, 3)
    before = epoch_of(batches)
    batches.set_weights(np.ones(10))
    batches.set_weights(nothing)
    assert epoch_of(batches) == before


def test_weights_of_another_number_of_items():
    with pytest.raises(ValueError, match=r"\(3,\) for 10 items"):
        SeededBatches(10, 4).set_weights(np.ones(3))


def test_class_and_image_weights_equal_v61():
    case = load_golden("schedule.json")["class_weights"]
    rows = [np.array([[value, 0, 0, 0, 0] for value in classes]).reshape(-1, 5) for classes in case["labels_classes"]]
    rarity = class_weights(np.concatenate(rows), case["nc"])
    np.testing.assert_allclose(rarity, case["class_weights"], rtol=1e-9)
    weights = difficulty_weights(rarity, np.array(case["maps"]))
    np.testing.assert_allclose(weights, case["image_class_weights"], rtol=1e-9)
    np.testing.assert_allclose(
        image_weights(np.concatenate(rows), np.array([len(some) for some in rows]), weights),
        case["image_weights"],
        rtol=1e-9,
    )
