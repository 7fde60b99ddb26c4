"""What callers hand over as pictures: files, addresses, Pillow images and arrays become RGB arrays with names."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.web import serve
from utils.detect.pictures import as_pictures
from utils.errors import UserError


@pytest.fixture
def rgb() -> np.ndarray:
    """Return an image of 40 x 60 px that is the same in no other order of channels or axes."""
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def encoded(image: np.ndarray, kind: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind)
    return content.getvalue()


def test_every_form_of_one_picture_gives_the_same_array(rgb, tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(rgb).save(file)
    with_alpha = np.dstack([rgb, np.zeros((40, 60), np.uint8)])
    same = [
        file, str(file), Image.fromarray(rgb), rgb, rgb.transpose(2, 0, 1), with_alpha, Image.fromarray(with_alpha),
        cv2.imread(str(file))[..., ::-1],
    ]  # fmt: skip
    for picture in as_pictures(same):
        np.testing.assert_array_equal(picture.image, rgb)
    names = ["a.jpg", "a2.jpg", "image2.jpg", "image3.jpg", "image4.jpg", "image5.jpg", "image6.jpg", "image7.jpg"]
    assert [picture.name for picture in as_pictures(same)] == names


def test_grey_arrays_are_repeated_and_16_bits_scaled(rgb):
    grey = rgb[..., 0]
    for given in (
        grey,
        grey[..., None],
        grey[None],
        Image.fromarray(grey),
        Image.fromarray(grey.astype(np.uint16) * 257),
    ):
        np.testing.assert_array_equal(as_pictures(given)[0].image, np.dstack([grey] * 3))


def test_models_of_other_channels(rgb):
    assert as_pictures(Image.fromarray(rgb), 1)[0].image.shape == (40, 60, 1)
    assert as_pictures(rgb[..., 0], 1)[0].image.shape == (40, 60, 1)
    assert as_pictures(np.zeros((6, 40, 60), np.uint8), 6)[0].image.shape == (40, 60, 6)
    with pytest.raises(UserError, match="image 0 has 3 channels, the model takes 6"):
        as_pictures(rgb, 6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_files_and_pillow_images_are_turned_upright(orientation, tmp_path):
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as opened:
        from_file, from_pillow = (as_pictures(given)[0].image for given in (tmp_path / "a.png", opened))
    np.testing.assert_array_equal(from_file, from_pillow)
    assert from_file.shape == ((32, 64, 3) if orientation <= 4 else (64, 32, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no images were given"),
        ("nowhere.jpg", "image 'nowhere.jpg' does not exist"),
        (np.zeros((4, 8, 8), np.float32), "image 0 has values of type float32"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"image 0 has the shape \(2, 8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), "image 0 has the shape"),
        ([np.zeros((8, 8, 3), np.uint8), 5], "image 1 is int, expected a path"),
        ([torch.zeros(3, 8, 8)], "image 0 is Tensor.*tensors go in as one"),
        (np.zeros((9, 8, 5), np.uint8), "image 0 has 5 channels, the model takes 3"),
    ],
)
def test_what_is_no_picture_is_refused(given, message):
    with pytest.raises(UserError, match=message):
        as_pictures(given)


def test_addresses_are_fetched(rgb, tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOV5_OFFLINE", "")
    Image.fromarray(rgb).save(tmp_path / "a b.png")
    with serve() as web:
        web.files["/a%20b.png?size=1"] = (tmp_path / "a b.png").read_bytes()
        (picture,) = as_pictures(f"{web.url}/a%20b.png?size=1")
        np.testing.assert_array_equal(picture.image, rgb)
        with pytest.raises(UserError, match="the server answers 404"):
            as_pictures(f"{web.url}/none.png")
    monkeypatch.setenv("YOLOV5_OFFLINE", "1")
    with pytest.raises(UserError, match="YOLOV5_OFFLINE is set"):
        as_pictures("http://127.0.0.1:9/a.png")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16"])
def test_every_mode_of_pillow_becomes_rgb(mode, rgb):
    image = Image.fromarray(rgb).convert("L" if mode == "I;16" else mode).convert(mode)
    (picture,) = as_pictures(image)
    assert (picture.image.shape, picture.image.dtype) == ((40, 60, 3), np.uint8)


NOISE = np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)
BROKEN = {
    "empty": (b"", "it is empty"),
    "text": (b"hello", "it is damaged, or no image"),
    **{f"half a {kind}": (encoded(NOISE, kind)[:1500], "cannot be read") for kind in ("JPEG", "PNG", "GIF")},
}


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_named(content, message, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        as_pictures(tmp_path / "a.jpg")
    assert "a.jpg" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pillow_images_that_break_off_are_refused(kind, tmp_path):
    """Pillow reads the pixels of a file at their first use."""
    half = encoded(NOISE, kind)[:1500]
    (tmp_path / "a.jpg").write_bytes(half)
    with Image.open(tmp_path / "a.jpg") as broken, pytest.raises(UserError, match=r"image 1, '.*a\.jpg', cannot be"):
        as_pictures([Image.fromarray(NOISE), broken])
    with Image.open(io.BytesIO(half)) as broken, pytest.raises(UserError, match="image 0 cannot be read"):
        as_pictures(broken)


def test_huge_images_are_refused_before_they_take_memory(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    with pytest.raises(UserError, match=r"huge\.png' cannot be used: it has more than 178 million pixels"):
        as_pictures(tmp_path / "huge.png")


def test_gifs_and_names_in_other_scripts(rgb, tmp_path):
    Image.fromarray(rgb).save(tmp_path / "图.gif")
    (picture,) = as_pictures([str(tmp_path / "图.gif")])
    assert (picture.image.shape, picture.name) == ((40, 60, 3), "图.jpg")
    with pytest.raises(UserError, match="is a folder; give its images as a list"):
        as_pictures(tmp_path)
