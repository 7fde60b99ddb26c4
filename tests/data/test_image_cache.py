import gc
import hashlib
import logging
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch.multiprocessing

from tests.data.test_dataset import STRONG, make_samples
from utils.data import image_cache
from utils.data.dataset import DetectionDataset
from utils.data.image_cache import cache_images
from utils.data.loader import make_loader, make_validation_loader
from utils.data.rect import RectSettings
from utils.data.samples import Sample
from utils.errors import UserError

SIZES = [(80, 120), (120, 60), (40, 40), (100, 90), (64, 90)]
KINDS = ["ram", "disk"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLOV5_CACHE_DIR", str(tmp_path / "caches"))
    return tmp_path / "caches"


@pytest.fixture
def samples(tmp_path, folder):
    """Return samples of noise, so that no two images or resamplings look alike."""
    samples = make_samples(tmp_path, SIZES)
    generator = np.random.default_rng(0)
    for sample in samples:
        cv2.imwrite(str(sample.image), generator.integers(0, 256, (*sample.size_hw, 3)).astype(np.uint8))
    return samples


@pytest.fixture(autouse=True)
def own_notes(tmp_path, monkeypatch):
    """Keep notes of pixels in memory where no other test looks."""
    (tmp_path / "notes").mkdir()  # for this module only: the sockets of loader processes need a short path
    monkeypatch.setattr(image_cache, "tempfile", SimpleNamespace(gettempdir=lambda: str(tmp_path / "notes")))


def notes():
    return list(Path(image_cache.tempfile.gettempdir()).glob("*.pixels"))


@pytest.fixture
def no_decoding(monkeypatch):
    """Return a function after whose call no image file can be read."""

    def refuse(path):
        raise AssertionError(f"{path} is decoded again")

    return lambda: monkeypatch.setattr("utils.data.dataset.read_image", refuse)


def items_of(dataset):
    return [dataset[index, seed] for index in range(len(dataset)) for seed in (1, 2)]


def assert_equal(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.targets, other.targets)
        assert one[2:] == other[2:]


@pytest.mark.parametrize("where", KINDS)
@pytest.mark.parametrize(
    ("augmentation", "rect"),
    [(STRONG, None), (STRONG, RectSettings(2, 32, 0.0)), (None, None), (None, RectSettings(2))],
)
def test_items_are_the_same_and_nothing_is_decoded_again(samples, no_decoding, where, augmentation, rect):
    dataset = DetectionDataset(samples, 96, augmentation, rect)
    expected = items_of(dataset)
    cache_images(dataset, where)
    no_decoding()
    assert_equal(items_of(dataset), expected)
    assert_equal(items_of(dataset), expected)  # nobody wrote into the cache


@pytest.mark.parametrize("where", KINDS)
@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_read_from_the_cache(samples, no_decoding, where, workers):
    dataset = DetectionDataset(samples, 96, STRONG)
    expected = list(make_loader(dataset, 2, 0, True, 5))
    cache_images(dataset, where)
    no_decoding()
    for ours, theirs in zip(make_loader(dataset, 2, workers, True, 5), expected, strict=True):
        assert torch.equal(ours.images, theirs.images) and torch.equal(ours.targets, theirs.targets)


@pytest.mark.parametrize("where", KINDS)
def test_validation_loader_reads_from_the_cache(samples, no_decoding, where):
    expected = list(make_validation_loader(samples, 96, 2, 32, 0))
    loader = make_validation_loader(samples, 96, 2, 32, 0)
    cache_images(loader.dataset, where)
    no_decoding()
    for ours, theirs in zip(loader, expected, strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert (ours.original_hw, ours.ratios, ours.pads_xy) == (theirs.original_hw, theirs.ratios, theirs.pads_xy)


def digest_of(dataset):
    return hashlib.sha256(b"".join(item.image.tobytes() for item in items_of(dataset))).hexdigest()


def write_digests(datasets, file):
    for dataset in datasets:
        dataset.samples[0].image.unlink(missing_ok=True)  # only the cache has it now
    file.write_text("\n".join(map(digest_of, datasets)))


def test_spawned_processes_share_the_pixels(samples, tmp_path):
    datasets = [DetectionDataset(samples, 96, STRONG) for _ in KINDS]
    expected = digest_of(datasets[0])
    for dataset, where in zip(datasets, KINDS, strict=True):
        cache_images(dataset, where)
    context = torch.multiprocessing.get_context("spawn")
    process = context.Process(target=write_digests, args=(datasets, tmp_path / "digests"))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert (tmp_path / "digests").read_text().split() == [expected, expected]


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="processes share memory on Linux only")
def test_processes_find_the_pixels_in_memory(samples, no_decoding):
    first, second = DetectionDataset(samples, 96, STRONG), DetectionDataset(samples[::-1], 96, STRONG)
    expected = items_of(second)
    cache_images(first, "ram")
    no_decoding()
    cache_images(second, "ram")
    assert_equal(items_of(second), expected)
    del first
    assert_equal(items_of(second), expected)  # the one that made it may go


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="processes share memory on Linux only")
def test_note_that_leads_elsewhere_is_not_followed(samples):
    """Such as to a pipe that has got the number of a file that is gone: opening it would wait for ever."""
    dataset = DetectionDataset(samples, 96, STRONG)
    cache_images(dataset, "ram")
    (note,) = notes()
    reading, writing = os.pipe()
    note.write_text(f"/proc/{os.getpid()}/fd/{reading}")
    os.write(writing, b"x" * 200)
    other = DetectionDataset(samples, 96, STRONG)
    cache_images(other, "ram")
    assert other.cached is not None and os.read(reading, 300) == b"x" * 200
    os.close(reading)
    os.close(writing)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="processes share memory on Linux only")
def test_nothing_is_left_of_pixels_in_memory(samples):
    before = len(os.listdir("/proc/self/fd"))
    dataset = DetectionDataset(samples, 96, STRONG)
    cache_images(dataset, "ram")
    assert len(notes()) == 1
    del dataset
    gc.collect()
    assert notes() == [] and len(os.listdir("/proc/self/fd")) == before


def test_without_shared_memory_each_process_has_its_own(samples, no_decoding, monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    dataset = DetectionDataset(samples, 96, STRONG)
    expected = items_of(dataset)
    cache_images(dataset, "ram")
    no_decoding()
    assert_equal(items_of(dataset), expected)


# --- the file


def build(samples, size=96, augmentation=STRONG, rect=None):
    dataset = DetectionDataset(samples, size, augmentation, rect)
    cache_images(dataset, "disk")
    assert dataset.cached
    return dataset


def test_next_run_finds_the_file(samples, folder, no_decoding, caplog):
    expected = digest_of(build(samples))
    no_decoding()
    caplog.clear()
    with caplog.at_level(logging.INFO, "yolov5"):
        assert digest_of(build(samples)) == expected
        build(samples, rect=RectSettings(2))  # another order of items, the same file
    (file,) = folder.iterdir()
    assert caplog.messages[0].startswith(f"5 images of 96 px found in '{file}': 0.1 MB, ")


def replace_image(samples):
    cv2.imwrite(str(samples[2].image), np.zeros((40, 40, 3), np.uint8))


def touch_image(samples):
    os.utime(samples[2].image, ns=(1, 1))


@pytest.mark.parametrize("change", [replace_image, touch_image, lambda samples: samples.pop()])
def test_stale_file_is_made_anew(samples, folder, change):
    build(samples)
    (file,) = folder.iterdir()
    before = file.read_bytes()
    change(samples)
    expected = digest_of(DetectionDataset(samples, 96, STRONG))
    assert digest_of(build(samples)) == expected
    assert list(folder.iterdir()) == [file] and file.read_bytes() != before


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_damaged_file_is_made_anew(samples, folder, content):
    expected = digest_of(build(samples))
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1] if content is None else content)
    assert digest_of(build(samples)) == expected


def test_sizes_resamplings_and_splits_have_files_of_their_own(samples, folder):
    build(samples)
    build(samples, size=64)
    build(samples, augmentation=None)
    cache_images(DetectionDataset(samples, 96, STRONG), "disk", [folder.parent / "val.txt"])
    assert len(list(folder.iterdir())) == 4


def test_concurrent_builders(samples, folder):
    datasets = [DetectionDataset(samples, 96, STRONG) for _ in range(4)]
    expected = digest_of(datasets[0])
    threads = [threading.Thread(target=cache_images, args=(dataset, "disk")) for dataset in datasets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [digest_of(dataset) for dataset in datasets] == [expected] * 4
    assert len(list(folder.iterdir())) == 1, "no temporary file is left"


def test_file_changed_under_a_worker_that_starts(samples, folder):
    dataset = build(samples)
    (file,) = folder.iterdir()
    file.write_bytes(b"x" * 100)
    create, arguments = dataset.cached.pixels.__reduce__()
    with pytest.raises(UserError, match="changed while in use"):
        create(*arguments)


# --- what goes wrong


@pytest.mark.parametrize("where", KINDS)
@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"broken")])
def test_image_that_vanished_or_broke_is_named(samples, folder, where, spoil):
    cache_images(DetectionDataset(samples, 96, STRONG), where)
    before = list(folder.glob("*"))
    spoil(samples[3].image)
    with pytest.raises(UserError, match=r"3\.png"):
        cache_images(DetectionDataset(samples, 96, STRONG), where)
    assert list(folder.glob("*")) == before, "neither a half file nor a temporary one"


@pytest.mark.parametrize("where", KINDS)
def test_without_room_training_goes_on_uncached(samples, folder, where, monkeypatch, caplog):
    if where == "ram":
        monkeypatch.delattr(os, "memfd_create", raising=False)  # then each of the two has its own
        monkeypatch.setattr(image_cache, "available_memory", lambda: 200_000)
    else:
        usage = image_cache.shutil.disk_usage("/")._replace(free=90_000)
        monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda _: usage)
    dataset = DetectionDataset(samples, 96, STRONG)
    expected = digest_of(dataset)
    cache_images(dataset, where, copies=2)  # 104,256 bytes each
    assert dataset.cached is None and digest_of(dataset) == expected
    (message,) = caplog.messages
    assert message.startswith(f"WARNING: --cache {where}: images are not cached: they need 0.")
    assert message.endswith("MB are free")
    assert list(folder.glob("*")) == []


def test_folder_that_cannot_be_written(samples, folder, caplog):
    folder.write_text("a file where the folder should be")
    dataset = DetectionDataset(samples, 96, STRONG)
    cache_images(dataset, "disk")
    assert dataset.cached is None
    (message,) = caplog.messages
    assert "--cache disk: images are not cached" in message and "caches" in message


@pytest.mark.parametrize("where", KINDS)
def test_size_other_than_the_header_says(samples, where):
    """The image is stretched to the size that the scan found; its labels, fractions of the sides, stay right."""
    samples[1] = Sample(samples[1].image, samples[1].size_hw[::-1], samples[1].labels, [])
    dataset = DetectionDataset(samples, 96, STRONG)
    expected = items_of(dataset)
    cache_images(dataset, where)
    assert_equal(items_of(dataset), expected)
