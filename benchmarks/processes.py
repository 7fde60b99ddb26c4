"""Whole commands as processes of their own: their time, from start to end, and what the machine gave them."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Spent:
    """What one run of a command took.

    Attributes:
        seconds: from start to end.
        processors: seconds of all processors together.
        megabytes: most memory of the process; those it has started are not counted.
    """

    seconds: float
    processors: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.processors:.1f} s of processors, {self.megabytes:.0f} MB"


def run_command(words: list[str], workspace: Path, threads: int) -> Spent:
    """Run a command to its end.

    Args:
        words: program and arguments.
        workspace: where it runs, and keeps its settings and caches; ``output.txt`` there holds what it prints.
        threads: of the processor.

    Raises:
        SystemExit: it failed; its last lines are shown.
    """
    private = {"YOLO_CONFIG_DIR": str(workspace), "YOLOV5_CACHE_DIR": str(workspace)}
    offline = {"YOLOV5_OFFLINE": "1", "YOLO_OFFLINE": "1"}
    limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    log = workspace / "output.txt"
    start = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(
            words,
            cwd=workspace,
            env=os.environ | private | offline | limits,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = log.read_text(errors="replace").strip().splitlines()[-12:]
        raise SystemExit(f"{' '.join(words)} failed:\n" + "\n".join(last))
    megabytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return Spent(seconds, usage.ru_utime + usage.ru_stime, megabytes)
