"""ncnn: a small runtime for phones and single-board computers; converted by pnnx."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from models.formats.exported import Runtime
from models.formats.facts import Facts, tidy
from models.formats.graph import ExportGraph
from models.formats.settings import ExportSettings, LoadSettings
from models.formats.sharing import MOST_PARALLEL
from models.formats.silence import silence
from models.yolo import Model
from utils.cores import thread_count
from utils.errors import UserError, listed
from utils.files import read_yaml, write_yaml

GRAPH_FILE, WEIGHTS_FILE, FACTS_FILE = "model.ncnn.param", "model.ncnn.bin", "metadata.yaml"  # as later YOLOv5 has them
INPUT, OUTPUT = "in0", "out0"  # names that pnnx gives
HEADER_LINES = 2  # of a graph file; every other line is a layer and starts with its type
BATCH_SIZE = 1  # a Mat of ncnn is one image


def export(model: Model, path: Path, settings: ExportSettings) -> None:
    """Write a network as the two files of ncnn, for one image of one size.

    Args:
        model: fused, FP32 and in evaluation mode, on the CPU.
        path: empty folder.
        settings: ``half`` stores the weights in FP16.

    Raises:
        ImportError: pnnx is not installed.
        UserError: pnnx fails, or ncnn lacks an operation of the network.
    """
    from pnnx import EXEC_PATH

    example = torch.zeros(BATCH_SIZE, model.channels, *settings.input_hw)
    with tempfile.TemporaryDirectory(prefix="ncnn-") as folder:  # pnnx leaves six more files beside its input
        with silence(settings.verbose), _PlainOperations():
            torch.jit.save(torch.jit.trace(ExportGraph(model), example), Path(folder) / "model.pt")
        _convert([EXEC_PATH, "model.pt", f"fp16={int(settings.half)}"], folder, settings.verbose)
        for name in (GRAPH_FILE, WEIGHTS_FILE):
            (path / name).write_bytes((Path(folder) / name).read_bytes())
    _check_layers(path / GRAPH_FILE)


class _PlainOperations(TorchFunctionMode):
    """Computes what ncnn has no operation for by those that it has, while a network is traced."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        """Call ``function``, or compute what it would give."""
        if function in (torch.addcmul, torch.Tensor.addcmul) and not options:
            start, first, second = arguments
            return start + first * second
        return function(*arguments, **(options or {}))


def _convert(command: list[str], folder: str, verbose: bool) -> None:
    """Run pnnx in ``folder``."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if verbose:
        print(done.stdout)
    missing = [name for name in (GRAPH_FILE, WEIGHTS_FILE) if not (Path(folder) / name).exists()]
    if done.returncode or missing:
        last = (done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise UserError(f"pnnx could not convert the network (exit {done.returncode}): {last}")


def _check_layers(graph: Path) -> None:
    """Refuse a graph with operations that pnnx has left as PyTorch has them, since ncnn knows none of them."""
    types = [line.split()[0] for line in graph.read_text(encoding="utf-8").splitlines()[HEADER_LINES:] if line.strip()]
    foreign = sorted({kind for kind in types if not kind.isalnum()})
    if foreign:
        raise UserError(f"ncnn has no {listed(foreign)}, which the network needs; export to another format")


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts beside what ``export`` has written."""
    write_yaml(path / FACTS_FILE, facts | {"shape": [BATCH_SIZE, *facts["shape"][1:]]})


def load(path: Path, settings: LoadSettings) -> Runtime:
    """Load a folder written by ``export``.

    Raises:
        ImportError: ncnn is not installed.
        UserError: files are missing or damaged.
    """
    import ncnn

    try:
        facts = tidy(read_yaml(path / FACTS_FILE))
        _, _, *input_hw = facts["shape"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"'{path / FACTS_FILE}' was not written by export.py") from error
    parallel = min(settings.parallel or 1, MOST_PARALLEL)
    net = ncnn.Net()
    net.opt.num_threads = max(1, (settings.threads or thread_count()) // parallel)
    in_half = bool(facts.get("half"))
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = in_half
    for name, read in ((GRAPH_FILE, net.load_param), (WEIGHTS_FILE, net.load_model)):
        with silence():
            status = read(str(path / name))
        if status:
            raise UserError(f"'{path / name}' is missing, damaged or not from export.py; export the model again")

    def run(images: np.ndarray) -> np.ndarray:
        with net.create_extractor() as extractor:  # the network is shared, an extractor belongs to one call
            extractor.input(INPUT, ncnn.Mat(images[0]).clone())  # aligned, as ncnn likes it
            status, found = extractor.extract(OUTPUT)
            if status:
                raise RuntimeError(f"ncnn gave status {status} for '{path}'")
            return np.array(found)[None]  # (1, N, 5 + classes)

    return Runtime(run, facts, BATCH_SIZE, tuple(input_hw), parallel=parallel)
