"""Every format gives what the PyTorch network gives."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import export
from models import yolo
from models.formats import FORMATS, Ensemble, Metadata, format_of, load_backend
from models.formats.backend import likely_rows
from models.formats.exported import CannotRunHere, ExportedBackend, Runtime
from models.formats.facts import from_texts, to_texts
from models.formats.pytorch import PyTorchBackend, build_model
from models.yolo import Detect
from tests.conftest import write_random_weights
from tests.models.recipes import random_images
from utils.brightness import as_floats
from utils.checkpoint import read_checkpoint
from utils.detect.suppression import suppress
from utils.errors import UserError
from utils.eval.nms import non_max_suppression
from utils.eval.operating_point import OperatingPoint, save_operating_point
from utils.export.checks import is_installed

CPU = torch.device("cpu")
EXPORTED = [
    pytest.param(row, marks=[] if row.argument == "torchscript" else pytest.mark.slow, id=row.argument)
    for row in FORMATS
    if row.argument and row.cpu
]


@pytest.fixture(scope="module")
def weights(tiny_weights, tmp_path_factory):
    """A copy, since exports are written beside it."""
    path = tmp_path_factory.mktemp("export") / "tiny.pt"
    path.write_bytes(tiny_weights.read_bytes())
    return path


def test_the_backend_equals_the_plain_network(weights):
    images = random_images(1, 2, 64, 96)
    model = build_model(read_checkpoint(weights), weights)
    with torch.no_grad():
        expected, _ = model(images)
    backend = load_backend([weights], CPU)
    torch.testing.assert_close(backend(images), expected, rtol=1e-4, atol=1e-3)
    assert backend.meta.stride == 32 and backend.meta.names[0] == "circle" and backend.meta.input_hw is None


@pytest.mark.parametrize("row", EXPORTED)
def test_exported_equals_the_original(weights, row):
    missing = [package for package in (*row.needs, *row.runs_with) if not is_installed(package)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    (path,) = export.run(weights=[str(weights)], imgsz=[64, 96], batch_size=2, include=[row.argument])
    images = random_images(2, 2, 64, 96)
    try:
        original, exported = load_backend([weights], CPU), load_backend([path], CPU)
    except CannotRunHere as reason:
        pytest.skip(str(reason))
    torch.testing.assert_close(exported(images), original(images), rtol=1e-4, atol=1e-3)
    assert exported.meta.names == original.meta.names
    assert exported.meta.stride == original.meta.stride
    assert exported.meta.input_hw == (64, 96)
    assert format_of(path) is row


@pytest.mark.parametrize("stride", [[8.0, 16.0, 32.0], [], [8.0, 16.0], [8.0, 16.0, 0.0]])
def test_strides_are_those_of_the_file_or_measured(weights, monkeypatch, stride):
    measured = []
    monkeypatch.setattr(yolo, "measure_strides", lambda model: measured.append(1) or [8.0, 16.0, 32.0])
    checkpoint = dataclasses.replace(read_checkpoint(weights), stride=stride)
    model = build_model(checkpoint, weights)
    assert (model.stride.tolist(), len(measured)) == ([8.0, 16.0, 32.0], int(stride != [8.0, 16.0, 32.0]))


def test_a_file_says_which_channels_it_takes(tiny_config, tmp_path):
    weights = write_random_weights(tmp_path / "four.pt", tiny_config | {"ch": 4})
    (path,) = export.run(weights=[str(weights)], imgsz=[64])
    images = torch.rand(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    original, exported = load_backend([weights], CPU), load_backend([path], CPU)
    assert original.meta.channels == exported.meta.channels == 4
    torch.testing.assert_close(exported(images), original(images), rtol=1e-4, atol=1e-3)


def test_an_ensemble_puts_predictions_side_by_side(weights):
    images = random_images(3, 1, 64, 64)
    one, two = load_backend([weights], CPU), load_backend([weights, weights], CPU)
    assert isinstance(two, Ensemble)
    np.testing.assert_array_equal(two(images), torch.cat([one(images)] * 2, 1))


def test_a_model_twice_finds_what_it_finds_once(weights):
    images = random_images(3, 2, 64, 64)
    one, two = ([*map(sorted_rows, suppressed(paths, images))] for paths in ([weights], [weights, weights]))
    assert sum(map(len, one)) > 10
    for once, twice in zip(one, two, strict=True):
        torch.testing.assert_close(twice, once)


def suppressed(paths: list, images: torch.Tensor) -> list[torch.Tensor]:
    return non_max_suppression(load_backend(paths, CPU)(images), 0.001, 0.6, max_detections=5000)


def sorted_rows(found: torch.Tensor) -> torch.Tensor:
    return found[np.lexsort(found.numpy().T)]


def member(names: dict[int, str], **facts) -> SimpleNamespace:
    return SimpleNamespace(meta=Metadata(32, names, **facts), parallel=1)


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (member({0: "cat"}), member({0: "cat", 1: "dog"}), "the same number of classes, got 1 and 2"),
        (
            *(member({0: "cat", 1: "dog"}), member({0: "dog", 1: "cat"})),
            "their classes in the same order, but 'cat' has another number in one of them",
        ),
        (member({0: "cat"}), member({0: "cat"}, channels=1), "must take the same images, got channels [3, 1]"),
        (
            *(member({0: "cat"}, input_hw=(64, 64)), member({0: "cat"}, input_hw=(96, 96))),
            "must take the same images, got models for 64x64 and 96x96 px only",
        ),
    ],
)
def test_models_that_do_not_go_together_are_refused(first, second, said):
    with pytest.raises(UserError) as error:
        Ensemble([first, second])
    assert said in str(error.value)


def test_another_name_for_a_class_is_only_remarked(caplog):
    ensemble = Ensemble([member({0: "cat", 1: "airplane"}), member({0: "cat", 1: "aeroplane"}, input_hw=(64, 64))])
    assert ensemble.meta == Metadata(32, {0: "cat", 1: "airplane"}, (64, 64))
    assert "class 1 is 'airplane' in one of the --weights and 'aeroplane' in another" in caplog.text


def test_the_operating_point_travels_with_the_model(weights, tmp_path):
    point = OperatingPoint(0.3, {"circle": 0.4})
    copy = save_operating_point(weights, point, tmp_path)
    (exported,) = export.run(weights=[str(copy)], imgsz=[64])
    for path in (copy, exported):
        assert OperatingPoint.stored(load_backend([path], CPU).meta.operating_point) == point
    assert load_backend([weights], CPU).meta.operating_point is None
    assert load_backend([copy, copy], CPU).meta.operating_point is None


@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("best.pt", ""),
        ("best.torchscript", "torchscript"),
        ("best_openvino_model", "openvino"),
        ("best_int8_openvino_model", "openvino"),
        ("best.xml", "openvino"),
        ("best-int8.tflite", "tflite"),
        ("best-int8_edgetpu.tflite", "edgetpu"),
        ("best.tflite", "tflite"),
        ("best_web_model", "tfjs"),
    ],
)
def test_a_file_is_known_by_its_longest_ending(name, argument):
    assert format_of(Path(name)).argument == argument


@pytest.mark.parametrize("row", EXPORTED)
def test_every_format_is_known_by_what_it_writes(row):
    assert {format_of(row.path_for(Path("runs/best.pt"), int8)) for int8 in (False, True)} == {row}


def runtime(**facts) -> Runtime:
    return Runtime(lambda images: images.reshape(*images.shape[:2], -1).swapaxes(1, 2), **facts)


def test_a_file_without_names_takes_those_of_the_data_set():
    file = runtime(classes=2)
    assert ExportedBackend(file, Path("a.onnx")).meta == Metadata(32, {0: "class0", 1: "class1"})
    assert ExportedBackend(file, Path("a.onnx"), {0: "cat", 1: "dog"}).meta.names == {0: "cat", 1: "dog"}
    with pytest.raises(UserError, match=r"'a\.onnx' predicts 2 classes, but there are 1 names; name the data set"):
        ExportedBackend(file, Path("a.onnx"), {0: "cat"})
    with pytest.raises(UserError, match=r"'a\.onnx' holds no class names; name the data set it was trained on"):
        ExportedBackend(runtime(), Path("a.onnx"))
    named = runtime(facts={"names": {0: "own"}, "stride": 64}, classes=1)
    assert ExportedBackend(named, Path("a.onnx"), {0: "cat"}).meta == Metadata(64, {0: "own"})


@pytest.mark.parametrize(("images", "calls"), [(1, 1), (3, 1), (4, 2), (7, 3)])
def test_any_number_of_images_goes_through_a_file_of_fixed_batches(images, calls):
    seen = []

    def run(batch):
        seen.append(len(batch))
        return batch.reshape(*batch.shape[:2], -1).swapaxes(1, 2)

    backend = ExportedBackend(Runtime(run, batch_size=3, classes=1), Path("a.onnx"))
    batch = random_images(0, images, 4, 6)
    torch.testing.assert_close(backend(batch), batch.flatten(2).transpose(1, 2), rtol=0, atol=0)
    assert seen == [3] * calls


def test_a_wrong_size_is_refused_with_the_right_one():
    backend = ExportedBackend(runtime(classes=1, input_hw=(64, 96)), Path("a.onnx"))
    with pytest.raises(UserError, match=r"takes images of 64x96 px only, got 64x64; use --imgsz 64 96, or export it"):
        backend(torch.zeros(1, 3, 64, 64))


def test_finished_detections_pass_suppression_unchanged():
    found = torch.tensor([[[10.0, 10, 30, 50, 0.9, 1], [200, 10, 240, 50, 0.5, 0], [0, 0, 0, 0, 0, 0]]])
    facts = {"nms": True, "names": ["a", "b"]}
    backend = ExportedBackend(Runtime(lambda _: found.numpy(), facts, classes=2), Path("a.onnx"))
    (kept,) = non_max_suppression(backend(torch.zeros(1, 3, 64, 64)), 0.1, 0.45)
    torch.testing.assert_close(kept, found[0, :2])
    (rows,) = backend.find_rows(np.zeros((1, 64, 64, 3), np.uint8), 0.1)
    np.testing.assert_allclose(suppress(rows, 0.1, 0.45), found[0, :2])


@pytest.mark.parametrize("kind", ["arrays", "tensors", "pixels"])
def test_likely_rows_are_those_of_the_whole_prediction(kind):
    """Of a runtime of arrays, of tensors on a device, and of one that finds them by itself, in batches of three."""

    def table(values):
        return values.reshape(*values.shape[:2], -1).swapaxes(1, 2)  # (b, H * W, C): every pixel is a row

    def find(pixels, least):
        assert len(pixels) == 3
        return likely_rows(pixels.reshape(3, -1, 6).astype(np.float32) / 255, least)

    file = Runtime(
        table,
        batch_size=3,
        classes=1,
        find_rows=find if kind == "pixels" else None,
        device="cpu" if kind == "tensors" else "",
    )
    backend = ExportedBackend(file, Path("a.onnx"))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 7, 6), np.uint8)
    found = backend.find_rows(pixels, 0.5)
    whole = backend(torch.from_numpy(as_floats(pixels)))
    assert len(found) == 4
    for rows, wanted in zip(found, whole, strict=True):
        np.testing.assert_allclose(rows, wanted[wanted[:, 4] > 0.5], rtol=1e-6)
    with pytest.raises(UserError, match="takes images of 64x96 px only, got 5x7"):
        ExportedBackend(dataclasses.replace(file, input_hw=(64, 96)), Path("a.onnx")).find_rows(pixels, 0.5)


@pytest.mark.parametrize("augment", [False, True])
def test_likely_rows_of_a_checkpoint_are_those_of_its_prediction(tiny_weights, augment):
    backend = load_backend([tiny_weights], CPU, augment=augment)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    table = backend(torch.from_numpy(as_floats(pixels))).numpy()
    for rows, wanted in zip(backend.find_rows(pixels, 0.0), table, strict=True):
        np.testing.assert_allclose(rows, wanted, rtol=1e-4, atol=1e-3)


def test_likely_rows_of_maps_that_are_no_share_of_the_image():
    """A convolution without padding leaves a map that is smaller than the image divided by the stride."""
    layers = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [8, 3, 2, 0]]]
    config = {"nc": 2, "depth_multiple": 1.0, "width_multiple": 1.0, "anchors": [[10, 13, 16, 30]], "backbone": layers}
    model = yolo.Model(config | {"head": [[[2], 1, "Detect", ["nc", "anchors"]]]}).eval()
    assert model.stride[0] % 1
    backend = PyTorchBackend(model, CPU)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 640, 512, 3), np.uint8)
    table = backend(torch.from_numpy(as_floats(pixels))).numpy()
    np.testing.assert_allclose(backend.find_rows(pixels, 0.0)[0], table[0], rtol=1e-4, atol=1e-3)


def test_likely_rows_of_a_head_of_another_kind_are_those_that_it_predicts(tiny_weights):
    class Halved(Detect):
        def forward(self, maps):
            table, raw = super().forward(maps)
            return table * torch.tensor([1.0] * 4 + [0.5] * (table.shape[2] - 4)), raw

    model = load_backend([tiny_weights], CPU).model
    model.model[-1].__class__ = Halved
    backend = PyTorchBackend(model, CPU)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    table = backend(torch.from_numpy(as_floats(pixels))).numpy()
    np.testing.assert_allclose(backend.find_rows(pixels, 0.0)[0], table[0], rtol=1e-4, atol=1e-3)


def test_likely_rows_of_an_ensemble_are_side_by_side(tiny_weights):
    one, two = load_backend([tiny_weights], CPU), load_backend([tiny_weights, tiny_weights], CPU)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    for alone, together in zip(one.find_rows(pixels, 0.01), two.find_rows(pixels, 0.01), strict=True):
        assert len(alone)
        np.testing.assert_array_equal(together, np.concatenate([alone, alone]))


def test_facts_survive_as_texts_and_those_of_other_writers_are_read():
    facts = {"stride": 32, "names": {0: "a 'quoted' name"}, "parity": {"score": 0.1}}
    assert from_texts(to_texts(facts)) == facts
    assert from_texts({"stride": "64", "names": "{0: 'a', 1: 'b'}"}) == {"stride": 64, "names": {0: "a", 1: "b"}}
    assert from_texts({"names": "['a', 'b']"}) == {"names": {0: "a", 1: "b"}}
    assert from_texts({"producer": "someone"}) == {}
    with pytest.raises(ValueError):
        from_texts({"names": "{0: "})


def test_a_foreign_torchscript_file_is_refused(tmp_path):
    path = tmp_path / "other.torchscript"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"not a TorchScript file written by export\.py"):
        load_backend([path], CPU)
