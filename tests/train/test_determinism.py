"""Runs depend on their seed, not on how many processes load the images."""

from typing import Any

import pytest

from tests.train.test_resume import QUICK, assert_same, train

MODES: list[dict[str, Any]] = [
    {},
    *({name: True} for name in ("rect", "quad", "image_weights", "multi_scale", "single_cls")),
    *({"cache": place} for place in ("ram", "disk", "val")),
    {"hyp": "hyp.scratch-high.yaml"},  # every augmentation
    {"batch_size": 3},  # leaves a smaller last batch
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_any_number_of_workers_gives_the_same_run(tmp_path, tiny_dataset, tiny_cfg, monkeypatch, mode):
    for place in ("utils.device", "utils.train.batches"):  # else there are no more workers than cores
        monkeypatch.setattr(f"{place}.core_count", lambda: 4)
    common = {"data": str(tiny_dataset), "cfg": str(tiny_cfg), "project": str(tmp_path), "epochs": 2}
    for workers in (0, 2, 4, 0):
        train.run(**QUICK | common | mode | {"workers": workers, "name": f"{workers}", "exist_ok": False})
    names = sorted(folder.name for folder in tmp_path.iterdir())
    assert names == ["0", "02", "2", "4"]
    for name in names[1:]:
        assert_same(tmp_path / name, tmp_path / "0")
