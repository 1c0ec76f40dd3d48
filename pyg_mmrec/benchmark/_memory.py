"""The most memory that a run took."""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType

import torch


class PeakMemory:
    """Measures the most memory taken while it is entered, in MiB as ``mib``.

    On a GPU it is what torch allocated there; else the resident memory of the whole process, which only Linux tells;
    None where it is not known.
    """

    mib: float | None = None

    def __enter__(self) -> PeakMemory:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        try:
            Path("/proc/self/clear_refs").write_text("5")  # forgets the earlier peak
            self._clear = True
        except OSError:
            self._clear = False
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
            self.mib = round(torch.cuda.max_memory_allocated() / 2**20, 1)
        elif self._clear and (match := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())):
            self.mib = round(int(match[1]) / 2**10, 1)
