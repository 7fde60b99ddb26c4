"""Every flag of train.py: one epoch, or a few, on a tiny data set, and what the flag changed about it."""

import csv
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import train
from models import summary
from tests.conftest import write_random_weights
from tests.train.watching import QUICK, SMALL, Watched, run_watched
from utils.checkpoint import read_checkpoint
from utils.cores import core_count
from utils.errors import UserError
from utils.eval.evaluate import Evaluation
from utils.options import build_parser, make_options
from utils.search import report as search_report
from utils.train import fit as fit_module
from utils.train.options import TrainOptions

GATE = """
from torch import Tensor, nn

from models.registry import gates, layer


@layer(gates)
class FlagGate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mix(x).sigmoid()
"""


MOVING = {"batch_size": 64, "epochs": 2}  # no gradients are accumulated, and in the second iteration no rate is 0


@dataclass(frozen=True)
class Place:
    """What rows of the table make their options of."""

    data: Path
    cfg: Path
    weights: Path
    folder: Path  # a temporary one
    patch: pytest.MonkeyPatch

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def options(self, **changes: Any) -> dict[str, Any]:
        own = {"data": str(self.data), "cfg": str(self.cfg), "project": str(self.folder / "runs")}
        return QUICK | own | changes


@dataclass(frozen=True)
class Row:
    """A flag, options that show it, or what makes them, and what must be true of the run."""

    flag: str
    options: dict[str, Any] | Callable[[Place], dict[str, Any]]
    check: Callable[[Watched, Place], None]

    def __str__(self) -> str:
        return f"{self.flag}-{self.check.__name__}"


ROWS: list[Row] = []


def row(flag: str, options: dict[str, Any] | Callable[[Place], dict[str, Any]]) -> Callable[..., Any]:
    """Enter what is decorated into the table."""

    def enter(check: Callable[[Watched, Place], None]) -> Callable[[Watched, Place], None]:
        ROWS.append(Row(flag, options, check))
        return check

    return enter


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> tuple[Path, Path]:
    """Return ``SMALL`` as a file for --cfg, and a checkpoint of it."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    return folder / "small.yaml", write_random_weights(folder / "small.pt", SMALL)


@pytest.fixture
def place(tiny_dataset, network, tmp_path, monkeypatch) -> Place:
    return Place(tiny_dataset, *network, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def known() -> dict[str, Watched]:
    """Runs by their options, for rows that look at the same one."""
    return {}


@pytest.fixture(autouse=True)
def shortcuts(monkeypatch):
    """Leave out what takes time and is tested elsewhere."""
    monkeypatch.setattr(summary, "count_gflops", lambda *_: 1.0)
    monkeypatch.setattr(search_report, "save_search_plot", lambda *arguments: arguments[-1].touch())


# What is trained, on what


@row("weights", lambda place: {"weights": str(place.weights), "cfg": ""})
def starts_from_the_checkpoint(seen: Watched, place: Place) -> None:
    stored = read_checkpoint(place.weights).state
    assert stored.keys() == seen.only.start.keys()
    assert all(torch.equal(seen.only.start[name], value.float()) for name, value in stored.items())


@row("cfg", {})
def builds_the_yaml(seen: Watched, place: Place) -> None:
    assert seen.checkpoint().yaml["backbone"] == SMALL["backbone"]
    assert [type(layer).__name__ for layer in seen.only.state.model.model] == [*["Conv"] * 5, "SPPF", "Detect"]


@row("data", lambda place: {"data": str(two_names(place))})
def takes_images_and_names(seen: Watched, place: Place) -> None:
    assert {path for _, _, paths in seen.batches for path in paths} == {
        str(path) for path in (place.data.parent / "images/val").iterdir()
    }
    assert seen.checkpoint().names[0] == "disc"
    assert yaml.safe_load((seen.folder / "opt.yaml").read_text())["data"] == str(place.folder / "other.yaml")


def two_names(place: Place) -> str:
    content = yaml.safe_load(place.data.read_text())
    names = ["disc", *content["names"][1:]]
    return place.file("other.yaml", yaml.safe_dump(content | {"train": "images/val", "names": names}))


@row("hyp", lambda place: {"hyp": place.file("h.yaml", "lr0: 0.02\nmosaic: 0.0\nwarmup_epochs: 0\n"), "warmup": "0"})
def takes_hyperparameters(seen: Watched, place: Place) -> None:
    assert seen.checkpoint().hyperparameters["lr0"] == 0.02
    assert set(seen.only.rates().values()) == {0.02}
    assert seen.mosaics == 0 and "hyp: lr0=0.02 (0.01)" in seen.output


@row("insert", {"insert": ["NAMAttention@4", "CBAM@before-Detect"]})
def inserts_layers(seen: Watched, place: Place) -> None:
    kinds = [type(layer).__name__ for layer in seen.only.state.model.model]
    assert kinds.index("NAMAttention") == 5 and kinds.count("CBAM") == 3
    assert sum(name == "CBAM" for *_, name, _ in seen.checkpoint().yaml["head"]) == 3


@row("plugins", lambda place: {"plugins": [place.file("flag_gate.py", GATE)], "insert": ["FlagGate@4"], **MOVING})
def trains_layers_of_ones_own(seen: Watched, place: Place) -> None:
    assert "FlagGate" in [type(layer).__name__ for layer in seen.only.state.model.model]
    assert (seen.folder / "plugins/flag_gate.py").read_text() == GATE
    assert {"model.5.mix.weight", "model.5.mix.bias"} <= seen.only.moved()


def gated(place: Place, **options: Any) -> dict[str, Any]:
    return {"weights": str(place.weights), "cfg": "", "insert": ["CBAM@4"], **options}


@row("no_preserve", lambda place: gated(place, no_preserve=True))
def pretrained_weights_stay_as_they_are(seen: Watched, place: Place) -> None:
    stored, key = read_checkpoint(place.weights).state, "cv1.conv.weight"  # of SPPF, which reads the new gate
    assert torch.equal(seen.only.start[f"model.6.{key}"], stored[f"model.5.{key}"].float())


@row("no_preserve", gated)
def without_it_the_factor_of_new_gates_is_taken_back(seen: Watched, place: Place) -> None:
    stored, key = read_checkpoint(place.weights).state, "cv1.conv.weight"
    factors = seen.only.start[f"model.6.{key}"] / stored[f"model.5.{key}"].float()
    assert factors.min().item() == pytest.approx(factors.max().item(), rel=1e-3) and factors.min() > 1.5


@row("single_cls", {"single_cls": True})
def there_is_one_class(seen: Watched, place: Place) -> None:
    checkpoint = seen.checkpoint()
    assert len(checkpoint.names) == 1 and seen.only.state.model.detect.nc == 1
    assert seen.only.fit.loader.dataset.samples[0].labels[:, 0].max() == 0
    assert len(seen.result.label_counts) == 1 and seen.result.labels == 26
    assert seen.rows()[0]["train/cls_loss"] == 0


@row("freeze", {"freeze": [5], **MOVING})
def the_first_layers_stay(seen: Watched, place: Place) -> None:
    assert_frozen(seen, set(range(5)))


@row("freeze", {"freeze": [0, 3, 6], **MOVING})
def the_listed_layers_stay(seen: Watched, place: Place) -> None:
    assert_frozen(seen, {0, 3, 6})


def assert_frozen(seen: Watched, layers: set[int]) -> None:
    names = {name for name, _ in seen.only.state.model.named_parameters()}
    frozen = {name for name in names if int(name.split(".")[1]) in layers}
    assert seen.only.moved() == names - frozen
    assert seen.with_gradient and all(step == names - frozen for step in seen.with_gradient)
    grouped = sum(len(group["params"]) for group in seen.only.state.optimizer.param_groups)
    assert grouped == len(names - frozen) and f"freezing {len(frozen)} parameter tensors" in seen.output
    statistics = seen.only.state.model.state_dict()["model.0.bn.running_mean"]
    assert not torch.equal(statistics, seen.only.start["model.0.bn.running_mean"])  # v6.1 lets them follow, too


# How long, how fast


@row("epochs", {"epochs": 3})
def runs_that_many_epochs(seen: Watched, place: Place) -> None:
    assert [line["epoch"] for line in seen.rows()] == [0, 1, 2] and seen.validated == [0, 1, 2]


@row("batch_size", {"batch_size": 3})
def batches_have_that_many_images(seen: Watched, place: Place) -> None:
    assert [shape[0] for _, shape, _ in seen.batches] == [3, 3, 2]


@row("batch_size", {"batch_size": -1})
def finds_what_fits(seen: Watched, place: Place) -> None:
    found = seen.checkpoint().options["batch_size"]
    assert found in (1, 2, 4, 8) and f"batch size: {found}, " in seen.output
    assert max(shape[0] for _, shape, paths in seen.batches if paths) == found
    assert yaml.safe_load((seen.folder / "opt.yaml").read_text())["batch_size"] == found


@row("patience", lambda place: with_fitness(place, [0.3, 0.2]) | {"epochs": 5, "patience": 1})
def stops_early(seen: Watched, place: Place) -> None:
    assert len(seen.rows()) == 2 and "Stopping: no better fitness for 1 epochs since epoch 0" in seen.output


@row("patience", lambda place: with_fitness(place, [0.3, 0.2, 0.2]) | {"epochs": 3, "patience": 0})
def never_stops_early(seen: Watched, place: Place) -> None:
    assert len(seen.rows()) == 3


def with_fitness(place: Place, values: list[float]) -> dict[str, Any]:
    scores = iter(values)
    place.patch.setattr(Evaluation, "fitness", property(lambda _: next(scores)))
    return {}


def without_warmup(place: Place, **options: Any) -> dict[str, Any]:
    return {"hyp": place.file("h.yaml", "warmup_epochs: 0\n"), "warmup": "0", "epochs": 3, **options}


@row("cos_lr", lambda place: without_warmup(place, cos_lr=True))
def the_rate_falls_like_a_cosine(seen: Watched, place: Place) -> None:
    # v6.1 steps its scheduler after the first batches of an epoch's rates are set: one epoch behind
    factors = [((1 - math.cos(math.pi * max(epoch - 1, 0) / 3)) / 2) * (0.01 - 1) + 1 for epoch in range(3)]
    for name in ("x/lr0", "x/lr1", "x/lr2"):
        assert [line[name] for line in seen.rows()] == pytest.approx([0.01 * factor for factor in factors], rel=1e-4)


@row("cos_lr", without_warmup)
def without_it_the_rate_falls_like_a_line(seen: Watched, place: Place) -> None:
    factors = [(1 - max(epoch - 1, 0) / 3) * 0.99 + 0.01 for epoch in range(3)]
    assert [line["x/lr1"] for line in seen.rows()] == pytest.approx([0.01 * factor for factor in factors], rel=1e-4)


@row("warmup", {"warmup": "8"})
def warms_up_for_so_many_iterations(seen: Watched, place: Place) -> None:
    assert seen.only.rates() == pytest.approx({"norm": 0.01 / 8, "weight": 0.01 / 8, "bias": 0.1 - 0.09 / 8})
    assert "warm-up takes 8 iterations and the run has 2" in seen.output and "--warmup auto" in seen.output


@row("warmup", {"warmup": "1000"})
def v61s_warmup_is_warned_of_where_it_is_long(seen: Watched, place: Place) -> None:
    assert seen.only.fit.schedule.warmup == 1000
    assert "warm-up takes 1000 iterations and the run has 2" in seen.output


@row("warmup", {"warmup": "auto", "epochs": 5, "batch_size": 2})
def warms_up_for_a_quarter_of_the_run(seen: Watched, place: Place) -> None:
    assert seen.only.fit.schedule.warmup == 5  # of 5 epochs of 4 batches
    assert "WARNING: warm-up" not in seen.output


@row("optimizer", {"optimizer": "Adam", **MOVING})
def adam(seen: Watched, place: Place) -> None:
    assert_adaptive(seen, torch.optim.Adam)


@row("optimizer", {"optimizer": "AdamW", **MOVING})
def adamw(seen: Watched, place: Place) -> None:
    assert_adaptive(seen, torch.optim.AdamW)


def assert_adaptive(seen: Watched, kind: type) -> None:
    optimizer = seen.only.state.optimizer
    assert type(optimizer) is kind and {group["betas"] for group in optimizer.param_groups} == {(0.937, 0.999)}
    assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([0, 0.0005, 0])
    assert all("exp_avg_sq" in state for state in optimizer.state.values()) and len(optimizer.state) == 27
    assert len(seen.only.moved()) == 27


@row("label_smoothing", {"label_smoothing": 0.2})
def smooths_labels(seen: Watched, place: Place) -> None:
    assert seen.checkpoint().hyperparameters["label_smoothing"] == 0.2
    criterion = seen.only.fit.step.criterion
    logits = torch.tensor([[0.9, 0.1, 0.1, *[0.1] * 7]]).logit()  # what ε = 0.2 wants: 1 - ε/2 and ε/2
    best = criterion._class_loss(logits, torch.tensor([0]), torch.ones(1))
    assert best < criterion._class_loss(logits * 1.5, torch.tensor([0]), torch.ones(1))
    assert best < criterion._class_loss(logits / 1.5, torch.tensor([0]), torch.ones(1))


# Images


@row("imgsz", {"imgsz": 96})
def images_have_that_size(seen: Watched, place: Place) -> None:
    assert {shape for shape, _ in seen.inputs} == {(4, 3, 96, 96)}


@row("imgsz", {"imgsz": 70})
def sizes_are_rounded_up_to_the_stride(seen: Watched, place: Place) -> None:
    assert {shape for shape, _ in seen.inputs} == {(4, 3, 96, 96)}
    assert "--imgsz 70 is not a multiple of the model's stride 32" in seen.output


@row("rect", {"rect": True, "imgsz": 160, "batch_size": 2, "epochs": 2})
def batches_have_the_shape_of_their_images(seen: Watched, place: Place) -> None:
    shapes, aspects = [shape[2:] for _, shape, _ in seen.batches], [height / width for height, width in sizes_hw(seen)]
    assert {side % 32 for shape in shapes for side in shape} == {0} and max(map(max, shapes)) == 160
    assert any(height != width for height, width in shapes)
    first, second = ([paths for at, _, paths in seen.batches if at == epoch] for epoch in (0, 1))
    assert first == second and aspects == sorted(aspects) and seen.mosaics == 0


def sizes_hw(seen: Watched) -> list[tuple[int, int]]:
    return [sample.size_hw for sample in seen.only.fit.loader.dataset.samples]


@row("rect", {"epochs": 3})
def without_it_batches_are_square_mosaics_in_new_order(seen: Watched, place: Place) -> None:
    orders = {epoch: [path for at, _, paths in seen.batches if at == epoch for path in paths] for epoch in range(3)}
    assert {shape for _, shape, _ in seen.batches} == {(4, 3, 64, 64)} and seen.mosaics == 24
    assert len({tuple(order) for order in orders.values()}) == 3
    assert {tuple(sorted(order)) for order in orders.values()} == {tuple(sorted(orders[0]))}


@row("multi_scale", {"multi_scale": True, "imgsz": 128, "batch_size": 1, "epochs": 2})
def every_batch_has_another_size(seen: Watched, place: Place) -> None:
    sides = [shape[2] for shape, _ in seen.inputs]
    assert set(sides) <= {64, 96, 128, 160, 192} and len(set(sides)) >= 3  # half to one and a half, by the stride
    assert all(shape[2] == shape[3] for shape, _ in seen.inputs)
    assert sides[:8] != sides[8:]


@row("quad", {"quad": True})
def four_images_are_one_of_twice_the_side(seen: Watched, place: Place) -> None:
    assert {shape for shape, _ in seen.inputs} == {(1, 3, 128, 128)} and len(seen.inputs) == 2
    assert seen.only.fit.step.gain == 4  # v6.1


CLASS_AP = np.array([0.1] * 5 + [0.9] * 5)


def half_well_found(place: Place) -> dict[str, Any]:
    place.patch.setattr(Evaluation, "class_ap", property(lambda _: CLASS_AP.tolist()))
    return {"image_weights": True, "epochs": 2}


@row("image_weights", half_well_found)
def images_are_drawn_by_what_they_teach(seen: Watched, place: Place) -> None:
    samples = seen.only.fit.loader.dataset.samples
    counts = np.array([np.bincount(sample.labels[:, 0].astype(int), minlength=10) for sample in samples])
    rarity = 1 / counts.sum(0).clip(1)
    rarity /= rarity.sum()
    first, second = seen.weights
    np.testing.assert_allclose(first, counts @ rarity)
    np.testing.assert_allclose(second, counts @ (rarity * (1 - CLASS_AP) ** 2))
    drawn = [path for _, _, paths in seen.batches for path in paths]
    assert len(drawn) == 16 and len(set(drawn[:8])) < 8  # with replacement


def part_of(seen: Watched, split: str) -> list[Path]:
    return [path for path in seen.decoded if path.parent.name == split]


@row("cache", {"cache": "ram", "epochs": 2})
def every_image_is_decoded_once(seen: Watched, place: Place) -> None:
    assert sorted(part_of(seen, "train")) == sorted((place.data.parent / "images/train").iterdir())
    assert seen.only.fit.loader.dataset.cached is not None
    assert "8 images of 64 px in memory" in seen.output and "4 images of 64 px in memory" in seen.output


def twice(place: Place) -> dict[str, Any]:
    place.patch.setenv("YOLOV5_CACHE_DIR", str(place.folder / "caches"))
    train.run(**place.options(name="before", cache="disk"))
    return {"cache": "disk"}


@row("cache", twice)
def no_image_is_decoded_by_the_second_run(seen: Watched, place: Place) -> None:
    assert seen.decoded == [] and len(list((place.folder / "caches").rglob("*.images"))) == 2


@row("cache", {"cache": "val", "epochs": 2})
def only_validation_images_are_kept(seen: Watched, place: Place) -> None:
    assert seen.only.fit.loader.dataset.cached is None and seen.only.fit.validate.loader.dataset.cached is not None
    assert len(part_of(seen, "train")) == 8  # each once: the memory for recent images has them for all other mosaics


@row("workers", {"workers": 1})
def worker_processes_load(seen: Watched, place: Place) -> None:
    assert seen.only.fit.loader.workers == 1 and seen.decoded == []


@row("workers", {"workers": 99})
def workers_are_no_more_than_cores_and_images(seen: Watched, place: Place) -> None:
    assert seen.only.fit.loader.workers == min(core_count(), 4)


# Machine and numbers


@row("device", {"device": "cpu"})
def trains_there(seen: Watched, place: Place) -> None:
    assert {parameter.device.type for parameter in seen.only.state.model.parameters()} == {"cpu"}
    assert f"torch {torch.__version__} CPU" in seen.output


@row("precision", {"precision": "bf16"})
def computes_in_bf16(seen: Watched, place: Place) -> None:
    assert [dtype for _, dtype in seen.inputs] == [torch.bfloat16] * 2
    state = seen.only.state
    assert not state.scaler.is_enabled() and {p.dtype for p in state.model.parameters()} == {torch.float32}


@row("precision", {"precision": "fp16"})
def computes_in_fp16_with_scaled_losses(seen: Watched, place: Place) -> None:
    assert [dtype for _, dtype in seen.inputs] == [torch.float16] * 2
    assert seen.only.state.scaler.is_enabled()


@row("precision", {"precision": "fp32"})
def computes_in_fp32(seen: Watched, place: Place) -> None:
    assert [dtype for _, dtype in seen.inputs] == [None] * 2 and not seen.only.state.scaler.is_enabled()


class Compiled(nn.Module):
    """Stands for what torch.compile returns."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.calls: list[tuple[int, ...]] = []

    def forward(self, images: torch.Tensor) -> Any:
        self.calls.append(tuple(images.shape))
        return self.network(images)


def compiling(place: Place) -> dict[str, Any]:
    place.patch.setattr(torch, "compile", Compiled)
    return {"compile": True}


@row("compile", compiling)
def trains_the_compiled_network(seen: Watched, place: Place) -> None:
    assert isinstance(seen.only.fit.step.forward, Compiled)
    assert seen.only.fit.step.forward.calls == [(4, 3, 64, 64)] * 4  # two of them to compile and time it
    assert "compiled in " in seen.output


@row("seed", {"seed": 1})
def another_seed_starts_elsewhere_and_sees_another_order(seen: Watched, place: Place) -> None:
    key, begun = "model.0.conv.weight", seen.only.start
    train.run(**place.options(name="usual"))
    assert not torch.equal(seen.trainings[1].start[key], begun[key])
    assert seen.batches[2][2] != seen.batches[0][2]


# Files


@row("noval", {"noval": True, "epochs": 3, "patience": 1})
def only_the_last_epoch_is_validated(seen: Watched, place: Place) -> None:
    assert seen.validated == [2]
    unknown = [[name for name, value in line.items() if math.isnan(value)] for line in seen.rows()]
    assert [len(names) for names in unknown] == [7, 7, 0]
    assert all(name.startswith(("metrics/", "val/")) for names in unknown for name in names)
    assert seen.result.images == 4 and (seen.folder / "weights/best.pt").exists()


@row("nosave", {"nosave": True, "epochs": 2})
def nothing_is_saved_before_the_end(seen: Watched, place: Place) -> None:
    assert seen.files == [set(), {"last", "best"}]
    assert seen.checkpoint("best").training is None


@row("nosave", {"epochs": 3})
def without_it_every_epoch_is_saved(seen: Watched, place: Place) -> None:
    assert seen.files == [{"last", "best"}] * 3


@row("save_period", {"save_period": 2, "epochs": 3})
def every_other_epoch_is_kept(seen: Watched, place: Place) -> None:
    assert seen.files[-1] == {"last", "best", "epoch2"}  # v6.1 never keeps epoch 0
    assert seen.checkpoint("epoch2").epoch == 2


@row("noplots", {"noplots": True})
def nothing_is_drawn(seen: Watched, place: Place) -> None:
    files = {path.relative_to(seen.folder).as_posix() for path in seen.folder.rglob("*") if path.is_file()}
    assert files == {"hyp.yaml", "model.yaml", "opt.yaml", "results.csv", "weights/best.pt", "weights/last.pt"}


@row("noautoanchor", {"noautoanchor": True})
def anchors_stay(seen: Watched, place: Place) -> None:
    assert anchors_px(seen)[0] == pytest.approx([10, 13, 16, 30, 33, 23]) and "anchors:" not in seen.output


@row("noautoanchor", {"noautoanchor": False})
def without_it_bad_anchors_are_replaced(seen: Watched, place: Place) -> None:
    assert anchors_px(seen)[0] != pytest.approx([10, 13, 16, 30, 33, 23]) and "anchors: replaced" in seen.output


def anchors_px(seen: Watched) -> list[list[float]]:
    anchors = seen.checkpoint().state["model.6.anchors"].float() * torch.tensor([8.0, 16.0, 32.0]).view(3, 1, 1)
    return [level.flatten().tolist() for level in anchors]


@row("project", lambda place: {"project": str(place.folder / "elsewhere")})
def runs_are_there(seen: Watched, place: Place) -> None:
    assert (place.folder / "elsewhere/exp/weights/last.pt").exists()


@row("name", lambda place: before(place, name="mine"))
def runs_are_called_so_and_numbered(seen: Watched, place: Place) -> None:
    assert (place.folder / "runs/mine/weights/last.pt").exists()
    assert not (seen.folder / "results.csv").exists()
    assert (place.folder / "runs/mine2/weights/last.pt").exists()


def before(place: Place, **options: Any) -> dict[str, Any]:
    (place.folder / "runs" / options.get("name", "exp") / "weights").mkdir(parents=True)
    (place.folder / "runs" / options.get("name", "exp") / "weights/last.pt").touch()
    return options


@row("exist_ok", lambda place: before(place, exist_ok=True))
def runs_may_share_a_folder(seen: Watched, place: Place) -> None:
    assert [path.name for path in (place.folder / "runs").iterdir()] == ["exp"]
    assert seen.checkpoint().names[0] == "circle"


@row("log_to", {"log_to": ["none"]})
def nobody_logs(seen: Watched, place: Place) -> None:
    assert not list(seen.folder.rglob("events.out.*"))


@row("log_to", {"log_to": ["tensorboard"]})
def tensorboard_logs(seen: Watched, place: Place) -> None:
    pytest.importorskip("tensorboard")
    assert len(list(seen.folder.glob("events.out.*"))) == 1


# Searching, and going on


@row("evolve", {"evolve": 2, "name": "search"})
def hyperparameters_are_searched(seen: Watched, place: Place) -> None:
    assert {"hyp_evolve.yaml", "evolve.csv"} <= {path.name for path in seen.folder.iterdir()}
    assert not list(place.folder.rglob("*.pt")) and len(seen.trainings) == 2
    first, second = (training.fit.schedule.hyp for training in seen.trainings)
    assert first.lr0 == 0.01 and second.lr0 != 0.01
    with (seen.folder / "evolve.csv").open() as file:
        assert len(list(csv.reader(file))) == 3
    assert seen.result in (first, second) or seen.result.lr0 in (first.lr0, second.lr0)


@row("evolve_storage", lambda place: {"evolve": 1, "evolve_storage": f"journal:{place.folder / 'study.log'}"})
def the_study_is_shared(seen: Watched, place: Place) -> None:
    assert (place.folder / "study.log").stat().st_size > 0 and not (seen.folder / "study.db").exists()
    again = place.options(evolve=1, evolve_storage=f"journal:{place.folder / 'study.log'}", name="again")
    assert train.run(**again) == seen.result and len(seen.trainings) == 1  # the one trial is done already


def interrupted(place: Place) -> dict[str, Any]:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with place.patch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(fit_module._LossCheck, "check", stop)
        train.run(**place.options())
    return {"resume": str(place.folder / "runs/exp")}


@row("resume", interrupted)
def goes_on_in_the_same_folder(seen: Watched, place: Place) -> None:
    assert [path.name for path in (place.folder / "runs").iterdir()] == ["exp"]
    assert len(seen.rows()) == 1 and seen.checkpoint().training is None


ALONE = {"resume"}  # taken without the usual options, which are those of the run
REFUSED = {"sync_bn": ({"sync_bn": True}, "--sync-bn works with several processes: start them with torchrun")}


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_flag(case, place, known, capsys):
    if callable(case.options):
        seen = observe(place, case.options(place), case.flag in ALONE, capsys)
    else:
        key = repr(sorted((QUICK | case.options).items()))
        known[key] = seen = known.get(key) or observe(place, case.options, False, capsys)
    case.check(seen, place)


def observe(place: Place, options: dict[str, Any], alone: bool, capsys: pytest.CaptureFixture[str]) -> Watched:
    everything = place.options(**options)
    capsys.readouterr()
    seen = run_watched(place.patch, options | {"project": everything["project"]} if alone else everything)
    seen.output = capsys.readouterr().out
    return seen


@pytest.mark.parametrize("flag", REFUSED)
def test_refused_flag(flag, place):
    options, said = REFUSED[flag]
    with pytest.raises(UserError, match=said):
        train.run(**place.options(**options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"warmup": "3.5"}, "--warmup '3.5' is not understood; give the fewest iterations as a number, or auto"),
        ({"warmup": "-1"}, "--warmup '-1'"),
        ({"freeze": [-1]}, "--freeze -1: expected a number of 0 or more"),
        ({"freeze": [8]}, "--freeze 8: the network has the layers 0 to 6"),
        ({"freeze": [7]}, "--freeze 7 leaves no layer to train"),
        ({"batch_size": 0}, "--batch-size 0: give a number of images, or -1"),
        ({"rect": True, "image_weights": True}, "leave one out"),
        ({"evolve_storage": "journal:x"}, "--evolve-storage is for --evolve"),
        ({"evolve": 2, "resume": "runs/exp"}, "--evolve goes on with the search of --project and --name"),
        ({"optimizer": "adam"}, "--optimizer adam: expected one of SGD, Adam, AdamW"),
        ({"cache": "disc"}, "--cache disc: expected one of ram, disk, val"),
        ({"precision": "fp8"}, "--precision fp8: expected one of auto, fp32, fp16, bf16"),
        ({"device": "gpu"}, "--device 'gpu' is not understood"),
        ({"log_to": ["wandbb"]}, "--log-to wandbb: expected one of"),
        ({"seed": -1}, "--seed -1"),
        ({"save_period": -2}, "--save-period -2"),
        ({"evolve": 0}, "--evolve 0: expected a number of 1 or more"),
        ({"insert": ["NAMAttention"]}, "NAMAttention"),
        ({"plugins": ["nowhere.py"]}, "nowhere.py"),
    ],
)
def test_wrong_values_leave_no_folder(place, options, said):
    with pytest.raises(UserError) as error:
        train.run(**place.options(**options))
    assert said in str(error.value) and "\n" not in str(error.value)
    assert not (place.folder / "runs").exists()


def test_every_flag_is_tested():
    flags = [field.name for field in dataclasses.fields(TrainOptions)]
    assert set(flags) == {case.flag for case in ROWS} | set(REFUSED)


# The command line


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [  # what users of v6.1 type
        *((["--img", "64"], "imgsz", 64), (["--imgs", "64"], "imgsz", 64), (["--img-size", "64"], "imgsz", 64)),
        *(
            (["--batch", "4"], "batch_size", 4),
            (["--epoch", "1"], "epochs", 1),
            (["--weight", "a.pt"], "weights", "a.pt"),
        ),
        *(
            (["--dat", "a.yaml"], "data", "a.yaml"),
            (["--cach"], "cache", "ram"),
            (["--cache", "disk"], "cache", "disk"),
        ),
        *((["--evolve"], "evolve", 300), (["--evolve", "2"], "evolve", 2), (["--res"], "resume", "newest")),
        *((["--opt", "Adam"], "optimizer", "Adam"), (["--pat", "5"], "patience", 5), (["--proj", "a"], "project", "a")),
        *((["--image"], "image_weights", True), (["--multi"], "multi_scale", True), (["--single"], "single_cls", True)),
        *((["--sync"], "sync_bn", True), (["--cos"], "cos_lr", True), (["--label", "0.1"], "label_smoothing", 0.1)),
        *((["--exist"], "exist_ok", True), (["--save", "3"], "save_period", 3), (["--work", "0"], "workers", 0)),
        *((["--noauto"], "noautoanchor", True), (["--nosav"], "nosave", True), (["--nov"], "noval", True)),
        *((["--dev", "cpu"], "device", "cpu"), (["--free", "0", "3"], "freeze", [0, 3]), (["--hyp", "h"], "hyp", "h")),
    ],
)
def test_abbreviations(words, name, value):
    parsed = vars(build_parser("train.py", TrainOptions, "").parse_args(words))
    assert make_options(TrainOptions, parsed) == dataclasses.replace(TrainOptions(), **{name: value})


UNSUPPORTED = [
    (["--bucket", "gs://x"], "--evolve-storage"),
    (["--entity", "x"], "WANDB_ENTITY"),
    (["--upload_dataset"], "--log-to wandb"),
    (["--upload_dataset", "val"], "--log-to wandb"),
    (["--bbox_interval", "3"], "--log-to wandb"),
    (["--artifact_alias", "x"], "--data"),
    (["--local_rank", "0"], "torchrun"),
    (["--local_rank=0"], "torchrun"),
    (["--local-rank=0"], "torchrun"),
    (["--adam"], "--optimizer Adam"),
    (["--evolve_population", "x"], "--evolve-storage"),
    (["--resume_evolve", "x"], "--exist-ok"),
]


@pytest.mark.parametrize(
    ("words", "instead"), UNSUPPORTED, ids=lambda value: value[0] if isinstance(value, list) else ""
)
def test_flags_of_v61_that_are_missing_say_what_to_use(words, instead, capsys):
    with pytest.raises(SystemExit) as end:
        build_parser("train.py", TrainOptions, "").parse_args(["--img", "64", *words, "--epochs", "1"])
    said = capsys.readouterr().err
    flag = words[0].split("=")[0]
    assert end.value.code == 2 and said.count("\n") == 1
    assert said.startswith(f"train.py: error: {flag} is not supported; ") and instead in said


@pytest.mark.parametrize("name", TrainOptions.unsupported)
def test_python_callers_hear_it_too(name):
    with pytest.raises(UserError, match=f"unknown option '{name}'; .*use|start"):
        train.run(**{name: "x"})
    assert name in {words[0].split("=")[0].lstrip("-").replace("-", "_") for words, _ in UNSUPPORTED}


def test_a_search_does_not_go_into_the_folder_of_a_run(place):
    (place.folder / "runs/exp/weights").mkdir(parents=True)
    with pytest.raises(UserError, match="is the folder of a training run"):
        train.run(**place.options(evolve=1, exist_ok=True))
