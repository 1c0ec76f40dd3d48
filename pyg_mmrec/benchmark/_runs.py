"""The runs of a suite, and how one is done."""

from __future__ import annotations

import copy
import itertools
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark._memory import PeakMemory
from pyg_mmrec.benchmark.ledger import Ledger
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.benchmark.runner import Candidate, train_one
from pyg_mmrec.benchmark.suite import Suite, SuiteFacts
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.metrics import parse_metric
from pyg_mmrec.metrics.ranking import ACCURACY
from pyg_mmrec.models import Recommender
from pyg_mmrec.training import RunFolder
from pyg_mmrec.training.run_folder import environment
from pyg_mmrec.utils.files import write_atomically, write_json

KEY = ("dataset", "model", "purpose", "init_args", "trainer_args", "seed")
RUNS, RUN = "runs.csv", "run.json"


@dataclass(frozen=True)
class Run:
    """One training: what the table of runs tells it by, and for a search the number of the trial."""

    dataset: str
    model: str
    purpose: str  #: ``'search'``, ``'test'``
    init_args: Mapping[str, Any]
    trainer_args: Mapping[str, Any]
    seed: int
    trial: int | None = None

    @property
    def key(self) -> dict[str, Any]:
        """Its columns of the key."""
        return {name: value for name, value in asdict(self).items() if name in KEY}

    @property
    def id(self) -> str:
        """The key as one text."""
        return json.dumps(self.key, sort_keys=True)

    def __str__(self) -> str:
        part = f"trial {self.trial}" if self.trial is not None else f"seed {self.seed}"
        return f"{self.dataset} {self.model} {part}"

    def folder(self, root: Path) -> Path:
        """Its folder."""
        part = f"search-{self.trial}" if self.trial is not None else f"seed-{self.seed}"
        return root / self.dataset / self.model / part


class Runner:
    """Does runs, one after the other, in this process.

    Args:
        suite: What the runs belong to.
        facts: What is known of its data sets.
        root: The folder of the benchmark.
        accelerator: Of the :class:`~pyg_mmrec.training.Trainer`.
    """

    def __init__(self, suite: Suite, facts: Mapping[str, SuiteFacts], root: Path, accelerator: str) -> None:
        self.suite, self.facts, self.root, self.accelerator = suite, facts, root, accelerator
        self.ledger = Ledger(root / RUNS, KEY)
        self.candidates = {method.candidate.name: method.candidate for method in suite.methods}
        self.published = {method.candidate.name: method.published for method in suite.methods}
        accuracy = [name for name in suite.metrics if parse_metric(name)[0] in ACCURACY]
        self.by_user = Evaluator(accuracy, **suite.evaluator) if accuracy else None
        self._loaded: tuple[str, Views] | None = None

    def do(self, run: Run) -> dict[str, Any]:
        """The row of a run, which is trained, or goes on from its checkpoint, if it is not there."""
        row = self.ledger.run(run.key, partial(self._row, run))
        tidy(run.folder(self.root), run)
        return row

    def _views(self, name: str) -> Views:
        """The views of a data set; those of the last one are kept."""
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            self._loaded = name, self.suite.datasets[name].views(self.suite.methods)
        return self._loaded[1]

    def _row(self, run: Run) -> dict[str, Any]:
        views, folder = self._views(run.dataset), run.folder(self.root)
        begin(folder, run)
        row: dict[str, Any] = {"trial": run.trial}
        with PeakMemory() as memory:
            try:
                model, found = self._train(run, views, folder)
                row |= found
            except FloatingPointError as error:
                if run.purpose == "test":
                    raise
                row["failure"] = str(error)  # a point that diverges is a result of the search
        if run.purpose == "test" and self.by_user is not None:
            write_users(folder, self.by_user, model, views[2])
        facts, device = self.facts[run.dataset], self._device()
        row |= {"protocol": facts.protocol, "split_hash": facts.split_hash, "peak_memory_mib": memory.mib}
        made = environment()
        row |= {"device": device, "python": made["python"], "pyg_mmrec": made["versions"]["pyg-mmrec"]}
        published = self.published[run.model].get(run.dataset, {})
        return row | {f"published_{name}": value for name, value in published.items()}

    def _train(self, run: Run, views: Views, folder: Path) -> tuple[Recommender, dict[str, Any]]:
        candidate: Candidate = replace(
            self.candidates[run.model], init_args=run.init_args, trainer_args=run.trainer_args
        )
        return train_one(
            candidate,
            views if run.purpose == "test" else (views[0], views[1], None),
            run.seed,
            run_dir=folder,
            resume=RunFolder.holds_run(folder),
            evaluator=self.suite.make_evaluator(),
            monitor=self.suite.monitor,
            accelerator=self.accelerator,
            progress=False,
        )

    def _device(self) -> str:
        on_gpu = self.accelerator != "cpu" and torch.cuda.is_available()
        return torch.cuda.get_device_name() if on_gpu else "cpu"


def begin(folder: Path, run: Run) -> None:
    """Makes the folder of a run; what another run left there is removed."""
    if folder.exists() and not _is_of(folder, run):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RUN, run.key)


def _is_of(folder: Path, run: Run) -> bool:
    """Whether a folder was begun for a run."""
    try:
        return bool(json.loads((folder / RUN).read_text(encoding="utf-8")) == json.loads(run.id))
    except (OSError, ValueError):
        return False


def tidy(folder: Path, run: Run) -> None:
    """Removes what a finished run no longer needs: its checkpoint, or of a search all but its history."""
    if not _is_of(folder, run):
        return
    if run.purpose == "test":
        (folder / "last.ckpt").unlink(missing_ok=True)
        return
    for path in folder.iterdir():
        if path.name not in ("history.csv", RUN):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / RUN).unlink()


def write_users(folder: Path, evaluator: Evaluator, model: Recommender, data: HeteroData) -> None:
    """Writes the metrics of each user."""
    device = next((tensor.device for tensor in itertools.chain(model.parameters(), model.buffers())), None)
    table = evaluator.by_user(model, data if device is None else copy.copy(data).to(device))
    write_atomically(folder / "users.csv", lambda path: table.to_csv(path))
