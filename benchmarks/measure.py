"""Wall time and peak memory; needs nothing, so that the environments of other libraries can import it."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median wall time after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_gib() -> float:
    """The most memory that this process has held.

    Linux counts for ``getrusage`` what the process held that started this one, so its own file is read there.
    """
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
