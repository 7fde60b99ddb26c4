"""How many cores there are, and how many threads to compute with; without torch, which takes long to import."""

import os
import platform
import sys
from pathlib import Path

SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"  # of Linux: hardware threads of one core


def core_count() -> int:
    """Return the number of processor cores that this process may use, hardware threads counted."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count() -> int:
    """Return with how many threads to compute: as torch is set, where it is imported, else as it would be.

    That is ``$OMP_NUM_THREADS``, else one a core.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    return _distinct_cores() or core_count()


def describe_processor(threads: int) -> str:
    """Return words for a banner, such as ``"CPU (x86_64, 2 threads)"``."""
    return f"CPU ({platform.machine()}, {threads} threads)"


def _distinct_cores() -> int:
    """Return the number of cores this process may use, each with all its hardware threads; 0 if the system hides it."""
    try:
        return len({Path(SIBLINGS.format(number)).read_text() for number in os.sched_getaffinity(0)})
    except (AttributeError, OSError):
        return 0
