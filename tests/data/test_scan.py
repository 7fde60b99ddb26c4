"""Looking at images and their labels, one and many."""

import threading
import time
import warnings

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.label_files import FORMATS, assert_same_scan, scan_image, scan_images, write_image, write_labels
from tests.golden_data import load_golden
from utils.data.headers import EXIF_ORIENTATION, check_image, plain_jpeg_hw, read_ends
from utils.data.listing import list_images
from utils.data.pixels import read_image
from utils.data.scan import CHUNK, in_chunks

WARNED = ("fractional class", "polygon and box mixed")  # taken in silence by v6.1


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
        assert bool(scan.warnings) == (bool(expected["message_kind"]) or case["name"] in WARNED), case["name"]
        assert path.read_bytes() == before, "user files are never changed"
        if expected["accepted"]:
            sample = scan.samples[0]
            rows = np.array(expected["labels"], np.float32).reshape(-1, 5)
            np.testing.assert_allclose(sample.labels, rows, atol=1e-7, err_msg=case["name"])
            assert sample.labels.dtype == np.float32
            assert [len(segment) for segment in sample.segments] == expected["segment_lengths"]
            assert list(sample.size_hw[::-1]) == expected["image_wh_returned"]


def test_warning_names_label_file_and_line(tmp_path):
    image = write_image(tmp_path / "images" / "a.png")
    file = write_labels(image, "0 .5 .5 .2 .3\n0 .5 .5 .2\n")
    (warning,) = scan_image(image).warnings
    assert warning.startswith(f"{file}:2: 4 values") and "\n" not in warning


def test_bytes_that_are_no_text_make_the_image_corrupt(tmp_path):
    image = write_image(tmp_path / "images" / "a.png")
    write_labels(image, "").write_bytes(b"\xff\xfe\x00\x01")
    scan = scan_image(image)
    assert (len(scan.samples), scan.corrupt) == (0, 1) and "a.txt" in scan.warnings[0]


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
    exif[EXIF_ORIENTATION] = orientation
    image = write_image(tmp_path / "images" / f"a.{suffix}", (64, 48), exif=exif)
    assert scan_image(image).samples[0].size_hw == read_image(image).shape[:2]


@pytest.mark.parametrize(
    ("size_wh", "reason"),
    [((1, 1), "1x1 px, expected at least 10 px"), ((9, 500), "9x500 px"), ((10, 5000), None), ((20_000, 12), None)],
)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_extreme_sizes(tmp_path, size_wh, reason, suffix):
    image = write_image(tmp_path / f"a.{suffix}", size_wh)
    scan = scan_image(image)
    if reason:
        assert scan.corrupt == 1 and reason in scan.warnings[0]
    else:
        assert scan.samples[0].size_hw == size_wh[::-1]


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\x89PNG\r\n", b"BM"])
def test_hardly_an_image(tmp_path, content):
    image = tmp_path / "a.jpg"
    image.write_bytes(content)
    scan = scan_image(image)
    assert scan.corrupt == 1 and scan.warnings[0].startswith(f"{image}: image ignored: ")


def test_names_need_not_be_ascii(tmp_path):
    image = write_image(tmp_path / "images" / "dätä 集" / "ñ.jpg")
    write_labels(image, "0 .5 .5 .2 .3")
    (sample,) = scan_images(list_images([tmp_path / "images"]), "test").samples
    assert sample.image == image and len(sample.labels) == 1


def test_many_images_keep_their_order(tmp_path):
    seed = write_image(tmp_path / "seed.jpg").read_bytes()
    (tmp_path / "images").mkdir()
    for index in range(CHUNK + 10):
        image = tmp_path / "images" / f"{index:04d}.jpg"
        image.write_bytes(seed if index % 50 else b"broken")
        write_labels(image, f"{index} .5 .5 .2 .3" if index % 7 else "broken")
    images = list_images([tmp_path / "images"])
    scan = scan_images(images, "test")
    kept = [index for index in range(len(images)) if index % 50 and index % 7]
    assert scan.samples.labels[:, 0].tolist() == kept
    assert [sample.image for sample in scan.samples] == [images[index] for index in kept]
    assert len(scan.warnings) == scan.corrupt == len(images) - len(kept)
    alone = [scan_image(image) for image in images]
    assert [line for one in alone for line in one.warnings] == scan.warnings


def test_threads_wait_together_and_keep_the_order():
    threads = set()

    def work(names, others):
        threads.add(threading.get_ident())
        time.sleep(0.01)
        return [*names, *others]

    names = [str(index) for index in range(20 * CHUNK + 1)]
    parts = list(in_chunks(work, names, names))
    assert [part[: len(part) // 2] for part in parts] == [names[at : at + CHUNK] for at in range(0, len(names), CHUNK)]
    assert all(part[len(part) // 2 :] == part[: len(part) // 2] for part in parts)
    assert len(threads) > 2
    assert list(in_chunks(work, [], [])) == []


def test_errors_of_threads_arrive():
    def work(names):
        time.sleep(0.01)
        if "700" in names:
            raise ValueError("700")
        return names

    with pytest.raises(ValueError, match="700"):
        list(in_chunks(work, [str(index) for index in range(10 * CHUNK)]))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_plain_jpeg_files_need_no_pillow(tmp_path, mode, progressive):
    image = tmp_path / "a.jpg"
    Image.effect_noise((70, 33), 60).convert(mode).save(image, progressive=progressive, quality=50, comment="hello")
    assert plain_jpeg_hw(image) == (33, 70)
    assert cv2.imread(str(image)).shape[:2] == (33, 70)


def test_unusual_jpeg_files_are_left_to_pillow(tmp_path):
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    turned = write_image(tmp_path / "a.jpg", (64, 48), exif=exif)
    assert plain_jpeg_hw(turned) is None and check_image(turned)[0] == (64, 48)


JPEG = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (24, 40, 3), np.uint8))[1].tobytes()


@settings(max_examples=300, deadline=None, database=None)
@given(st.integers(2, 640), st.integers(0, 255))
@example(JPEG.index(b"\xff\xda") + 2, 6)  # a scan header that is longer than the file
def test_fast_header_agrees_with_pillow_or_keeps_silent(tmp_path_factory, position, value):
    image = tmp_path_factory.getbasetemp() / "flipped.jpg"
    image.write_bytes(JPEG[:position] + bytes([value]) + JPEG[position + 1 :])
    size_hw = plain_jpeg_hw(image)
    if size_hw:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(image) as opened:
                assert opened.size == size_hw[::-1] and opened.format == "JPEG"


def test_ends_of_a_file(tmp_path):
    file = tmp_path / "a"
    for size in (0, 1, 2, 4096, 4097, 9000):
        content = np.random.default_rng(size).bytes(size)
        file.write_bytes(content)
        head, tail, status = read_ends(file)
        assert (head, tail, status.st_size) == (content[:4096], content[-2:], size)
    assert read_ends(tmp_path / "nowhere") == (b"", b"", None)


def test_nothing_to_scan():
    scan = scan_images([], "test")
    assert scan.summary() == "0 found, 0 missing, 0 empty, 0 corrupt" and len(scan.samples) == 0
    assert_same_scan(scan, scan_images(list_images([]), "test"))
