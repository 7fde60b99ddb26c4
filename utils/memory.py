"""How the process keeps its memory."""

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # numbers of glibc's malloc.h


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
