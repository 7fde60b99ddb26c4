"""Image files become arrays with the channels asked for: counts, depths, orientations, paths."""

import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from utils.data.headers import check_image
from utils.data.pixels import read_image
from utils.errors import UserError


def noise(*shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write_pages(path, pages):
    path.write_bytes(cv2.imencodemulti(".tiff", list(pages))[1].tobytes())
    return path


def corners() -> np.ndarray:
    """Return a (16, 32, 4) RGBA image whose quarters differ, large enough to survive JPEG."""
    quarters = np.array([[(250, 10, 10, 255), (10, 250, 10, 200)], [(10, 10, 250, 150), (90, 90, 90, 100)]], np.uint8)
    return quarters.repeat(8, 0).repeat(16, 1)


@pytest.mark.parametrize(
    ("suffix", "channels"), [("jpg", 1), ("jpg", 3), *itertools.product(("png", "webp", "tif"), (1, 3, 4))]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(tmp_path, orientation, suffix, channels):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = corners() if channels == 4 else corners()[..., :3]
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels).save(file, exif=exif, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    with Image.open(io.BytesIO(file.read_bytes())) as image:  # from a mapped file, Pillow turns some TIFFs twice
        upright = ImageOps.exif_transpose(image)
        expected = np.asarray(upright.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    expected = expected[..., None] if channels == 1 else expected[..., ::-1] if channels == 3 else expected
    image = read_image(file, channels)
    assert image.shape == expected.shape == (*((16, 32) if orientation < 5 else (32, 16)), channels)
    assert np.abs(image.astype(int) - expected).max() <= (6 if suffix == "jpg" else 1)
    assert check_image(file)[0] == image.shape[:2]


@pytest.mark.parametrize("shape", [(14, 15), (14, 15, 3), (14, 15, 4)], ids=["grey", "colour", "alpha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_image_can_be_grey_or_bgr(tmp_path, shape, dtype):
    pixels = noise(*shape, dtype=dtype)
    file = tmp_path / "a.png"
    file.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    colours = pixels if pixels.ndim == 3 else pixels[..., None].repeat(3, 2)
    bgr = read_image(file)
    assert (bgr.shape, bgr.dtype) == ((14, 15, 3), np.uint8)
    assert np.abs(bgr - colours[..., :3] * (255.0 / np.iinfo(dtype).max)).max() <= 1
    grey = read_image(file, 1)
    assert (grey.shape, grey.dtype) == ((14, 15, 1), np.uint8)
    assert np.abs(grey[..., 0] - bgr @ [0.114, 0.587, 0.299]).max() <= 2


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    file = tmp_path / "a.png"
    file.write_bytes(cv2.imencode(".png", levels)[1].tobytes())
    image = read_image(file, 1)
    assert np.array_equal(image[..., 0], np.round(levels / 257))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_comes_last_and_colours_in_the_order_of_the_file(tmp_path, dtype):
    rgba = noise(14, 15, 4, dtype=dtype)
    file = tmp_path / "a.png"
    file.write_bytes(cv2.imencode(".png", rgba[..., [2, 1, 0, 3]])[1].tobytes())
    image = read_image(file, 4)
    assert (image.dtype, image.flags.c_contiguous) == (np.uint8, True)
    assert np.array_equal(image, np.round(rgba / (np.iinfo(dtype).max // 255)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [2, 6, 9])
def test_pages_of_a_tiff_are_channels(tmp_path, count, dtype):
    pages = noise(count, 14, 15, dtype=dtype)
    image = read_image(write_pages(tmp_path / "a.tif", pages), count)
    assert (image.shape, image.dtype) == ((14, 15, count), np.uint8)
    assert np.array_equal(image, np.round(pages / (np.iinfo(dtype).max // 255)).transpose(1, 2, 0))


def test_pages_of_several_channels_are_joined(tmp_path):
    pages = noise(2, 14, 15, 3)
    image = read_image(write_pages(tmp_path / "a.tif", pages[..., ::-1]), 6)
    assert np.array_equal(image, np.dstack(list(pages)))


def test_pages_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    first, second = (Image.fromarray(page) for page in noise(2, 14, 15))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second], exif=exif)
    image = read_image(tmp_path / "a.tif", 2)
    assert np.array_equal(image, np.rot90(noise(2, 14, 15).transpose(1, 2, 0), -1))


def test_frames_of_an_animation_are_no_channels(tmp_path):
    frames = [Image.fromarray(page) for page in noise(3, 14, 15)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match="expected 2"):
        read_image(tmp_path / "a.png", 2)


@pytest.mark.parametrize(
    ("pixels", "asked", "message"),
    [
        (noise(14, 15, 3), 4, r"'.*a\.png' has 3 channels, expected 4, the 'ch'"),
        (noise(14, 15, 4), 6, "has 4 channels, expected 6"),
        (noise(14, 15), 2, "has 1 channels, expected 2"),
    ],
)
def test_another_number_of_channels(tmp_path, pixels, asked, message):
    file = tmp_path / "a.png"
    file.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    with pytest.raises(UserError, match=message):
        read_image(file, asked)


@pytest.mark.parametrize(("channels", "pages"), [(1, 1), (2, 2), (3, 1)])
def test_values_that_are_no_whole_numbers(tmp_path, channels, pages):
    write_pages(tmp_path / "a.tif", [np.full((14, 15), 0.5, np.float32)] * pages)
    with pytest.raises(UserError, match=r"holds float32 values, expected whole numbers of 8 or 16 bits"):
        read_image(tmp_path / "a.tif", channels)


def test_pages_of_several_sizes(tmp_path):
    write_pages(tmp_path / "a.tif", [noise(14, 15), noise(15, 14)])
    with pytest.raises(UserError, match="pages of several sizes"):
        read_image(tmp_path / "a.tif", 2)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("content", [None, b"", b"no image", b"II*\0", b"\x89PNG\r\n\x1a\n"], ids=str)
def test_unreadable_files_are_none(tmp_path, content, channels):
    file = tmp_path / "a.png"
    if content is not None:
        file.write_bytes(content)
    assert read_image(file, channels) is None
    assert read_image(tmp_path, channels) is None, "a folder"


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "name",
    ["ÄÖÜ ß.png", "图像 日本語.png", "🙂 'quoted' [1]*.png", "é" * 100 + ".png"],
    ids=["latin", "han", "odd", "long"],
)
def test_paths_of_any_characters(tmp_path, name, channels):
    folder = tmp_path.joinpath(*["ordner mit langem namen ä " * 5] * 10)  # more than 1,300 characters
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    Image.fromarray(corners()).save(buffer, "png")
    (folder / name).write_bytes(buffer.getvalue())
    assert read_image(folder / name, channels).shape == (16, 32, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("shrink", "divisor"), [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (7, 4), (8, 8), (100, 8)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_jpeg_is_read_smaller_in_whole_steps(tmp_path, orientation, shrink, divisor, channels):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("jpg", "png"):
        Image.fromarray(corners()[:15, :, :3]).save(tmp_path / f"a.{suffix}", exif=exif)
    size_hw = (-(-15 // divisor), 32 // divisor)
    expected = size_hw if orientation == 1 else size_hw[::-1]
    assert read_image(tmp_path / "a.jpg", channels, shrink).shape == (*expected, channels)
    assert read_image(tmp_path / "a.png", channels, shrink).shape[:2] == ((15, 32) if orientation == 1 else (32, 15))
