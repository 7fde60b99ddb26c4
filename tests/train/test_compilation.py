"""--compile."""

import pytest
import torch
import yaml
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed

import train
from tests.train.watching import QUICK, SMALL, run_watched
from utils.log import set_up_logging
from utils.train.compilation import compile_network


@pytest.fixture(autouse=True)
def logging():
    set_up_logging()


class Compiled(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)


def test_compiles_measures_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch, "compile", Compiled)
    network, calls = nn.Linear(2, 2), []
    compiled = compile_network(network, calls.append, torch.device("cpu"))
    assert isinstance(compiled, Compiled) and calls == [compiled, compiled, network]
    first, second = capsys.readouterr().out.splitlines()
    assert first == "compiling the network, which takes minutes ..."
    assert second.startswith("compiled in 0 s; a batch takes 0.00 s in place of 0.00 s, so this ")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("no compiler\nlong\ntrace"), "no compiler"),
        (BackendCompilerFailed(lambda: None, ValueError("bad"), []), "backend="),
        (AssertionError(), "AssertionError"),
    ],
)
def test_goes_on_without_where_compiling_fails(monkeypatch, capsys, error, said):
    monkeypatch.setattr(torch, "compile", Compiled)

    def fail(_: nn.Module) -> None:
        raise error

    network = nn.Linear(2, 2)
    assert compile_network(network, fail, torch.device("cpu")) is network
    _, line = capsys.readouterr().out.splitlines()
    assert line.startswith("WARNING: --compile: torch.compile failed: ") and said in line
    assert line.endswith("going on without")


def test_compiles_for_the_batches_it_will_see(tiny_dataset, tiny_cfg, tmp_path, monkeypatch):
    shapes = []

    class Noting(Compiled):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shapes.append(tuple(x.shape))
            return super().forward(x)

    monkeypatch.setattr(torch, "compile", Noting)
    options = {"data": str(tiny_dataset), "cfg": str(tiny_cfg), "project": str(tmp_path), "compile": True}
    train.run(**QUICK | options | {"quad": True})
    assert set(shapes) == {(1, 3, 128, 128)}


@pytest.mark.slow
def test_a_compiled_run_trains_to_nearly_the_same_weights(tiny_dataset, tmp_path, monkeypatch, capsys):
    cfg = tmp_path / "small.yaml"
    cfg.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    options = {"data": str(tiny_dataset), "cfg": str(cfg), "project": str(tmp_path), "epochs": 2}
    seen = run_watched(monkeypatch, QUICK | options | {"compile": True, "batch_size": 64})
    output = capsys.readouterr().out
    if "torch.compile failed" in output:
        pytest.skip(next(line for line in output.splitlines() if "torch.compile failed" in line))
    assert "compiled in" in output
    train.run(**QUICK | options | {"name": "plain", "batch_size": 64})
    compiled, plain = (training.state.model.state_dict() for training in seen.trainings)
    assert all(torch.equal(seen.trainings[0].start[name], value) for name, value in seen.trainings[1].start.items())
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4)
