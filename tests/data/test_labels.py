from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.golden_data import load_golden
from utils.data import labels
from utils.data.cache import cached_scan
from utils.data.labels import label_path, list_images, parse_labels, scan_image
from utils.data.sources import read_image
from utils.errors import UserError

FORMATS = {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF"}


def write_image(path, size_wh=(64, 48), file_format=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size_wh[1], size_wh[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, format=file_format or FORMATS[path.suffix[1:]], **options)
    return path


def write_labels(image, text):
    file = label_path(image)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())
    return file


def make_golden_case(folder, case):
    """Write the image and label file that a golden case describes."""
    image = case["image"]
    path = folder / "images" / f"a.{image['ext']}"
    content = image["content_format"].upper()
    if case["name"] in ("zero byte image", "garbage image"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"" if case["name"].startswith("zero") else b"this is not an image" * 20)
    else:
        write_image(path, image["wh"], FORMATS.get(content.lower(), content))
    if "2 bytes cut" in case["name"]:
        path.write_bytes(path.read_bytes()[:-2])
    if "trailing bytes" in case["name"]:
        path.write_bytes(path.read_bytes() + b"\0\0\0\0")
    if case["label_text"] is not None:
        write_labels(path, case["label_text"])
    return path


def test_golden_cases(tmp_path):
    cases = load_golden("labels.json")["cases"]
    assert len(cases) > 40
    for number, case in enumerate(cases):
        # v6.1 fails on duplicate polygons, its successor does not; in all else v6.1 is the model
        expected = case["master"] if case["name"] == "duplicate polygons" else case["v61"]
        path = make_golden_case(tmp_path / str(number), case)
        before = path.read_bytes()
        scan = scan_image(path)
        counts = [scan.found, scan.missing, scan.empty, scan.corrupt]
        assert counts == [expected[key] for key in ("found", "missing", "empty", "corrupt")], case["name"]
        assert len(scan.samples) == expected["accepted"], case["name"]
        assert bool(scan.warnings) == bool(expected["message_kind"]), (case["name"], scan.warnings)
        assert path.read_bytes() == before, "user files are never changed"
        if expected["accepted"]:
            sample = scan.samples[0]
            rows = np.array(expected["labels"], np.float32).reshape(-1, 5)
            np.testing.assert_allclose(sample.labels, rows, atol=1e-7, err_msg=case["name"])
            assert sample.labels.dtype == np.float32
            assert [len(segment) for segment in sample.segments] == expected["segment_lengths"]
            assert list(sample.size_hw[::-1]) == expected["image_wh_returned"]


def test_golden_label_paths():
    for image, expected in load_golden("labels.json")["img2label"]:
        assert label_path(Path(image)) == Path(expected)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("0 .5 .5 .2 .3\n\nperson .5 .5 .2 .3\n", 3, "'person' is not a number"),
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


def test_warning_names_label_file_and_line(tmp_path):
    image = write_image(tmp_path / "images" / "a.png")
    file = write_labels(image, "0 .5 .5 .2 .3\n0 .5 .5 .2\n")
    (warning,) = scan_image(image).warnings
    assert warning.startswith(f"{file}:2: 4 values") and "\n" not in warning


def test_bytes_that_are_no_text_make_the_image_corrupt(tmp_path):
    image = write_image(tmp_path / "images" / "a.png")
    write_labels(image, "").write_bytes(b"\xff\xfe\x00\x01")
    scan = scan_image(image)
    assert (scan.samples, scan.corrupt) == ([], 1) and "a.txt" in scan.warnings[0]


def test_missing_image_is_corrupt(tmp_path):
    scan = scan_image(tmp_path / "images" / "nowhere.jpg")
    assert scan.corrupt == 1 and "nowhere.jpg" in scan.warnings[0]


def test_half_a_jpeg_is_dropped_with_a_warning(tmp_path):
    image = write_image(tmp_path / "images" / "a.jpg")
    image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    scan = scan_image(image)
    assert scan.corrupt == 1 and "truncated" in scan.warnings[0]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_size_after_exif_rotation_is_what_is_read(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[labels.EXIF_ORIENTATION] = orientation
    image = write_image(tmp_path / "images" / f"a.{suffix}", (64, 48), exif=exif)
    assert scan_image(image).samples[0].size_hw == read_image(image).shape[:2]


def test_folders_are_searched_deep_and_sorted(tmp_path):
    folder = tmp_path / "im[1]"
    for name in ("b/z.PNG", "a.jpg", "b/.hidden.jpg", "c.txt", "b/c/y.webp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    names = [str(path.relative_to(folder)) for path in list_images([folder])]
    assert names == ["a.jpg", str(Path("b/c/y.webp")), str(Path("b/z.PNG"))]


def test_lists_of_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("sets/images/a.jpg", "here.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    absolute = tmp_path / "far" / "b.png"
    file = tmp_path / "sets" / "train.txt"
    file.write_text(f"./images/a.jpg\nimages/c.jpg\n\nhere.jpg\n{absolute}\nnotes.md\n")
    expected = [absolute, tmp_path / "here.jpg", tmp_path / "sets/images/a.jpg", tmp_path / "sets/images/c.jpg"]
    assert list_images([file]) == expected


def test_missing_entry_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        list_images([tmp_path / "nowhere"])


# --- cache


@pytest.fixture
def split(tmp_path, monkeypatch):
    """Three images: polygons, boxes with a duplicate, and a corrupt one; and the folder caches go to."""
    monkeypatch.setenv("YOLOV5_CACHE_DIR", str(tmp_path / "caches"))
    folder = tmp_path / "images"
    write_labels(write_image(folder / "a.png"), "0 .1 .1 .4 .1 .4 .5 .1 .5\n1 .1 .1 .4 .1 .4 .5 .1 .5 .2 .3")
    write_labels(write_image(folder / "b.png"), "1 .5 .5 .2 .3\n1 .5 .5 .2 .3\n")
    write_labels(write_image(folder / "c.png"), "bad\n")
    return folder


def scan_of(folder):
    return cached_scan(list_images([folder]), [folder], "test")


def assert_same_scan(first, second):
    assert (first.summary(), first.warnings) == (second.summary(), second.warnings)
    for ours, theirs in zip(first.samples, second.samples, strict=True):
        assert (ours.image, ours.size_hw) == (theirs.image, theirs.size_hw)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert len(ours.segments) == len(theirs.segments)
        for segment, other in zip(ours.segments, theirs.segments, strict=True):
            np.testing.assert_array_equal(segment, other)


def test_cache_recalls_everything(split, tmp_path):
    fresh, recalled = scan_of(split)
    assert not recalled and len(fresh.samples) == 2 and len(fresh.warnings) == 2
    again, recalled = scan_of(split)
    assert recalled
    assert_same_scan(fresh, again)
    assert [file.suffix for file in (tmp_path / "caches").iterdir()] == [".cache"]


@pytest.mark.parametrize("change", ["label edited", "image added", "label removed"])
def test_cache_is_renewed_when_data_change(split, change):
    scan_of(split)
    if change == "label edited":
        write_labels(split / "b.png", "0 .5 .5 .2 .3\n0 .2 .2 .1 .1\n")
    elif change == "image added":
        write_image(split / "d.png")
    else:
        label_path(split / "b.png").unlink()
    scan, recalled = scan_of(split)
    assert not recalled
    assert_same_scan(scan, labels.scan_images(list_images([split]), "test"))


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"PK\x03\x04 broken", "half"])
def test_bad_cache_is_rebuilt(split, tmp_path, content):
    fresh, _ = scan_of(split)
    (file,) = (tmp_path / "caches").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    scan, recalled = scan_of(split)
    assert not recalled
    assert_same_scan(fresh, scan)
    assert scan_of(split)[1]


def test_unwritable_cache_does_no_harm(split, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("YOLOV5_CACHE_DIR", str(tmp_path / "file"))
    assert len(scan_of(split)[0].samples) == 2


def test_cache_lies_beside_labels_by_default(split, tmp_path, monkeypatch):
    monkeypatch.delenv("YOLOV5_CACHE_DIR")
    scan_of(split)
    assert len(list(tmp_path.glob("labels*.cache"))) == 1
