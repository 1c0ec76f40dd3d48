"""Processes that do runs at the same time."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch

from pyg_mmrec.benchmark._runs import Run, Runner
from pyg_mmrec.benchmark.suite import Suite, SuiteFacts
from pyg_mmrec.utils.checks import check_int
from pyg_mmrec.utils.files import one_line

#: The row of a run, or the reason that there is none.
Outcome = dict[str, Any] | str


@dataclass(frozen=True)
class Slot:
    """What a process may use."""

    threads: int
    accelerator: str = "auto"
    cuda_device: str | None = None  #: as ``CUDA_VISIBLE_DEVICES`` has it


class Executor(Protocol):
    """What does the runs."""

    def has_room(self) -> bool:
        """Whether another run can be given."""
        ...

    def start(self, run: Run) -> None:
        """Takes a run."""
        ...

    def finished(self) -> list[tuple[Run, Outcome]]:
        """Runs that have ended; waits for one at least."""
        ...

    def close(self) -> None:
        """Ends all processes."""
        ...


class Here:
    """Does one run at a time, in this process."""

    def __init__(self, suite: Suite, facts: Mapping[str, SuiteFacts], root: Path, slot: Slot) -> None:
        torch.set_num_threads(slot.threads)
        self.runner = Runner(suite, facts, root, slot.accelerator)
        self.run: Run | None = None

    def has_room(self) -> bool:
        """Whether no run was given."""
        return self.run is None

    def start(self, run: Run) -> None:
        """Keeps the run for :meth:`finished`."""
        self.run = run

    def finished(self) -> list[tuple[Run, Outcome]]:
        """Does the run."""
        run, self.run = self.run, None
        return [] if run is None else [(run, outcome(self.runner, run))]

    def close(self) -> None:
        """Nothing is left to end."""


def outcome(runner: Runner, run: Run) -> Outcome:
    """A run's row or, if it fails, why."""
    try:
        return runner.do(run)
    except Exception as error:  # whatever it is, the other runs go on
        if os.environ.get("PYG_MMREC_DEBUG"):
            traceback.print_exc()
        return one_line(str(error), 300) or type(error).__name__


class _Worker:
    """A process, the way to talk to it, and what it does."""

    def __init__(self, slot: Slot, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process can use neither CUDA nor threads
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, slot, *arguments), daemon=True)
        self.process.start()
        other.close()
        self.slot = slot
        self.run: Run | None = None
        self.dataset = ""

    def give(self, run: Run) -> None:
        self.run, self.dataset = run, run.dataset
        with suppress(OSError):  # it has ended, as 'take' will find
            self.connection.send(run)

    def take(self) -> Outcome | None:
        """What the run came to; None if the process has ended."""
        try:
            found: Outcome = self.connection.recv()
        except (EOFError, OSError):
            return None
        self.run = None
        return found

    def end(self, seconds: float) -> None:
        """Asks the process to stop after its step, and ends it if it does not."""
        if self.run is not None and self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGINT)
        self.connection.close()
        self.process.join(seconds)
        self.process.kill()
        self.process.join()


class Processes:
    """Does as many runs at a time as there are slots, each in a process that lives on for the next.

    A process that is killed, for its memory for example, fails the run that it was at; another takes its place.
    """

    def __init__(self, suite: Suite, facts: Mapping[str, SuiteFacts], root: Path, slots: Sequence[Slot]) -> None:
        self.arguments = suite, facts, root
        self.slots = list(slots)[::-1]
        self.workers: list[_Worker] = []

    def has_room(self) -> bool:
        """Whether a process is idle or could be started."""
        return bool(self.slots) or any(worker.run is None for worker in self.workers)

    def start(self, run: Run) -> None:
        """Gives the run to an idle process, to one that has its data set in memory where there is one."""
        idle = sorted((w for w in self.workers if w.run is None), key=lambda w: w.dataset != run.dataset)
        if self.slots and not (idle and idle[0].dataset == run.dataset):
            self.workers.append(_Worker(self.slots.pop(), *self.arguments))
            idle = self.workers[-1:]
        idle[0].give(run)

    def finished(self) -> list[tuple[Run, Outcome]]:
        """Runs that have ended; waits for one at least."""
        busy = {worker.connection: worker for worker in self.workers if worker.run is not None}
        ended: list[tuple[Run, Outcome]] = []
        for connection in wait(list(busy)):
            worker = busy[connection]  # type: ignore[index]
            run = worker.run
            found = worker.take()
            if found is None:
                worker.process.join()
                found = _reason(worker.process.exitcode)
                self.workers.remove(worker)
                self.slots.append(worker.slot)
            if run is not None:
                ended.append((run, found))
        return ended

    def close(self) -> None:
        """Ends all processes; those that train write a checkpoint first."""
        for worker in self.workers:
            worker.end(seconds=60)


def _reason(exitcode: int | None) -> str:
    """Why a process has ended."""
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        return f"its process was ended by {name}" + (", for its memory perhaps" if name == "SIGKILL" else "")
    return f"its process ended with status {exitcode}"


def _serve(connection: Connection, slot: Slot, suite: Suite, facts: Mapping[str, SuiteFacts], root: Path) -> None:
    """What a process does: runs, until there are no more."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches the first process alone, which passes it on once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if slot.cuda_device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.cuda_device
    torch.set_num_threads(slot.threads)
    runner = Runner(suite, facts, root, slot.accelerator)
    try:
        while True:
            connection.send(outcome(runner, connection.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _end_with_parent() -> None:
    """A process whose parent was killed must not go on: the same command may have been started again."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def make_slots(processes: int | None, threads: int | None, devices: Sequence[str] | None) -> list[Slot]:
    """A share of the machine for each process.

    Args:
        processes: How many; by default one for each device.
        threads: Of each process; by default an equal share of torch's.
        devices: ``'cpu'``, ``'cuda:0'``, ...; by default all GPUs or, without one, the CPU. Processes take turns.

    Raises:
        ValueError: If a number is out of range or there is no such device.
    """
    visible = _cuda_devices()
    names = list(visible) or ["cpu"] if devices is None else list(devices)
    for name in names:
        if name != "cpu" and name not in visible:
            known = ", ".join(["cpu", *visible])
            raise ValueError(f"'devices' must be among {known} (got {name!r})")
    if processes is None:
        processes = 1 if devices is None else len(names)
    check_int(1, processes=processes)
    if threads is None:
        threads = max(1, torch.get_num_threads() // processes)
    check_int(1, threads=threads)
    if processes == 1 and devices is None:
        return [Slot(threads)]
    return [
        Slot(threads, *(("cpu",) if name == "cpu" else ("cuda", visible[name])))
        for name, _ in zip(itertools.cycle(names), range(processes))
    ]


def _cuda_devices() -> dict[str, str]:
    """The GPUs that this process sees, each with the name that makes another see it alone."""
    listed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return {f"cuda:{i}": listed[i].strip() if i < len(listed) else str(i) for i in range(count)}
