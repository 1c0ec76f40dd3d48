"""Accuracy on data sets in the published files: a small search on validation, then test results over seeds.

    python benchmarks/accuracy.py --root DATA --dataset baby --models LightGCN FREEDOM --seeds 0 1 2

For every model of ``accuracy.yaml`` each point of its grid is trained with seed 0 and without test data, where
``search`` says so with other settings of the trainer, such as fewer epochs; the point with the best validation
Recall@20 is then trained and tested with every seed. Each finished run is one row of ``results/accuracy_runs.csv``;
runs that are there already (same data, split, arguments and seed) are not repeated, so a stopped benchmark goes on
where it was. ``results/accuracy.csv`` holds mean and standard deviation of the test runs. On ``office`` and ``ml1m``,
whose models read raw content, group AUC takes the place of Recall@20, and the files are ``results/sampled*.csv``.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from tasks import Task, load

import pyg_mmrec.models
from pyg_mmrec.benchmark import (
    Candidate,
    Ledger,
    default_split,
    format_table,
    prepare,
    split_hash,
    summarize,
    train_one,
)
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.evaluation import Evaluator

FOLDER = Path(__file__).parent
KEY = ["dataset", "split_hash", "model", "init_args", "trainer_args", "seed", "purpose"]

#: Of the trainings that a point is chosen by, whichever seeds are tested.
SEARCH_SEED = 0


def candidates(name: str, spec: dict[str, Any], dataset: str) -> list[Candidate]:
    """One candidate for each point of the grid; the one that is carried over where the data set is not searched."""
    model = getattr(pyg_mmrec.models, spec.get("model", name))
    carried = spec.get("carried_over", {}).get(dataset)
    searched = spec.get("grid_on", {}).get(dataset, spec.get("grid", {}))
    grid = searched if carried is None else {key: [value] for key, value in carried.items()}
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    trainer = {**spec.get("trainer", {}), **spec.get("trainer_on", {}).get(dataset, {})}
    args = {**spec.get("args", {}), **spec.get("args_on", {}).get(dataset, {})}
    return [Candidate(model, {**args, **point}, trainer, label=name) for point in points]


class Runs:
    """Trains candidates on the views of a data set, those whose runs are not in the ledger."""

    def __init__(self, path: Path, task: Task, views: Views, facts: dict[str, Any]) -> None:
        self.ledger, self.task, self.views, self.facts = Ledger(path, KEY), task, views, facts

    def run(self, candidate: Candidate, seed: int, purpose: str) -> dict[str, Any]:
        """The row of a run; only ``purpose='test'`` sees the test part."""
        key = {name: self.facts[name] for name in ("dataset", "split_hash")} | {"model": candidate.name}
        key |= {"init_args": candidate.init_args, "trainer_args": candidate.trainer_args}
        key |= {"seed": seed, "purpose": purpose}

        return self.ledger.run(key, partial(self._train, candidate, seed, purpose))

    def _train(self, candidate: Candidate, seed: int, purpose: str) -> dict[str, Any]:
        views, monitor = self.views if purpose == "test" else (*self.views[:2], None), self.task.monitor
        model, row = train_one(candidate, views, seed, progress=False, evaluator=self.task.evaluator, monitor=monitor)
        if purpose == "test" and not isinstance(self.task.evaluator, Evaluator):  # all items, once
            found = Evaluator(["recall@20", "ndcg@20"], block_size=256)(model, self.views[2])
            row |= {f"test_full_{name}": value for name, value in found.items()}
        print(
            f"{self.facts['dataset']} {candidate.name} {candidate.init_args} {candidate.trainer_args} seed {seed} "
            f"{purpose}: val {row[f'val_{monitor}']:.4f}, {row['num_epochs']} epochs, {row['seconds']:.0f} s",
            flush=True,
        )
        return {**row, **self.facts}


def needed(names: list[str], specs: dict[str, Any]) -> set[str]:
    """The models and those whose chosen points they take."""
    others = [specs[name][key] for name in names for key in ("point_of", "base_of") if key in specs[name]]
    return {*names, *(needed(others, specs) if others else ())}


def choose(name: str, specs: dict[str, Any], runs: Runs) -> Candidate:
    """The point of the grid that is best on validation.

    With ``point_of`` the grid is that of other arguments of what was chosen for another model, with ``base_of`` that of
    a plug-in to it.
    """
    spec, dataset = specs[name], runs.facts["dataset"]
    grid = candidates(name, spec, dataset)
    if "point_of" in spec:
        other = choose(spec["point_of"], specs, runs)
        grid = [replace(other, init_args={**other.init_args, **one.init_args}, label=name) for one in grid]
    elif "base_of" in spec:
        other = choose(spec["base_of"], specs, runs)
        base = {"base": other.model.__name__, "base_args": other.init_args}
        trainer = other.trainer_args
        grid = [
            replace(one, init_args={**base, **one.init_args}, trainer_args={**trainer, **one.trainer_args})
            for one in grid
        ]
    if len(grid) == 1:
        return grid[0]
    search = spec.get("search", {}) | spec.get("search_on", {}).get(dataset, {})
    points = [replace(one, trainer_args={**one.trainer_args, **search}) for one in grid]
    scores = [runs.run(point, SEARCH_SEED, "search")[f"val_{runs.task.monitor}"] for point in points]
    return grid[scores.index(max(scores))]


def main() -> None:
    """Searches, tests, writes and prints."""
    specs = yaml.safe_load((FOLDER / "accuracy.yaml").read_text())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the data sets")
    parser.add_argument("--dataset", required=True, help="name of a data set, or 'shop' for the built-in one")
    parser.add_argument("--models", nargs="+", default=list(specs), choices=list(specs))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    task = load(args.root, args.dataset)
    split = default_split(task.data)
    models = [candidates(name, specs[name], args.dataset)[0].model for name in needed(args.models, specs)]
    views = prepare(task.data, models, split)
    facts = {"dataset": args.dataset, "protocol": split.protocol, "split_hash": split_hash(views)}
    runs = Runs(args.results / f"{task.results}_runs.csv", task, views, facts)
    for name in args.models:
        best = choose(name, specs, runs)
        for seed in args.seeds:
            runs.run(best, seed, "test")
    report(runs.ledger.rows(), specs, task, args)


def report(runs: pd.DataFrame, specs: dict[str, Any], task: Task, args: argparse.Namespace) -> None:
    """Writes the summary of all test runs and prints that of this data set."""
    runs = runs[runs["purpose"] == "test"]
    tables = []
    points = runs.groupby(["dataset", "model"])[["init_args", "trainer_args"]].nunique()
    if (points > 1).any(axis=None):
        raise SystemExit(f"more than one point was tested: {points[(points > 1).any(axis=1)]}")
    for (dataset, protocol), part in runs.groupby(["dataset", "protocol"], sort=False):
        table = summarize(part, Evaluator.DEFAULT if task.results == "accuracy" else task.metrics).reset_index()
        table.insert(0, "dataset", dataset)
        table.insert(1, "protocol", protocol)
        chosen = part.drop_duplicates("model").set_index("model")
        for column in ("init_args", "trainer_args"):
            table[column] = table["model"].map(chosen[column])
        published = [specs.get(name, {}).get("published", {}).get(dataset, (None, "")) for name in table["model"]]
        table[f"published_{task.monitor}"], table["published_where"] = zip(*published, strict=True)
        table["command"] = [
            f"python benchmarks/accuracy.py --root DATA --dataset {dataset} --models {name}" for name in table["model"]
        ]
        tables.append(table)
        if dataset == args.dataset:
            print(format_table(table.set_index("model"), task.metrics))
    pd.concat(tables).to_csv(args.results / f"{task.results}.csv", index=False)


if __name__ == "__main__":
    main()
