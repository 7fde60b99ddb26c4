"""What was found, in every form that callers ask for."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageShow

from utils.detect.results import Results
from utils.errors import UserError

NAMES = {0: "dot", 1: "traffic/light"}
OBJECTS = [[10.0, 20.0, 30.0, 40.0, 0.9, 0.0], [0.0, 0.0, 50.0, 100.0, 0.8, 1.0], [60.0, 0.0, 80.0, 10.0, 0.7, 0.0]]


@pytest.fixture
def results() -> Results:
    """Return three objects in one image of 100 x 200 px, red throughout, and none in another."""
    red = np.zeros((100, 200, 3), np.uint8)
    red[..., 0] = 255
    pred = [torch.tensor(OBJECTS), torch.zeros(0, 6)]
    return Results([red, red[:50].copy()], pred, ["a.jpg", "b.jpg"], NAMES, (1.0, 2.0, 3.0), (2, 3, 320, 640))


def test_boxes_in_four_ways(results):
    assert results.n == len(results) == 2
    assert results.imgs is results.ims and results.times == (0.002, 0.004, 0.006)
    np.testing.assert_allclose(results.xyxy[0], OBJECTS, rtol=1e-6)
    np.testing.assert_allclose(results.xywh[0][0], [20, 30, 20, 20, 0.9, 0], rtol=1e-6)
    np.testing.assert_allclose(results.xyxyn[0][0], [0.05, 0.2, 0.15, 0.4, 0.9, 0], rtol=1e-6)
    np.testing.assert_allclose(results.xywhn[0][0], [0.1, 0.3, 0.1, 0.2, 0.9, 0], rtol=1e-6)
    assert [tuple(boxes[1].shape) for boxes in (results.xyxy, results.xywh, results.xyxyn, results.xywhn)] == [
        (0, 6)
    ] * 4


def test_printed_as_v61_prints_it(results, capsys):
    results.print()
    assert capsys.readouterr().out.splitlines() == [
        "image 1/2: 100x200 2 dots, 1 traffic/light",
        "image 2/2: 50x200 (no detections)",
        "Speed: 1.0ms pre-process, 2.0ms inference, 3.0ms NMS per image at shape (2, 3, 320, 640)",
    ]


def test_one_image_each(results):
    first, second = results.tolist()
    assert [len(first), len(second), len(results[-1])] == [1, 1, 1]
    assert first.files == ["a.jpg"] and first.t == results.t and torch.equal(first.xywhn[0], results.xywhn[0])
    assert [one.files for one in results] == [["a.jpg"], ["b.jpg"]] and results[-2].files == ["a.jpg"]
    for index in (2, -3):
        with pytest.raises(IndexError, match="there are 2 images"):
            results[index]


def test_data_frames(results):
    pytest.importorskip("pandas", reason="needs pandas")
    tables = results.pandas()
    assert list(tables.xyxy[0].columns) == ["xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"]
    assert list(tables.xywhn[1].columns) == ["xcenter", "ycenter", "width", "height", "confidence", "class", "name"]
    assert tables.xyxy[0]["name"].tolist() == ["dot", "traffic/light", "dot"]
    assert tables.xyxyn[0]["class"].tolist() == [0, 1, 0] and len(tables.xyxy[1]) == 0
    assert torch.is_tensor(results.xyxy[0])  # the results themselves are left


def test_pictures_are_drawn_in_rgb_and_kept(results):
    before = results.ims[0]
    first, second = results.render()
    assert results.ims[0] is first and (before == [255, 0, 0]).all()
    assert (first != before).any() and (second == results.ims[1]).all()
    assert first[90, 190].tolist() == [255, 0, 0]


def test_written_pictures_keep_their_colours(results, tmp_path):
    assert results.save(save_dir=tmp_path / "out") == tmp_path / "out"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg"]
    blue, _, red = cv2.imread(str(tmp_path / "out/b.jpg"))[25, 100]
    assert red > 250 and blue < 5
    plain = tmp_path / "plain"
    results.save(labels=False, save_dir=plain)
    assert (plain / "a.jpg").read_bytes() != (tmp_path / "out/a.jpg").read_bytes()


def test_default_folder_is_numbered(results, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = [results.save(), results.save(), results.save(exist_ok=True)]
    results.crop()
    assert [folder.as_posix() for folder in folders] == [f"runs/detect/{name}" for name in ("exp", "exp2", "exp")]
    assert sorted(path.name for path in (tmp_path / "runs/detect").iterdir()) == ["exp", "exp2", "exp3"]


def test_crops(results, tmp_path):
    crops = results.crop(save_dir=tmp_path)
    assert [crop["label"] for crop in crops] == ["dot 0.70", "traffic/light 0.80", "dot 0.90"]
    last = crops[-1]
    assert last["im"].shape == (31, 31, 3) and (last["im"] == [255, 0, 0]).all()  # 20 x 1.02 + 10 px from 14.8 on
    np.testing.assert_allclose(last["box"], OBJECTS[0][:4])
    assert (float(last["conf"]), int(last["cls"])) == (pytest.approx(0.9), 0)
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jpg"))
    assert found == ["crops/dot/a.jpg", "crops/dot/a2.jpg", "crops/traffic_light/a.jpg"]
    assert cv2.imread(str(tmp_path / "crops/dot/a.jpg"))[5, 5, 2] > 250
    assert len(results.crop(save=False)) == 3


def test_showing(results, monkeypatch):
    shown = []
    monkeypatch.setattr(ImageShow, "show", lambda picture: shown.append(picture) or True)
    monkeypatch.setenv("DISPLAY", ":0")
    results.show()
    assert [picture.size for picture in shown] == [(200, 100), (200, 50)] and isinstance(shown[0], Image.Image)
    monkeypatch.setattr(ImageShow, "show", lambda picture: False)
    with pytest.raises(UserError, match="no program that shows pictures"):
        results.show()
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("os.name", "posix")
    with pytest.raises(UserError, match="needs a display"):
        results.show()


def test_plain_arrays(results):
    first, second = results.arrays()
    assert set(first) == {"xyxy", "confidence", "class_id"}
    assert (first["xyxy"].shape, first["xyxy"].dtype, first["class_id"].dtype) == ((3, 4), np.float32, np.dtype(int))
    assert (second["xyxy"].shape, second["confidence"].shape) == ((0, 4), (0,))


def test_supervision_takes_them(results):
    supervision = pytest.importorskip("supervision", reason="needs supervision (pip install supervision)")
    first, second = results.to_supervision()
    assert first.data["class_name"].tolist() == ["dot", "traffic/light", "dot"] and len(second) == 0
    theirs, plain = supervision.Detections.from_yolov5(results), supervision.Detections(**results.arrays()[0])
    for other in (theirs, plain):
        np.testing.assert_array_equal(other.xyxy, first.xyxy)
        np.testing.assert_array_equal(other.confidence, first.confidence)
        np.testing.assert_array_equal(other.class_id, first.class_id)


def test_a_missing_supervision_is_named(results, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(UserError, match="pip install supervision"):
        results.to_supervision()


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_images_of_other_channels_are_shown_as_far_as_they_can_be(channels, tmp_path):
    image = np.full((40, 40, channels), 100, np.uint8)
    results = Results([image], [torch.tensor([OBJECTS[0]])], ["a.jpg"], NAMES)
    assert results.render()[0].shape == (40, 40, 3)
    Results([image], [torch.tensor([OBJECTS[0]])], ["a.jpg"], NAMES).crop(save_dir=tmp_path)
    assert (tmp_path / "crops/dot/a.jpg").is_file()
