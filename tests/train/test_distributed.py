"""Two processes that train together compute what one would: steps, validation, whole runs, and runs that end badly.

What happens within processes is computed once, by a pair of them that the ``pair`` fixture starts. Whole runs are
started by torchrun, as users do.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from torch import distributed as dist
from torch import nn

import train
from models.yolo import Model
from tests.train.watching import QUICK
from utils.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from utils.data.config import load_dataset_config
from utils.data.loader import Batch
from utils.data.splits import load_samples
from utils.distributed import Processes
from utils.errors import UserError
from utils.eval.evaluate import Evaluation, EvaluationSettings, evaluate
from utils.files import ROOT
from utils.options import make_options
from utils.train.ema import ModelAverage
from utils.train.fit import Fit
from utils.train.hyperparameters import Hyperparameters
from utils.train.options import TrainOptions
from utils.train.resume import find_restarted, resumed_options
from utils.train.run import Run
from utils.train.setup import Setup
from utils.train.step import TrainingStep
from utils.train.sync_norm import SharedBatchNorm2d, SharedSum

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Material:
    """What a computation may use; the same in all processes."""

    data: str
    config: dict[str, Any]
    nam_config: dict[str, Any]

    def run(
        self,
        processes: Processes,
        images: int = 8,
        labelled: Callable[[int], bool] = lambda _: True,
        nam: bool = False,
        hyp: Hyperparameters | None = None,
        **options: Any,
    ) -> Run:
        """Return a run on the first ``images`` training images, also validated, of which some keep their labels."""
        config = load_dataset_config(self.data)
        samples = load_samples(config, "train")[:images]
        none = np.zeros((0, 5), np.float32)
        samples = [one if labelled(number) else replace(one, labels=none) for number, one in enumerate(samples)]
        chosen = make_options(TrainOptions, QUICK | {"data": self.data, "sync_bn": processes.size > 1} | options)
        torch.manual_seed(0)
        model = Model(self.nam_config if nam else self.config)
        found = {"train": samples, "val": samples}
        return Run(Setup(chosen, hyp or Hyperparameters(), config, found, CPU, processes), model)


def fix_norms(model: nn.Module) -> None:
    """Have norms use their running statistics, so that gradients do not depend on which images share a batch."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.eval()


class Exact(nn.Module):
    """A network in double precision."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        return self.network(images.double())


def gradients(
    material: Material, processes: Processes, norms_fixed: bool = False, exact: bool = True, **settings: Any
) -> dict[str, Any]:
    """Return gradients of all batches of an epoch, gathered, and the loss, a row of its parts for each batch.

    Batch norm over few values magnifies what rounding does to their sum, a thousandfold: hence ``exact`` networks.
    """
    run = material.run(processes, **settings)
    if exact:
        run.model.double()
    state = run._initial_state()
    fit = run._fit(state)
    if exact:
        fit = replace(fit, step=replace(fit.step, forward=Exact(fit.step.forward)))
    state.model.train()
    if norms_fixed:
        fix_norms(state.model)
    parts = [fit.step(state, batch, number)[1] for number, batch in enumerate(fit.loader)]
    found = {name: one.grad for name, one in state.model.named_parameters() if one.grad is not None}
    return found | {"parts": processes.sum(torch.stack(parts))}


STEPS: dict[str, dict[str, Any]] = {
    "an even batch": {"images": 4},
    "an odd batch": {"images": 3},
    "a process without labels": {"images": 4, "rect": True, "labelled": lambda number: number % 2 == 0},
    "no labels": {"images": 2, "rect": True, "labelled": lambda number: False},
    "two batches in one step": {"images": 8},
    "quad": {"images": 8, "batch_size": 8, "quad": True, "norms_fixed": True, "sync_bn": False},
    "multi-scale": {"images": 4, "multi_scale": True, "norms_fixed": True, "sync_bn": False},
    "a penalty": {"images": 3, "nam": True, "hyp": Hyperparameters(nam_l1=0.01), "norms_fixed": True, "sync_bn": False},
    "single precision": {"images": 3, "norms_fixed": True, "exact": False, "sync_bn": False},
}


def norm_input(images: slice, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.randn(5, 6, 4, 3, generator=generator) * 2 + 50)[images].to(dtype).requires_grad_()


def normalised(norm: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what a norm makes of ``x``, and all gradients of a loss."""
    norm.train()
    for _ in range(2):
        y = norm(x)
    (y.float() ** 3).sum().backward()
    found = {"output": y.detach(), "input": x.grad, **{f"d{name}": one.grad for name, one in norm.named_parameters()}}
    return found | dict(norm.named_buffers())


def fresh_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(6, eps=1e-3, momentum=0.03)
    nn.init.uniform_(norm.weight, 0.5, 1.5, torch.Generator().manual_seed(1))
    return norm


def shared_norm(processes: Processes, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Run SharedBatchNorm2d over a batch shared out as 3 + 2 images; gradients of its parameters are summed."""
    mine = slice(0, 3) if processes.is_main else slice(3, 5)
    found = normalised(SharedBatchNorm2d.like(fresh_norm()), norm_input(mine, dtype))
    return {name: processes.sum(value) if name in ("dweight", "dbias") else value for name, value in found.items()}


def scored_batches(count: int) -> list[Batch]:
    """Return batches whose first pixels tell a network where their boxes are, nearly."""
    generator, batches = torch.Generator().manual_seed(7), []
    for size in [2] * (count - 1) + [1]:
        images = torch.randint(0, 255, (size, 3, 64, 64), generator=generator, dtype=torch.uint8)
        boxes = torch.rand(size, 4, generator=generator) * 0.3 + 0.3
        images[:, 0, 0, :4] = (boxes * 255).byte()
        targets = torch.cat(
            (torch.arange(size)[:, None], torch.randint(0, 3, (size, 1), generator=generator), boxes), 1
        )
        geometry = ([f"{number}.jpg" for number in range(size)], [(64, 64)] * size, [1.0] * size, [(0.0, 0.0)] * size)
        batches.append(Batch(images, targets.float(), *geometry))
    return batches


def see(images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return (B, 12, 5 + 3) rows: the box that is there, the more beside it the surer, and any class."""
    offsets = torch.linspace(-9, 9, 12)
    noise = images[:, 1, :12, :4].contiguous()  # (B, 12, 4)
    boxes = images[:, None, 0, 0, :4] * 64 + offsets[None, :, None] * (noise - 0.3)
    return torch.cat((boxes, images[:, 2, :12, :1], images[:, 1, 20:32, 5:8]), 2), [images]


def evaluated(processes: Processes, batches: int) -> Evaluation:
    mine = scored_batches(batches)[processes.rank :: processes.size]
    names = dict(enumerate(("circle", "square", "star")))
    return evaluate(
        see,
        mine,
        names,
        EvaluationSettings(iou=0.9),
        lambda raw, targets: (raw[0].sum(), torch.stack((raw[0].mean(), targets.mean(), targets.max()))),
        processes=processes,
    )


def validated(material: Material, processes: Processes) -> tuple[float, ...]:
    """Return the results of a network on five images in batches of two."""
    run = material.run(processes, images=5, batch_size=2)
    run.setup.options.batch_size = 1  # validation batches are twice as large
    state = run._initial_state()
    return run._fit(state).validate(state.average.model).results


class Drawing(TrainingStep):
    """A step that notes what a dropout layer would draw."""

    draws: ClassVar[list[float]] = []

    def __call__(self, state, batch, number):
        self.draws.append(torch.rand(1).item())
        return super().__call__(state, batch, number)


def stopped(material: Material, processes: Processes) -> dict[str, Any]:
    """Train until patience ends, with a fitness that falls; return the epochs, the draws and the validated weights."""
    run = material.run(processes, epochs=6, patience=2, sync_bn=False)
    state = run._initial_state()
    fit: Fit = run._fit(state)
    Drawing.draws = []
    fit = replace(fit, step=Drawing(**vars(fit.step)))
    scores = iter([0.3, 0.2, 0.2, 0.2, 0.2, 0.2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluation, "fitness", property(lambda _: next(scores)))
        fit(state)
    return {"epochs": state.epoch, "draws": Drawing.draws, "state": state.average.model.state_dict()}


def few_images(material: Material, processes: Processes, images: int) -> dict[str, torch.Tensor]:
    """Train two epochs on fewer images than processes, or with a last batch of fewer."""
    run = material.run(processes, images=images, batch_size=2, epochs=2, sync_bn=False)
    state = run._initial_state()
    run._fit(state)(state)
    return state.model.state_dict()


def complaint(processes: Processes) -> str:
    """Return what comes of it when the processes see different data."""
    try:
        processes.check_same(runs=1, training_images=8 - processes.rank)
    except (UserError, SystemExit) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def everything(material: Material, processes: Processes) -> dict[str, Any]:
    """Compute what the tests look at."""
    return {
        **{name: gradients(material, processes, **settings) for name, settings in STEPS.items()},
        **{f"evaluation {count}": evaluated(processes, count) for count in (1, 3)},
        "validation": validated(material, processes),
        "stopped": stopped(material, processes),
        "one image": few_images(material, processes, 1),
        "three images": few_images(material, processes, 3),
    }


def work(rank: int, material: Material, folder: str) -> None:
    """Be one process of the pair: compute everything, and leave it in a file."""
    torch.set_num_threads(1)
    processes = Processes(rank, 2, rank, 2, store=dist.FileStore(f"{folder}/store", 2))
    with processes.connected(CPU):
        found = everything(material, processes)
        for dtype in (torch.float32, torch.bfloat16):
            found[f"norm {dtype}"] = shared_norm(processes, dtype)
        own = torch.tensor([1.0 + rank], requires_grad=True)
        (SharedSum.apply(own) * (rank + 1)).backward()
        found["sum"] = (processes.sum(torch.tensor([1.0 + rank])), own.grad)
        found["shared"] = (processes.broadcast(f"of {rank}"), processes.gather(rank))
        found["complaint"] = complaint(processes)
        torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="session")
def material(tiny_dataset, tiny_config, tiny_nam_config) -> Material:
    return Material(str(tiny_dataset), tiny_config, tiny_nam_config)


@pytest.fixture(scope="session")
def pair(material, tmp_path_factory) -> list[dict[str, Any]]:
    """Return what each of two processes found."""
    folder = tmp_path_factory.mktemp("pair")
    torch.multiprocessing.spawn(work, (material, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.fixture(scope="session")
def alone(material, pair) -> dict[str, Any]:
    """Return what one process finds."""
    return everything(material, Processes())


def largest_difference(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """Return the largest difference, as a share of the largest value."""
    assert ours.keys() == theirs.keys()
    largest = max(value.abs().max().item() for value in theirs.values())
    return max((ours[name] - value).abs().max().item() for name, value in theirs.items()) / largest


@pytest.mark.slow
@pytest.mark.parametrize("case", STEPS)
def test_gradients_of_two_processes_are_those_of_one(pair, alone, case):
    assert largest_difference(pair[0][case], alone[case]) < 1e-6
    assert largest_difference(pair[0][case], pair[1][case]) == 0
    assert max(value.abs().max() for value in alone[case].values()) > 1e-4


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 2e-2)])
def test_shared_batch_norm_is_batch_norm_over_all_images(pair, dtype, tolerance):
    expected = normalised(fresh_norm(), norm_input(slice(None), dtype))
    for name in ("output", "input"):
        both = torch.cat([found[f"norm {dtype}"][name] for found in pair])
        assert both.dtype == dtype
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(both, expected[name], rtol=0, atol=tolerance * scale)
    for name in ("dweight", "dbias", "running_mean", "running_var", "num_batches_tracked"):
        for found in (one[f"norm {dtype}"] for one in pair):
            scale = max(expected[name].abs().max().item(), 1.0)
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=tolerance * scale)


def test_sums_carry_the_gradients_of_all(pair):
    assert all(found["sum"] == (torch.tensor([3.0]), torch.tensor([3.0])) for found in pair)
    assert [found["shared"] for found in pair] == [("of 0", [0, 1]), ("of 0", None)]


@pytest.mark.parametrize("batches", [1, 3])
def test_shared_evaluation_is_that_of_one_process_to_the_bit(pair, alone, batches):
    expected = alone[f"evaluation {batches}"]
    assert expected.map50 > 0.1
    for found in (one[f"evaluation {batches}"] for one in pair):
        assert found.results == expected.results and found.class_ap == expected.class_ap
        assert found.images == expected.images and found.label_counts.tolist() == expected.label_counts.tolist()
        assert np.array_equal(found.confusion.matrix, expected.confusion.matrix)
        for name, value in vars(expected.metrics).items():
            assert np.array_equal(np.asarray(getattr(found.metrics, name)), np.asarray(value)), name


def test_shared_validation_of_a_network_is_that_of_one_process_to_the_bit(pair, alone):
    assert pair[0]["validation"] == pair[1]["validation"] == alone["validation"]
    assert alone["validation"][-1] > 0


def test_early_stopping_stops_both_with_the_same_weights(pair, alone):
    assert [found["stopped"]["epochs"] for found in (*pair, alone)] == [3, 3, 3]
    ours, theirs = (found["stopped"]["state"] for found in pair)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_each_process_draws_its_own_numbers_in_each_epoch(pair, alone):
    draws = [found["stopped"]["draws"] for found in pair]
    assert len(set(draws[0] + draws[1])) == 2 * 3 * 2  # processes, epochs, batches
    assert draws[0] == alone["stopped"]["draws"]


@pytest.mark.parametrize("case", ["one image", "three images"])
def test_fewer_images_than_processes(pair, alone, case):
    ours, theirs = (found[case] for found in pair)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(value.isfinite().all() for value in ours.values())
    assert any(not torch.equal(ours[name], alone["stopped"]["state"][name]) for name in ours)


def test_different_data_is_refused(pair):
    message = "UserError: training images: process 1 has 7, process 0 has 8; data and the folder of runs must be"
    assert pair[0]["complaint"].startswith(message)
    assert pair[1]["complaint"] == "SystemExit: 1"


def test_a_batch_smaller_than_the_number_of_processes_is_refused(monkeypatch):
    for name, value in {"RANK": 0, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(UserError, match="--batch-size 3 is for all 4 processes together"):
        train.run(**QUICK | {"batch_size": 3})


# Whole runs, as users start them


class Torchrun:
    """Two processes started by torchrun, whose output is in a file.

    Args:
        folder: for the output.
        agent: options of torchrun.
        options: of train.py.
    """

    def __init__(self, folder: Path, *agent: str, processes: int = 2, **options: Any) -> None:
        self.file = folder / "output.txt"
        words = [word for name, value in (QUICK | options).items() for word in _words(name, value)]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        with self.file.open("w") as stream:
            self.process = subprocess.Popen(
                [*command, *agent, "train.py", *words], cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        """What was printed so far."""
        return self.file.read_text()

    def wait_for(self, pattern: str) -> None:
        """Wait until a line of the output matches."""
        end = time.monotonic() + 90
        while not re.search(pattern, self.output) and time.monotonic() < end and self.process.poll() is None:
            time.sleep(0.05)
        assert re.search(pattern, self.output), self.output

    def workers(self) -> list[int]:
        """Return the ids of the training processes, in order of rank."""
        listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return sorted(int(word) for word in listed.stdout.split())

    def end(self) -> int:
        """Wait for the end; return the exit code."""
        try:
            return self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"hangs after:\n{self.output}") from None

    def errors(self) -> list[str]:
        """Return our error lines."""
        return [line for line in self.output.splitlines() if line.startswith("train.py: error")]


def _words(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag] * value
    return [flag, *map(str, value if isinstance(value, list) else [value])]


def rows(folder: Path) -> np.ndarray:
    return np.loadtxt(folder / "results.csv", delimiter=",", skiprows=1, ndmin=2)


def same_weights(first: Path, second: Path) -> bool:
    one, two = (read_checkpoint(folder / "weights/last.pt").state for folder in (first, second))
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture
def task(tiny_dataset, tiny_cfg, tmp_path) -> dict[str, str]:
    return {"data": str(tiny_dataset), "cfg": str(tiny_cfg), "project": str(tmp_path / "runs")}


def test_a_run_of_two_processes_is_that_of_one(task, tmp_path):
    run = Torchrun(tmp_path, **task, epochs=2, sync_bn=True)
    train.run(**QUICK | task | {"epochs": 2, "name": "alone"})
    assert run.end() == 0, run.output
    together, alone = (tmp_path / "runs" / name for name in ("exp", "alone"))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["alone", "exp"]
    assert sorted(path.name for path in together.rglob("*.pt")) == ["best.pt", "last.pt"]
    np.testing.assert_allclose(rows(together), rows(alone), rtol=1e-3, atol=1e-6)
    assert run.output.count("Results saved to") == 1 and run.output.count("Model Summary") == 1
    ours, theirs = (read_checkpoint(folder / "weights/last.pt").state for folder in (together, alone))
    assert (
        largest_difference(
            {name: value.float() for name, value in ours.items()},
            {name: value.float() for name, value in theirs.items()},
        )
        < 1e-3
    )  # one FP16 step


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_reported_once(task, tmp_path):
    hyp = tmp_path / "hyp.yaml"
    hyp.write_text("lr0: 1.0e+38\nwarmup_bias_lr: 1.0e+38\n")
    run = Torchrun(tmp_path, **task, epochs=3, hyp=hyp)
    assert run.end() == 1
    (line,) = run.errors()
    assert re.search(r"the loss is not finite in epoch 0, batch \d \(box .*\); lower lr0", line)
    assert not re.search(r'File "\S*(train|utils|models)/', run.output)


@pytest.mark.slow
def test_a_mistake_of_the_user_is_reported_once(task, tmp_path):
    run = Torchrun(tmp_path, **task, hyp=tmp_path / "absent.yaml")
    assert run.end() == 1
    assert len(run.errors()) == 1 and "absent.yaml' does not exist" in run.errors()[0]


@pytest.mark.slow
def test_a_failure_of_one_process_ends_both(task, tmp_path, tiny_dataset):
    folder = tmp_path / "data"
    shutil.copytree(tiny_dataset.parent, folder)
    data = folder / "gone.yaml"
    data.write_text(yaml.safe_dump(yaml.safe_load(tiny_dataset.read_text()) | {"path": str(folder)}))
    run = Torchrun(tmp_path, **task | {"data": data}, epochs=200)
    run.wait_for(r" 1/199 .*images/s")
    next((folder / "images/val").iterdir()).unlink()  # one process reads it anew each epoch; training images are kept
    assert run.end() == 1
    assert len(run.errors()) == 2, run.output
    assert re.search(r"error: (process 1: )?'.*' can no longer be read as an image", run.output)
    assert re.search(r"error: process [01]: another process of this run is gone; its message says why", run.output)
    assert not re.search(r'File "\S*(train|utils|models)/', run.output)


@pytest.mark.slow
def test_an_interrupted_run_goes_on_with_two_processes_and_with_one(task, tmp_path):
    run = Torchrun(tmp_path, **task, epochs=30, name="whole")
    assert run.end() == 0
    run = Torchrun(tmp_path, **task, epochs=30)
    run.wait_for(r" 1/29 .*images/s")
    run.process.send_signal(signal.SIGINT)
    start = time.monotonic()
    run.end()
    assert time.monotonic() - start < 10
    assert run.errors() == ["train.py: error: interrupted"], run.output
    assert run.output.count("python train.py --resume") == 1
    folder = tmp_path / "runs/exp"
    shutil.copytree(folder, tmp_path / "runs/copy")
    words = ["train.py", "--resume", str(folder)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    subprocess.run([*command, *words], cwd=ROOT, check=True, capture_output=True, timeout=90)
    whole = tmp_path / "runs/whole"
    assert (folder / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    assert same_weights(folder, whole)
    train.run(resume=str(tmp_path / "runs/copy"))
    assert len(rows(tmp_path / "runs/copy")) == 30


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_torchrun_restarts_a_killed_run_and_it_goes_on_by_itself(task, tmp_path, victim):
    assert Torchrun(tmp_path, **task, epochs=5, name="whole").end() == 0
    run = Torchrun(tmp_path, "--max-restarts=1", **task, epochs=5, name="killed")
    run.wait_for(r" 1/4 .*images/s")
    os.kill(run.workers()[victim], signal.SIGKILL)
    assert run.end() == 0, run.output
    killed, whole = (tmp_path / "runs" / name for name in ("killed", "whole"))
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["killed", "whole"]
    assert re.search(r"Going on with \S*killed after [12] epochs", run.output)
    assert (killed / "results.csv").read_bytes() == (whole / "results.csv").read_bytes()
    assert same_weights(killed, whole)


# Which run a restart goes on with


@pytest.fixture
def leave(tiny_dataset, tiny_config, tmp_path) -> Callable[..., TrainOptions]:
    """Return what leaves a run of the given options in the project's folder."""
    model = Model(tiny_config)
    order = iter(range(1, 100))

    def leave(name: str, is_over: bool = False, **options: Any) -> None:
        chosen = vars(
            make_options(TrainOptions, QUICK | {"data": str(tiny_dataset), "project": str(tmp_path)} | options)
        )
        stored = {name: value for name, value in chosen.items() if name != "_given"}
        training = None if is_over else {"model": model.state_dict(), "epoch": 3}
        names = {index: str(index) for index in range(10)}
        checkpoint = Checkpoint(
            ModelAverage(model).model.state_dict(), model.yaml, names, [8.0, 16.0, 32.0], stored, training=training
        )
        file = tmp_path / name / "weights/last.pt"
        write_checkpoint(file, checkpoint)
        os.utime(file, (next(order),) * 2)

    return leave


def test_a_restart_goes_on_in_the_folder_of_its_run(leave, tmp_path):
    leave("run", seed=1)
    found = find_restarted(tmp_path / "run")
    assert found.folder == tmp_path / "run" and found.epochs_done == 3
    assert resumed_options(found, TrainOptions()).seed == 1


def test_a_restart_begins_anew_without_a_checkpoint(tmp_path):
    assert find_restarted(tmp_path / "run") is None


def test_a_restart_does_not_train_a_finished_run_again(leave, tmp_path):
    leave("over", is_over=True)
    with pytest.raises(UserError, match=r"over' is over; measure it with val\.py --weights"):
        find_restarted(tmp_path / "over")


def test_the_run_folder_is_known_after_a_restart_only(tmp_path):
    store = torch.distributed.HashStore()
    first, second = (Processes(0, 2, restarts=restarts, lasting=store) for restarts in (0, 1))
    assert second.remembered_run() is None  # it failed before it had one
    first.remember_run(tmp_path)
    assert first.remembered_run() is None and second.remembered_run() == tmp_path
    assert Processes().remembered_run() is None
