"""Training several models over several seeds and putting the results side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import Recommender
from pyg_mmrec.training import Trainer
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils.checks import check_int
from pyg_mmrec.utils.hashing import tensor_hash


@dataclass(frozen=True)
class Candidate:
    """A model with its hyper-parameters, to be compared with others.

    Attributes:
        model: The class.
        init_args: Arguments of its constructor beside the sizes.
        trainer_args: Arguments of the :class:`~pyg_mmrec.training.Trainer` that differ from the comparison's.
        label: Name in the table; the class's by default.
    """

    model: type[Recommender]
    init_args: Mapping[str, Any] = field(default_factory=dict)
    trainer_args: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    @property
    def name(self) -> str:
        """Name in the table."""
        return self.label or self.model.__name__


def split_hash(views: Views) -> str:
    """16 hexadecimal digits that tell a split: the train, validation and test interactions in order."""
    return tensor_hash(*(view[INTERACTS].edge_label_index for view in views))


def train_one(
    candidate: Candidate,
    views: Views | tuple[HeteroData, HeteroData, None],
    seed: int,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    **trainer: Any,
) -> tuple[Recommender, dict[str, Any]]:
    """Trains a candidate from a seed, which also draws its starting weights.

    Args:
        candidate: What to train.
        views: Train, validation and test view, with the modal graphs that the model reads; None in place of the test
            view leaves it out.
        seed: The seed.
        run_dir: Folder of the run; nothing is written without it.
        resume: Go on with the run in ``run_dir``.
        trainer: Arguments of the :class:`~pyg_mmrec.training.Trainer`.

    Returns:
        The model with the weights of its best epoch, and a row: name, seed, epochs, seconds, and the metrics as
        ``val_<metric>`` and ``test_<metric>``.
    """
    check_int(0, seed=seed)
    torch.manual_seed(seed)
    model = candidate.model.from_data(views[0], **candidate.init_args)
    settings = {**trainer, **candidate.trainer_args, "seed": seed, "run_dir": run_dir}
    result = Trainer(**settings).fit(model, *views, resume=resume)
    row: dict[str, Any] = {
        "model": candidate.name,
        "seed": seed,
        "best_epoch": result.best_epoch,
        "num_epochs": result.num_epochs,
        "seconds": result.seconds,
    }
    row |= {f"val_{name}": value for name, value in result.validation.items()}
    row |= {f"test_{name}": value for name, value in result.test.items()}
    return model, row


def compare(
    candidates: Sequence[Candidate],
    views: Views,
    seeds: Sequence[int],
    *,
    on_run: Callable[[Candidate, Recommender, dict[str, Any]], None] | None = None,
    **trainer: Any,
) -> tuple[pd.DataFrame, dict[str, Recommender]]:
    """Trains every candidate with every seed on the same split.

    A candidate without parameters runs once.

    Args:
        candidates: What to compare; their names must differ.
        views: Train, validation and test view, with the modal graphs that the models read.
        seeds: The seeds.
        on_run: Called after each run with the candidate, its model and its row.
        trainer: Arguments of the :class:`~pyg_mmrec.training.Trainer`.

    Returns:
        A row for each run (see :func:`train_one`), and each candidate's model of the first seed.

    Raises:
        ValueError: If there is no candidate or seed, or a name or seed occurs twice.
    """
    names = [candidate.name for candidate in candidates]
    if not candidates or not seeds:
        raise ValueError("a comparison needs at least one candidate and one seed")
    if len(set(names)) < len(names):
        raise ValueError(f"candidates must have different names, give labels (got {', '.join(names)})")
    for seed in seeds:
        check_int(0, seeds=seed)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"'seeds' must differ (got {', '.join(map(str, seeds))})")
    rows: list[dict[str, Any]] = []
    models: dict[str, Recommender] = {}
    for candidate in candidates:
        for seed in seeds:
            try:
                model, row = train_one(candidate, views, seed, **trainer)
            except (ValueError, RuntimeError, FloatingPointError) as error:
                if type(error) not in (ValueError, RuntimeError, FloatingPointError):
                    raise
                raise type(error)(f"{candidate.name}, seed {seed}: {error}") from error
            models.setdefault(candidate.name, model)
            rows.append(row)
            if on_run is not None:
                on_run(candidate, model, row)
            if not any(parameter.requires_grad for parameter in model.parameters()):
                break
    return pd.DataFrame(rows), models


def summarize(runs: pd.DataFrame, metrics: Sequence[str] = Evaluator.DEFAULT) -> pd.DataFrame:
    """Mean and standard deviation of test metrics over the seeds, one row a model, in the order of the runs.

    Args:
        runs: What :func:`compare` gave.
        metrics: Names of test metrics.

    Returns:
        Columns ``<metric>`` (mean), ``<metric>_std`` (sample standard deviation; NaN for one seed), ``seeds``,
        ``epochs`` and ``seconds`` (means); ``published_<metric>`` where the runs have it.
    """
    groups = runs.groupby("model", sort=False)
    table = pd.DataFrame({"seeds": groups.size()})
    for name in metrics:
        table[name] = groups[f"test_{name}"].mean()
        table[f"{name}_std"] = groups[f"test_{name}"].std()
        if f"published_{name}" in runs:
            table[f"published_{name}"] = groups[f"published_{name}"].first()
    table["epochs"] = groups["num_epochs"].mean()
    table["seconds"] = groups["seconds"].mean()
    return table


def format_table(summary: pd.DataFrame, metrics: Sequence[str]) -> str:
    """A summary as text: ``mean ± deviation`` for each metric, the best mean of each column marked with ``*``.

    Published values, where there are any, stand beside.

    Args:
        summary: What :func:`summarize` gave.
        metrics: Which metrics to show.
    """
    shown = pd.DataFrame(index=summary.index)
    for name in metrics:
        best = summary[name].max()
        shown[name] = [
            f"{mean:.4f}" + ("" if pd.isna(std) else f" ± {std:.4f}") + ("*" if mean == best else " ")
            for mean, std in zip(summary[name], summary[f"{name}_std"], strict=True)
        ]
        if f"published_{name}" in summary and summary[f"published_{name}"].notna().any():
            published = summary[f"published_{name}"]
            shown[f"{name}, published"] = ["" if pd.isna(value) else f"{value:.4f}" for value in published]
    shown["seeds"] = summary["seeds"]
    shown["epochs"] = summary["epochs"].round().astype(int)
    shown["seconds"] = summary["seconds"].round(1)
    return shown.rename_axis(None).to_string()
