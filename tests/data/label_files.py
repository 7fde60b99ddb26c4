"""Images and label files for the tests of the data room."""

import numpy as np
from PIL import Image

from utils.data.listing import ImageList, label_name, label_path
from utils.data.scan import examine_all

FORMATS = {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF"}


def write_image(path, size_wh=(64, 48), file_format=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (size_wh[1], size_wh[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, format=file_format or FORMATS[path.suffix[1:]], **options)
    return path


def write_labels(image, text):
    file = label_path(image)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def assert_same_samples(first, second):
    assert len(first) == len(second)
    for ours, theirs in zip(first, second, strict=True):
        assert (ours.image, ours.size_hw) == (theirs.image, theirs.size_hw)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert len(ours.segments) == len(theirs.segments)
        for segment, other in zip(ours.segments, theirs.segments, strict=True):
            np.testing.assert_array_equal(segment, other)


def assert_same_scan(first, second):
    assert (first.summary(), first.warnings) == (second.summary(), second.warnings)
    assert_same_samples(first.samples, second.samples)


def scan_images(images, description="test"):
    """Return the findings of a fresh scan."""
    names = ImageList.of(images).names
    return examine_all(names, list(map(label_name, names)), description).scan()


def scan_image(image):
    return scan_images([image])
