"""Samples in flat arrays are the samples that went in."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.data.label_files import assert_same_samples
from utils.data.samples import Ragged, Sample, Samples, Texts

quick = settings(max_examples=100, deadline=None, database=None)
fractions = st.floats(0, 1, width=32)
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@st.composite
def samples(draw):
    labels = draw(arrays.arrays(np.float32, st.tuples(st.integers(0, 3), st.just(5)), elements=fractions))
    points = arrays.arrays(np.float32, st.tuples(st.integers(0, 4), st.just(2)), elements=fractions)
    segments = draw(st.one_of(st.just([]), st.lists(points, min_size=len(labels), max_size=len(labels))))
    size_hw = draw(st.tuples(st.integers(1, 2**31 - 1), st.integers(1, 60_000)))
    return Sample(Path(draw(names)), size_hw, labels, segments)


@quick
@given(st.lists(samples(), max_size=6))
def test_what_goes_in_comes_out(given_samples):
    stored = Samples.of(given_samples)
    assert_same_samples(stored, given_samples)
    assert_same_samples(list(stored), given_samples)
    assert stored.label_counts.tolist() == [len(sample.labels) for sample in given_samples]
    assert len(stored.labels) == stored.label_counts.sum() and stored.labels.dtype == np.float32
    assert_same_samples(pickle.loads(pickle.dumps(stored)), given_samples)  # noqa: S301
    assert Samples.of(stored) is stored


@quick
@given(st.lists(samples(), min_size=1, max_size=6), st.data())
def test_any_choice_is_taken(given_samples, data):
    indices = data.draw(st.lists(st.integers(0, len(given_samples) - 1), max_size=8))
    stored = Samples.of(given_samples)
    assert_same_samples(stored.take(indices), [given_samples[index] for index in indices])
    low, high = sorted(data.draw(st.tuples(st.integers(-7, 7), st.integers(-7, 7))))
    assert_same_samples(stored[low:high], given_samples[low:high])
    assert_same_samples(
        Samples.concatenate([stored, stored.take(indices), stored[:0]]), [*stored, *stored.take(indices)]
    )


@quick
@given(st.lists(names))
def test_texts_come_back(texts):
    stored = Texts.of(texts)
    assert list(stored) == texts and [stored[index] for index in range(len(texts))] == texts
    assert stored.lengths.tolist() == [len(text.encode()) for text in texts]


def test_names_that_are_no_text_come_back():
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    assert list(Texts.of([name, "b"])) == [name, "b"] and Texts.of([name])[0] == name


def some() -> Samples:
    rows = [[3, 0.1, 0.2, 0.3, 0.4], [7, 0.1, 0.2, 0.3, 0.4], [2, 0.5, 0.5, 0.1, 0.1]]
    labels = np.array(rows, np.float32)
    groups = labels[:1], labels[:0], labels[1:]
    return Samples.of(Sample(Path(f"{index}.jpg"), (10, 20), group, []) for index, group in enumerate(groups))


def test_class_zero_for_all():
    changed = some().with_class_zero()
    assert changed.labels[:, 0].tolist() == [0, 0, 0] and some().labels[:, 0].tolist() == [3, 7, 2]
    np.testing.assert_array_equal(changed.labels[:, 1:], some().labels[:, 1:])


@pytest.mark.parametrize(("count", "found"), [(8, None), (7, (2, 7.0)), (3, (0, 3.0)), (0, (0, 3.0))])
def test_first_class_beyond(count, found):
    assert some().first_class_beyond(count) == found


def test_indices_are_those_of_a_list():
    assert some()[-1].image == some().image(2) == Path("2.jpg")
    with pytest.raises(IndexError):
        some()[3]


@pytest.mark.parametrize("counts", [[1, 1], [4], [-1, 4], [[3]], [1.5, 1.5]])
def test_counts_must_fit_rows(counts):
    with pytest.raises(ValueError):
        Ragged(np.zeros((3, 5)), np.array(counts))


def test_arrays_must_fit_each_other():
    stored = some()
    with pytest.raises(ValueError, match="images"):
        Samples(stored.images, stored.sizes_hw[:2], stored.boxes, stored.outlines, stored.points)
    with pytest.raises(ValueError, match="NUL"):
        Texts.of(["a", "b\0c"])
    with pytest.raises(ValueError, match="end"):
        Texts(np.frombuffer(b"a\0b", np.uint8))
