from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys

import pytest

from pyg_mmrec.utils import keep_freed_memory

#: The pages that a process of its own faults in, each of 101 times that it replaces eight tensors of 8 MB by new ones.
FAULTS = """
import resource, torch
from pyg_mmrec.utils import keep_freed_memory
print(keep_freed_memory())
def work(times):
    faults = [resource.getrusage(resource.RUSAGE_SELF).ru_minflt]
    for _ in range(times):
        parts = [torch.zeros(2**21) for _ in range(8)]
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    return [after - before for before, after in zip(faults, faults[1:])]
print(work(101))
"""


@pytest.fixture(autouse=True)
def _undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    taken, faults = done.stdout.splitlines()
    assert taken == "True"
    # The middle one of all, as the heap may still grow now and then. Handed back, one tensor alone has 2,048 pages.
    assert statistics.median(json.loads(faults)) < 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072"),
    ],
)
def test_what_the_user_decided_stands(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("is asked"))
    assert not keep_freed_memory()


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", lambda name: pytest.fail("is asked"))
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
