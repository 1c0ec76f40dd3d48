"""The runs of a suite, from the first to the last."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from pyg_mmrec.benchmark._runs import KEY, RUNS, Run, tidy
from pyg_mmrec.benchmark._workers import Executor, Here, Outcome, Processes, make_slots
from pyg_mmrec.benchmark.ledger import Ledger
from pyg_mmrec.benchmark.runner import Candidate
from pyg_mmrec.benchmark.search import num_points, search_points
from pyg_mmrec.benchmark.suite import Suite, SuiteFacts, SuiteMethod, check_extends
from pyg_mmrec.utils.checks import check_path
from pyg_mmrec.utils.files import one_line, unreadable, write_atomically, write_text

SUITE = "suite.yaml"

#: A method on a data set: gives the runs that may be done at the same time, is sent their rows, and so on.
Course = Generator[list[Run], dict[str, dict[str, Any]], None]


@dataclass(frozen=True)
class SuiteResult:
    """What a benchmark came to."""

    runs: pd.DataFrame  #: the table of runs
    failures: dict[str, str] = field(default_factory=dict)  #: reasons by the name of the run or search that failed

    def tests(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """The test runs of each data set."""
        rows = self.runs[self.runs["purpose"] == "test"]
        yield from ((str(name), part) for name, part in rows.groupby("dataset", sort=False))


def run_suite(
    suite: Suite,
    folder: str | Path,
    *,
    processes: int | None = None,
    threads: int | None = None,
    devices: Sequence[str] | None = None,
    progress: bool = True,
) -> SuiteResult:
    """Does all runs of a suite that are not done yet, and keeps their results in a folder.

    On every data set each method with a search space gets the same budget of trials, which never see the test part.
    The point with the best validation value is then trained and tested with every seed. A method without a space is
    tested as it is; one without parameters runs once.

    A benchmark that was stopped, or killed, goes on where it was: finished runs are not repeated, and one under way
    goes on from its last checkpoint. So does one whose suite got more data sets, models, seeds or trials. A run that
    fails does not stop the others; it is done again by the next call. The folder holds

    ==================================  =============================================================================
    ``suite.yaml``                      the suite
    ``runs.csv``                        a :class:`Ledger`, one row a finished run
    ``runs.parquet``                    the same, where pyarrow is installed
    ``DATASET/LABEL/seed-N/``           the :class:`~pyg_mmrec.training.RunFolder` of a test run, and ``users.csv``,
                                        the test metrics of each user
    ``DATASET/LABEL/search-TRIAL/``     ``history.csv`` of a search run
    ==================================  =============================================================================

    In ``runs.csv``, ``purpose`` is ``'search'`` or ``'test'``, or ``'superseded'`` for the test runs of a point that a
    larger budget has replaced. A search run whose loss was not finite has no metrics but the reason as ``failure``.

    Args:
        suite: What to run.
        folder: Where the results go.
        processes: Runs at a time (default: one for each of the ``devices``, one without them).
        threads: Of each process (default: an equal share of torch's).
        devices: ``'cpu'``, ``'cuda:0'``, ...: processes take turns on them (default: what torch finds).
        progress: Show a progress bar over runs on a terminal.

    Raises:
        ValueError: If a class refuses its arguments, the folder holds another suite or other data, or is in use.
        KeyboardInterrupt: On Ctrl-C, with checkpoints written.
    """
    check_path(folder=folder)
    root = Path(folder)
    slots = make_slots(processes, threads, devices)
    if any(method.space for method in suite.methods):
        _check_optuna()
    _check_folder(suite, root)  # before data are loaded, and nothing is written yet
    ledger = Ledger(root / RUNS, KEY)
    facts = suite.check()
    _check_data(ledger, facts)
    root.mkdir(parents=True, exist_ok=True)
    with _in_use(root):
        _check_folder(suite, root)
        text = yaml.safe_dump(suite.describe(), sort_keys=False, allow_unicode=True)
        write_text(root / SUITE, text)
        alone = len(slots) == 1 and devices is None
        executor: Executor = Here(suite, facts, root, slots[0]) if alone else Processes(suite, facts, root, slots)
        sweep = _Sweep(suite, facts, root, ledger, executor, progress)
        try:
            sweep.go()
        finally:
            executor.close()
            sweep.write_parquet()
    return SuiteResult(ledger.rows(), sweep.failures)


class _Sweep:
    """Gives runs to an executor, as the courses of the methods bring them, until all courses have ended."""

    def __init__(
        self,
        suite: Suite,
        facts: Mapping[str, SuiteFacts],
        root: Path,
        ledger: Ledger,
        executor: Executor,
        progress: bool,
    ) -> None:
        self.suite, self.facts, self.root, self.ledger, self.executor = suite, facts, root, ledger, executor
        self.failures: dict[str, str] = {}
        self.queue: deque[Run] = deque()
        self.waiting: dict[Course, tuple[list[Run], dict[str, dict[str, Any]]]] = {}
        self.bar = tqdm(total=self._num_runs(), unit="run", disable=None if progress else True)

    def _num_runs(self) -> int:
        """How many runs there will be, if no point is tried twice."""
        total = 0
        for facts in self.facts.values():
            for method in self.suite.methods:
                total += num_points(method.space, self.suite.trials) if method.space else 0
                total += 1 if method.candidate.name in facts.untrained else len(self.suite.seeds)
        return total

    def go(self) -> None:
        """Does all runs."""
        with self.bar:
            for name in self.suite.datasets:
                for method in self.suite.methods:
                    self._advance(self._course(name, method), start=True)
            while self.waiting:
                while self.queue and self.executor.has_room():
                    self.executor.start(self.queue.popleft())
                for run, outcome in self.executor.finished():
                    self._book(run, outcome)

    def _book(self, run: Run, outcome: Outcome) -> None:
        """Hands an outcome to the courses that wait for it."""
        self.bar.update()
        if isinstance(outcome, str):
            self._fail(str(run), outcome)
        else:
            self._show(run, outcome)
            self.write_parquet()
        for course, (runs, rows) in list(self.waiting.items()):
            if run.id in {other.id for other in runs} and run.id not in rows:
                rows[run.id] = {} if isinstance(outcome, str) else outcome
                self._advance(course)

    def _advance(self, course: Course, start: bool = False) -> None:
        """Goes on with a course whose round has ended, as far as its runs are known."""
        while True:
            runs, rows = ([], {}) if start else self.waiting[course]
            if len(rows) < len({run.id for run in runs}):
                return
            try:
                runs = next(course) if start else course.send(rows)
            except StopIteration:
                self.waiting.pop(course, None)
                return
            start, rows = False, {}
            self.waiting[course] = runs, rows
            for run in {run.id: run for run in runs}.values():
                found = self.ledger.find(run.key)
                if found is None:
                    self.queue.append(run)
                else:
                    tidy(run.folder(self.root), run)
                    rows[run.id] = found
                    self.bar.update()

    def _course(self, dataset: str, method: SuiteMethod) -> Course:
        """The search of a method on a data set, and the test runs of what it chose."""
        candidate = method.at({})
        if method.space:
            chosen = yield from self._search(dataset, method)
            if chosen is None:
                return
            candidate = chosen
        label = candidate.name
        settings = self.suite.trainer_args(candidate, search=False)
        runs = [Run(dataset, label, "test", candidate.init_args, settings, seed) for seed in self.suite.seeds]
        if label in self.facts[dataset].untrained:  # once; seeds may have been added before the one it had
            runs = [next((run for run in runs if self.ledger.find(run.key)), runs[0])]
        self.ledger.rewrite(partial(_supersede, run=runs[0]))
        yield runs

    def _search(
        self, dataset: str, method: SuiteMethod
    ) -> Generator[list[Run], dict[str, dict[str, Any]], Candidate | None]:
        """The trials of a method; gives the best point, None where there is none or a trial is missing."""
        suite, label, seed = self.suite, method.candidate.name, self.suite.search_seed
        rounds = search_points(method.space, suite.trials, seed)
        best, best_value, count = None, -math.inf, 0
        points = next(rounds)
        while True:
            candidates = [method.at(point) for point in points]
            runs = [
                Run(dataset, label, "search", one.init_args, suite.trainer_args(one, True), seed, count + i)
                for i, one in enumerate(candidates)
            ]
            rows = yield runs
            if not all(rows[run.id] for run in runs):
                self._fail(f"{dataset} {label}", "not tested, because its search lacks the runs that failed")
                return None
            values = [float(rows[run.id].get(f"val_{suite.monitor}", math.nan)) for run in runs]
            for candidate, value in zip(candidates, values, strict=True):
                if value > best_value:  # the first of equal ones, and none that diverged
                    best, best_value = candidate, value
            count += len(runs)
            try:
                points = rounds.send(values)
            except StopIteration:
                break
        if best is None:
            self._fail(f"{dataset} {label}", "not tested, because no trial of its search ended with a finite loss")
        return best

    def _fail(self, name: str, reason: str) -> None:
        self.failures[name] = reason
        tqdm.write(f"failed: {name}: {reason}", file=sys.stderr)

    def _show(self, run: Run, row: Mapping[str, Any]) -> None:
        value = row.get(f"val_{self.suite.monitor}", math.nan)
        self.bar.set_postfix_str(f"{run}: validation {self.suite.monitor} {value:.4f}")

    def write_parquet(self) -> None:
        """Writes the table of runs in its second form."""
        if importlib.util.find_spec("pyarrow") is None or not self.ledger.path.exists():
            return
        table = self.ledger.rows()
        write_atomically(self.root / "runs.parquet", lambda path: table.to_parquet(path, index=False))


def _supersede(rows: pd.DataFrame, run: Run) -> pd.DataFrame:
    """The table with the test runs of other points of the same method on the same data set marked."""
    same = (rows["dataset"] == run.dataset) & (rows["model"] == run.model) & (rows["purpose"] == "test")
    point = {name: Ledger.text(run.key[name]) for name in ("init_args", "trainer_args")}
    other = same & ((rows["init_args"] != point["init_args"]) | (rows["trainer_args"] != point["trainer_args"]))
    return rows.assign(purpose=rows["purpose"].mask(other, "superseded"))


def _check_optuna() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise ImportError("a search needs Optuna: pip install 'pyg-mmrec[tune]'")


def _check_folder(suite: Suite, root: Path) -> None:
    """Refuses a folder that cannot be one of results, or that holds another suite's."""
    path = root / SUITE
    if root.exists() and not root.is_dir():
        raise ValueError(f"'{root}' is not a folder: choose another one")
    above = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(
            f"'{root}' cannot be written, because '{above}' is not a folder to write to: choose another one"
        )
    if not path.exists():
        if root.exists() and (other := [entry.name for entry in root.iterdir() if not entry.name.startswith(".")]):
            raise ValueError(f"'{root}' holds other files, such as {other[0]}: choose an empty folder or a new one")
        return
    try:
        known = yaml.safe_load(path.read_text(encoding="utf-8"))
        check_extends(known, suite.describe(), str(path))
    except OSError as error:
        raise unreadable(path, error) from None
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no suite of a benchmark ({one_line(str(error))}): choose another folder") from None


def _check_data(ledger: Ledger, facts: Mapping[str, SuiteFacts]) -> None:
    """Refuses other interactions than those of the runs that are there."""
    rows = ledger.rows()
    for name, fact in facts.items():
        hashes = set(rows.loc[rows["dataset"] == name, "split_hash"]) if "split_hash" in rows else set()
        if hashes - {fact.split_hash}:
            raise ValueError(
                f"the interactions of '{name}' or their split are not those of the runs in '{ledger.path}': put the "
                "data back, or choose another folder"
            )


@contextmanager
def _in_use(root: Path) -> Iterator[None]:
    """Keeps the folder for this process."""
    lock = FileLock(root / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"'{root}' is in use by another process: wait until it ends or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()
