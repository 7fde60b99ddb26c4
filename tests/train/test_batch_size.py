"""--batch-size -1: batch sizes from memory that is told, measured, short or missing."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import utils.memory
import utils.train.batch_size as module
from models.yolo import Model
from utils.errors import UserError
from utils.memory import available_memory, is_out_of_memory, peak_memory
from utils.train.batch_size import choose_batch_size, preferred

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")
MB = 10**6


@pytest.fixture
def lines(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("yolov5"), "propagate", True)
    caplog.set_level(logging.INFO, logger="yolov5")
    return lambda: [record.getMessage() for record in caplog.records]


class FakeGpu:
    """Memory that training steps take: so much for gradients, so much an image."""

    def __init__(self, free: int, an_image: int, fixed: int = 0, fails_above: int = 10**9) -> None:
        self.free, self.an_image, self.fixed, self.fails_above = free, an_image, fixed, fails_above
        self.present, self.peak, self.steps = 50 * MB, 0, []

    def step(self, size: int) -> None:
        self.steps.append(size)
        wanted = self.fixed + size * self.an_image
        if wanted > self.free or size > self.fails_above:
            self.peak = self.present + self.free
            raise torch.cuda.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {wanted} bytes")
        self.peak = self.present + wanted

    def install(self, patch: pytest.MonkeyPatch) -> "FakeGpu":
        def reset(_: torch.device) -> None:
            self.peak = self.present

        patch.setattr(torch.cuda, "mem_get_info", lambda _: (self.free, 2 * self.free))
        patch.setattr(torch.cuda, "memory_allocated", lambda _: self.present)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda _: self.peak)
        patch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
        patch.setattr(torch.cuda, "empty_cache", lambda: None)
        patch.setattr(torch.cuda, "get_rng_state", lambda _: None)
        patch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
        return self


class FakeMachine:
    """Main memory: a peak that only ever grows, from what the process held before."""

    def __init__(self, free: int, an_image: int, held: int = 0, peak: int = 0, fails_above: int = 10**9) -> None:
        self.free, self.an_image, self.held, self.peak, self.fails_above = free, an_image, held, peak, fails_above
        self.steps: list[int] = []

    def step(self, size: int) -> None:
        self.steps.append(size)
        if size > self.fails_above:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")
        self.peak = max(self.peak, self.held + size * self.an_image)

    def install(self, patch: pytest.MonkeyPatch) -> "FakeMachine":
        patch.setattr(module, "available_memory", lambda: self.free)
        patch.setattr(module, "peak_memory", lambda: self.peak)
        return self


@pytest.mark.parametrize(
    "size, expected",
    [(1, 1), (2, 2), (3, 2), (7, 4), (16, 16), (31, 16), (63, 32), (64, 64), (127, 64), (128, 128), (200, 192)],
)
def test_preferred_sizes_make_64(size, expected):
    assert preferred(size) == expected


@pytest.mark.parametrize(
    "gpu, largest, expected",
    [
        (FakeGpu(free=10_000 * MB, an_image=100 * MB), 10_000, 64),  # 80 would be 0.8 of it
        (FakeGpu(free=10_000 * MB, an_image=100 * MB, fixed=2000 * MB), 10_000, 32),  # 60
        (FakeGpu(free=80_000 * MB, an_image=300 * MB), 10_000, 192),  # 213
        (FakeGpu(free=10_000 * MB, an_image=100 * MB), 40, 32),  # no more than images
        (FakeGpu(free=10_000 * MB, an_image=100 * MB), 1, 1),
        (FakeGpu(free=10_000 * MB, an_image=1000), 100_000, 1024),
        (FakeGpu(free=700 * MB, an_image=100 * MB), 10_000, 4),  # 8 does not fit
        (FakeGpu(free=150 * MB, an_image=100 * MB), 10_000, 1),
        (FakeGpu(free=10_000 * MB, an_image=100 * MB, fails_above=40), 10_000, 32),  # halved once
        (FakeGpu(free=80_000 * MB, an_image=300 * MB, fails_above=50), 10_000, 32),  # 192, 64 fail
    ],
)
def test_gpu(gpu, largest, expected, monkeypatch, lines):
    gpu.install(monkeypatch)
    assert choose_batch_size(nn.Linear(1, 1), 640, CUDA, gpu.step, largest) == expected
    assert gpu.steps[-1] == expected  # tried
    assert max(gpu.steps) <= max(largest, 1)
    (line,) = lines()
    assert line.startswith(f"batch size: {expected}, tried") and "--batch-size" in line


def test_gpu_probes_stop_at_the_first_that_fails(monkeypatch):
    gpu = FakeGpu(free=700 * MB, an_image=100 * MB).install(monkeypatch)
    choose_batch_size(nn.Linear(1, 1), 640, CUDA, gpu.step, 10_000)
    assert gpu.steps == [1, 2, 4, 8, 4]


def test_gpu_that_spills_into_main_memory_counts_as_full(monkeypatch):
    gpu = FakeGpu(free=10**12, an_image=100 * MB).install(monkeypatch)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (700 * MB, 700 * MB))
    assert choose_batch_size(nn.Linear(1, 1), 640, CUDA, gpu.step, 10_000) == 4


def test_gpu_too_small_for_one_image(monkeypatch):
    gpu = FakeGpu(free=50 * MB, an_image=100 * MB).install(monkeypatch)
    with pytest.raises(UserError, match=r"one image of 640 px needs more memory than cuda:0 has; use a smaller"):
        choose_batch_size(nn.Linear(1, 1), 640, CUDA, gpu.step, 100)


@pytest.mark.parametrize(
    "machine, largest, expected, steps",
    [
        (FakeMachine(free=8000 * MB, an_image=200 * MB), 1000, 16, [1, 2]),  # 20 take half of it
        (FakeMachine(free=8000 * MB, an_image=10 * MB), 1000, 64, [1, 2]),  # the most on CPU
        (FakeMachine(free=8000 * MB, an_image=10 * MB), 30, 16, [1, 2]),
        (FakeMachine(free=8000 * MB, an_image=10 * MB), 1, 1, [1]),
        (FakeMachine(free=100 * MB, an_image=200 * MB), 1000, 1, [1, 2]),
        (FakeMachine(free=8000 * MB, an_image=200 * MB, peak=300 * MB), 1000, 16, [1, 2, 4]),  # 1 stays below the peak
        (FakeMachine(free=8000 * MB, an_image=200 * MB, peak=10_000 * MB), 1000, 16, [1, 2, 4, 8, 16]),
        (FakeMachine(free=8000 * MB, an_image=10 * MB, fails_above=1), 1000, 1, [1, 2]),
    ],
)
def test_cpu(machine, largest, expected, steps, monkeypatch, lines):
    machine.install(monkeypatch)
    assert choose_batch_size(nn.Linear(1, 1), 640, CPU, machine.step, largest) == expected
    assert machine.steps == steps
    (line,) = lines()
    assert line.startswith(f"batch size: {expected}, estimated")


def test_cpu_without_memory_for_one_image(monkeypatch):
    machine = FakeMachine(free=100 * MB, an_image=1, fails_above=0).install(monkeypatch)
    with pytest.raises(UserError, match="one image of 320 px needs more memory than this machine has"):
        choose_batch_size(nn.Linear(1, 1), 320, CPU, machine.step, 100)


@pytest.mark.parametrize("device, largest, expected", [(MPS, 1000, 16), (CPU, 1000, 16), (MPS, 5, 4)])
def test_usual_size_where_memory_is_not_measured(device, largest, expected, monkeypatch, lines):
    monkeypatch.setattr(module, "peak_memory", lambda: None)  # as on Windows
    steps: list[int] = []
    assert choose_batch_size(nn.Linear(1, 1), 640, device, steps.append, largest) == expected
    assert steps == []
    assert len(lines()) == 1


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def step(size: int) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        choose_batch_size(nn.Linear(1, 1), 640, CPU, step, 100)


def test_real_steps_leave_the_model_as_it_was(tiny_config):
    model = Model(tiny_config).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    sizes = []

    def step(size: int) -> None:
        sizes.append(size)
        sum(output.square().mean() for output in model(torch.rand(size, 3, 128, 128))).backward()

    size = choose_batch_size(model, 128, CPU, step, largest=12)
    assert 1 <= size <= 8 and preferred(size) == size
    assert sizes[0] == 1
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    "error, expected",
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 12 bytes"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (UserError("--batch-size 0: expected a number of 1 or more"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_is_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_torch_says_when_it_gets_no_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def write_system(folder, meminfo: str | None, group: dict[str, str]):
    (folder / "proc").mkdir()
    (folder / "sys/fs/cgroup").mkdir(parents=True)
    if meminfo is not None:
        (folder / "proc/meminfo").write_text(meminfo)
    for name, content in group.items():
        (folder / "sys/fs/cgroup" / name).write_text(content)
    return folder


MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    9000 kB\n"
GROUP = {"memory.max": "5000000\n", "memory.current": "3000000\n", "memory.stat": "anon 1\ninactive_file 1000000\n"}


@pytest.mark.parametrize(
    "meminfo, group, expected",
    [
        (MEMINFO, {}, 9000 * 1024),
        (MEMINFO, GROUP, 3_000_000),
        (MEMINFO, GROUP | {"memory.max": "max\n"}, 9000 * 1024),
        (MEMINFO, GROUP | {"memory.max": "99000000000\n"}, 9000 * 1024),
        (MEMINFO, GROUP | {"memory.current": "9000000\n"}, 0),
    ],
    ids=["host", "container", "container without limit", "limit above the host", "container over its limit"],
)
def test_available_memory_on_linux(meminfo, group, expected, tmp_path):
    assert available_memory(write_system(tmp_path, meminfo, group)) == expected


@pytest.mark.parametrize("meminfo", [None, "MemTotal: 16000 kB\n"], ids=["no table", "old kernel"])
def test_available_memory_elsewhere(meminfo, tmp_path, monkeypatch):
    system = write_system(tmp_path, meminfo, {})
    figures = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(utils.memory, "os", SimpleNamespace(sysconf=figures.__getitem__))
    assert available_memory(system) == 2048 * 1000
    monkeypatch.setattr(utils.memory, "os", SimpleNamespace())  # as on Windows
    assert available_memory(system) == 8 * 2**30


def test_memory_of_this_process():
    peak = peak_memory()
    if peak is None:
        pytest.skip("this system does not count the peak of a process")
    assert 50 * MB < peak < 10**12
    assert available_memory() > 0
