"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes
import os
import sys

#: Numbers of glibc's ``mallopt``, from its ``malloc.h``.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Bytes; the second is the largest that older versions of glibc take.
_MMAP_THRESHOLDS = (2**30, 2**25)
_TRIM_THRESHOLD = 2**31 - 1
_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


def keep_freed_memory() -> bool:
    """Lets the process keep the memory of freed tensors for its next ones, up to 2 GiB; for Linux with glibc.

    Otherwise glibc hands most of it back to the system after each training step and gets it anew, page by page, in the
    next, which takes a good part of a step on CPU (``benchmarks/memory.py``). The trainer and the command call this.
    What the user decided stands: nothing is changed where a ``MALLOC_*`` variable of the environment or
    ``GLIBC_TUNABLES`` sets one of glibc's thresholds.

    Returns:
        Whether glibc took it.

    Example:
        >>> _ = keep_freed_memory()  # before a training loop of your own
    """
    decided = any(name in os.environ for name in _SETTINGS) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if decided or sys.platform != "linux":
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if set_option is None:
        return False
    taken = any(set_option(_M_MMAP_THRESHOLD, number) for number in _MMAP_THRESHOLDS)
    return bool(set_option(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)) and taken
