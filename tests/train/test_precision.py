"""The number format that training computes in."""

import copy

import pytest
import torch
from torch import nn

from models.yolo import Model
from utils.log import set_up_logging
from utils.train import precision as precision_module
from utils.train.precision import Precision, choose_precision

CPU = torch.device("cpu")


class Head(nn.Module):
    """A stand-in for a detector, whose raw outputs are off by ``error`` of their largest value under autocast."""

    def __init__(self, error: float = 0.0) -> None:
        super().__init__()
        self.error = error
        self.calls: list[tuple[bool, bool]] = []  # autocast? training?

    def __deepcopy__(self, _: dict) -> "Head":
        return self

    def forward(self, images: torch.Tensor) -> tuple[None, list[torch.Tensor]]:
        rounded = torch.is_autocast_enabled("cpu")
        self.calls.append((rounded, self.training))
        outputs = torch.tensor([1.0, -4.0, 2.0])
        return None, [outputs * 2, outputs + 4 * self.error * rounded]


@pytest.fixture
def support(monkeypatch):
    """Set which BF16 instructions the CPU has."""

    def say(avx512: bool, amx: bool) -> None:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)

    return say


@pytest.mark.parametrize(
    ("avx512", "amx", "dtype"),
    [(False, False, None), (True, False, torch.bfloat16), (False, True, torch.bfloat16), (True, True, torch.bfloat16)],
)
def test_auto_takes_bf16_where_the_cpu_has_it(support, avx512, amx, dtype):
    support(avx512, amx)
    assert choose_precision("auto", Head(), CPU, 64) == Precision(dtype, "cpu")


def test_auto_is_fp32_where_torch_cannot_tell(monkeypatch):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert choose_precision("auto", Head(), CPU, 64).dtype is None


@pytest.mark.parametrize(("request_", "device", "dtype"), [("auto", "cuda", torch.float16), ("auto", "mps", None)])
def test_auto_on_other_devices(monkeypatch, request_, device, dtype):
    monkeypatch.setattr(precision_module, "_agrees", lambda *_: True)
    assert choose_precision(request_, Head(), torch.device(device), 64) == Precision(dtype, device)


@pytest.mark.parametrize(("request_", "dtype"), [("fp32", None), ("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_what_is_asked_for_is_taken(support, request_, dtype):
    support(False, False)
    chosen = choose_precision(request_, Head(), CPU, 64)
    assert chosen == Precision(dtype, "cpu") and chosen.scales_losses == (dtype == torch.float16)
    with chosen.autocast():
        assert torch.is_autocast_enabled("cpu") == (dtype is not None)
        assert dtype is None or torch.get_autocast_dtype("cpu") == dtype
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("error", "agrees"), [(0.0, True), (0.09, True), (0.11, False), (float("nan"), False)])
def test_fp32_in_one_line_when_outputs_differ(error, agrees, capsys):
    set_up_logging()
    head = Head(error)
    chosen = choose_precision("bf16", head, CPU, 64)
    said = capsys.readouterr().out
    assert head.calls == [(False, False), (True, False)]
    assert (chosen.dtype == torch.bfloat16) == agrees and (said == "") == agrees
    if not agrees:
        assert said == "WARNING: torch.bfloat16 gives other outputs than FP32 on this device; training in FP32\n"


def test_fp32_when_an_operation_is_missing(capsys):
    set_up_logging()

    class Lacking(Head):
        def forward(self, images):
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("\"odd_op\" not implemented for 'BFloat16'")
            return super().forward(images)

    assert choose_precision("bf16", Lacking(), CPU, 64).dtype is None
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize("request_", ["bf16", "fp16"])
def test_a_real_network_agrees_and_stays_as_it_is(tiny_config, request_):
    torch.manual_seed(0)
    model = Model(tiny_config).train()
    before = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    assert choose_precision(request_, model, CPU, 64).dtype is not None
    assert model.training and all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
