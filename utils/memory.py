"""The memory of the process: how it is kept, how much it took, and how much there still is."""

import ctypes
import os
import platform
import sys
from pathlib import Path

if sys.platform != "win32":
    import resource

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of glibc's malloc.h
OUT_OF_MEMORY = (  # as torch (CPU, CUDA and its libraries), OpenCV and the system put it
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "insufficient memory",
    "status_alloc_failed",
    "could not create a primitive",  # so oneDNN
    "could not create a memory object",
)
ASSUMED_MEMORY = 8 * 2**30  # bytes, where the system does not tell


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for the next tensors instead of handing it back to the system each time.

    torch has no pool of its own on CPU: big tensors are mapped and, page by page, zeroed anew in every pass, which
    takes a sixth of a training step. Only glibc (Linux) needs and understands this; elsewhere nothing happens.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    if not mallopt(M_MMAP_THRESHOLD, 1 << 30):
        mallopt(M_MMAP_THRESHOLD, 1 << 25)  # the most that older versions take
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether ``error`` says that memory, of the machine or of a GPU, has run out."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in OUT_OF_MEMORY)


def available_memory(system: Path = Path("/")) -> int:
    """Return how many bytes of main memory can still be had.

    Linux tells it, and a container's limit counts as well (control groups, version 2). Elsewhere it is taken for half
    of the installed memory, or for 8 GB if that is unknown, too.

    Args:
        system: folder in which Linux keeps ``proc`` and ``sys``; another one for tests.
    """
    free = _free_on_linux(system / "proc/meminfo")
    if free is None:
        return _installed_memory() // 2 or ASSUMED_MEMORY
    allowed = _left_in_container(system / "sys/fs/cgroup")
    return free if allowed is None else min(free, allowed)


def peak_memory() -> int | None:
    """Return the most bytes of main memory that the process has held so far; None where nobody counts (Windows)."""
    if sys.platform == "win32":
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _free_on_linux(table: Path) -> int | None:
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return None
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return kilobytes[0] * 1024 if kilobytes else None


def _left_in_container(group: Path) -> int | None:
    """Return what the control group may still take, or None if it has no limit; files kept for reuse are no burden."""
    try:
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        counts = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no control groups, or the limit is "max"
        return None
    return max(limit - used + int(counts.get("inactive_file", 0)), 0)


def _installed_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0
