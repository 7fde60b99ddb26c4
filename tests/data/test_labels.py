"""The rules for the text of a label file."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utils.data.labels import CLASS_LIMIT, CORRUPT, EMPTY, FOUND, MISSING, parse_labels, parse_plain, read_label_file

POLYGON = "0 .1 .1 .4 .1 .4 .5 .1 .5"

quick = settings(max_examples=100, deadline=None, database=None)
fractions = st.floats(0, 1, width=32)
boxes = st.tuples(st.integers(0, 10_000), fractions, fractions, fractions, fractions)
polygons = st.tuples(st.integers(0, 10_000), st.lists(st.tuples(fractions, fractions), min_size=4, max_size=9))
# text near enough to label files to get past the first test
words = st.one_of(
    st.sampled_from(
        ["0", "1.5", ".5", "1e400", "1e39", "inf", "nan", "-0", "1_0", "٣", "\ufeff", "0x1", "", "#", "-.1"]
    ),
    st.floats().map(str),
    st.integers(-1, 20_000_000).map(str),
)
blanks = st.sampled_from([" ", "\t", "  ", "\x0b", "\x0c", "\x1c", "\xa0", "\u2003"])
line_ends = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\x0c", "\x85", "\u2028", " \n"])
rows = st.lists(words, min_size=1, max_size=11).flatmap(lambda row: blanks.map(lambda blank: blank.join(row)))
near_texts = st.lists(st.tuples(rows, line_ends).map("".join), max_size=5).map("".join)
texts = st.one_of(near_texts, st.text(max_size=60))


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("0 .5 .5 .2 .3\n\nperson .5 .5 .2 .3\n", 3, "'person' is not a number"),
        ("0 .5 .5 .2 .3\n0 .5 .5 .2 a\x1b[2J", 2, "'a\\x1b[2J' is not a number"),
        ("inf .5 .5 .2 .3", 1, "class inf is too large"),
        ("1e39 .5 .5 .2 .3", 1, "class inf is too large"),
        (f"{CLASS_LIMIT + 1} .5 .5 .2 .3", 1, "is too large"),
        ("\n\n0 .5 .5 .2\n", 3, "4 values, expected 5"),
        ("0 .5 .5 .2 .3 .9\n", 1, "6 values, expected 5"),
        ("0 .5 .5 .2 .3\n0 -.1 .5 .2 .3", 2, "-0.1 is negative"),
        ("0 .5 .5 .2 1.5", 1, "1.5 is beyond 1"),
        ("0 .5 .5 .2 nan", 1, "nan is negative or not a number"),
        ("0 .5 .5 .2 .3\n   \n0 .5 .5 .2 .3", 2, "0 values"),
        ("0 .1 .1 .4 .1 .4 .5 .1 .5\n1 .1 .1 .4 .1 .4 .5 .1 .5 .2", 2, "10 values, expected a class and pairs"),
    ],
)
def test_malformed_rows_are_named_by_line(text, line, reason):
    rows, segments, problem = parse_labels(text)
    assert rows.shape == (0, 5) and segments == []
    assert problem.startswith(f"{line}: ") and reason in problem


@pytest.mark.parametrize(
    ("content", "status", "classes", "note"),
    [
        (None, MISSING, [], None),
        (b"", FOUND | EMPTY, [], None),
        (b"\n \n", FOUND | EMPTY, [], None),
        (b"\xef\xbb\xbf3 .5 .5 .2 .3\r\n1 .5 .5 .2 .3\r\n", FOUND, [3, 1], None),
        (b"3 .5 .5 .2 .3\r1 .5 .5 .2 .3\r", FOUND, [3, 1], None),
        (b"\xff\xfe3", FOUND | CORRUPT, [], "a.txt: image ignored: not UTF-8 text"),
        (PermissionError(13, "Permission denied"), FOUND | CORRUPT, [], "a.txt: image ignored: cannot be read (Perm"),
        (b"0 .5 .5 .2", FOUND | CORRUPT, [], "a.txt:1: 4 values"),
        (b"1 .5 .5 .2 .3\n1 .5 .5 .20 .3\n0 .5 .5 .2 .3", FOUND, [0, 1], "a.txt: 1 duplicate rows ignored"),
        (b"1 .5 .5 .2 .3\n1.7 .5 .5 .2 .3", FOUND, [1, 1.7], "a.txt:2: class 1.7 is not a whole number"),
        (f"{POLYGON}\n1 .5 .5 .2 .3\n2 .2 .2 .1 .1".encode(), FOUND, [0, 1, 2], "a.txt:2: a row (and 1 more) of few"),
    ],
)
def test_what_a_file_holds(content, status, classes, note):
    found = read_label_file("a.txt", content)
    assert found.status == status
    np.testing.assert_array_equal(found.labels[:, 0], np.array(classes, np.float32))
    assert [line[: len(note)] for line in found.notes] == [note] if note else found.notes == []


@quick
@given(texts)
def test_any_text_is_read_or_refused(text):
    labels, segments, problem = parse_labels(text)
    assert labels.dtype == np.float32 and labels.shape[1:] == (5,)
    assert (labels >= 0).all() and (labels[:, 1:] <= 1).all() and (labels[:, 0] < CLASS_LIMIT).all()
    assert len(segments) in (0, len(labels)) and all(np.isfinite(points).all() for points in segments)
    assert problem is None or (len(labels) == 0 and problem.isprintable())


@quick
@given(st.one_of(st.binary(max_size=60), texts.map(str.encode)))
def test_any_bytes_are_read_or_refused(content):
    found = read_label_file("a.txt", content)
    assert found.status in (FOUND, FOUND | EMPTY, FOUND | CORRUPT)
    assert bool(len(found.labels)) == (found.status == FOUND)
    assert all(note.startswith("a.txt") and note.isprintable() for note in found.notes)


@quick
@given(st.lists(st.one_of(texts.map(str.encode), st.lists(boxes, max_size=4).map(lambda rows: write(rows).encode()))))
def test_fast_reader_agrees_or_keeps_silent(contents):
    for content, labels in zip(contents, parse_plain(contents), strict=True):
        if labels is not None:
            found = read_label_file("a.txt", content)
            np.testing.assert_array_equal(found.labels, labels)
            assert found.status == (FOUND if len(labels) else FOUND | EMPTY) and not found.notes


def write(rows):
    return "".join(f"{number} {' '.join(map(repr, box))}\n" for number, *box in rows)


@quick
@given(st.lists(boxes, max_size=8, unique=True))
def test_written_boxes_are_read_back(rows):
    expected = np.array(rows, np.float32).reshape(-1, 5)
    labels, segments, problem = parse_labels(write(rows))
    np.testing.assert_array_equal(labels, expected)
    assert (segments, problem) == ([], None)
    (plain,) = parse_plain([write(rows).encode()])
    assert plain is None or np.array_equal(plain, expected)


@quick
@given(st.lists(polygons, min_size=1, max_size=5))
def test_written_polygons_are_read_back(rows):
    text = "".join(f"{number} {' '.join(f'{x!r} {y!r}' for x, y in points)}\n" for number, points in rows)
    labels, segments, problem = parse_labels(text)
    assert problem is None and labels[:, 0].tolist() == [number for number, _ in rows]
    for label, segment, (_, points) in zip(labels, segments, rows, strict=True):
        np.testing.assert_array_equal(segment, np.array(points, np.float32))
        low, high = segment.min(0), segment.max(0)
        np.testing.assert_allclose(label[1:], [*(low + high) / 2, *(high - low)], atol=1e-6)


def test_plain_files_take_the_fast_way():
    contents = [b"0 0.5 0.5 0.2 0.3\r\n12 1e-1 .5 .2 1\r\n", b"", b"3\t.5 .5  .2 .3"]
    assert [labels is not None and len(labels) for labels in parse_plain(contents)] == [2, 0, 1]
