"""Sensitivity: one argument of a model is varied at a time, all others stay at the point that a search chose.

    python benchmarks/sweep.py --root DATA --dataset baby --model SEA-a

The arguments and their values are ``sweep`` in ``accuracy.yaml``. The point in the middle is the best of the model's
search in ``results/accuracy_runs.csv``, or the first of its grid if there was none on this data set. Figures are on
validation, so that nothing is chosen on test. Each run is a row of ``results/sweep_runs.csv`` and is not repeated;
``results/sweep_<dataset>_<model>.png`` shows them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import torch
import yaml
from accuracy import FOLDER, Runs, candidates
from papers import default_args
from tasks import load

from pyg_mmrec.benchmark import Candidate, default_split, prepare, split_hash
from pyg_mmrec.utils import modalities

METRIC = "val_recall@20"


def middle(grid: list[Candidate], runs: pd.DataFrame, facts: dict[str, str]) -> Candidate:
    """The candidate whose search run is best; the grid's first where none was searched."""
    known = runs[(runs["purpose"] == "search") & (runs["model"] == grid[0].name)]
    if not known.empty:
        known = known[(known[list(facts)] == pd.Series(facts)).all(axis=1)]
    if known.empty:
        return grid[0]
    best = known.loc[known[METRIC].idxmax()]
    return replace(grid[0], init_args=json.loads(best["init_args"]))


def varied(point: Candidate, name: str, value: Any, modalities: list[str]) -> Candidate:
    """The point with an argument changed; ``<modality>_weight`` is its share, the other modalities divide the rest.

    The point itself where the value is its own, so that it is trained once.
    """
    if {**default_args(point.model), **point.init_args}.get(name) == value:
        return point
    modality = name.removesuffix("_weight")
    change = {name: value}
    if modality in modalities:
        rest = (1 - value) / (len(modalities) - 1)
        change = {"modality_weights": {other: value if other == modality else rest for other in modalities}}
    return replace(point, init_args={**point.init_args, **change})


def plot(rows: pd.DataFrame, path: Path) -> None:
    """One panel for each argument: mean over seeds, and the range."""
    names = rows["argument"].unique()
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    size = (4 * columns, 3 * lines)
    _, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name in zip(axes.flat, names, strict=False):
        values = rows[rows["argument"] == name].groupby("value")[METRIC].agg(["mean", "min", "max"])
        axis.plot(values.index, values["mean"], marker="o")
        axis.fill_between(values.index, values["min"], values["max"], alpha=0.2)
        scale = "log" if (values.index > 0).all() else "linear"
        axis.set(xscale=scale, xlabel=name, ylabel="validation Recall@20")
        axis.set_xticks(values.index, [f"{value:g}" for value in values.index])
        axis.minorticks_off()
    plt.savefig(path, dpi=150)
    plt.close()


def main() -> None:
    """Trains what is missing, prints and plots."""
    specs = yaml.safe_load((FOLDER / "accuracy.yaml").read_text())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the data sets")
    parser.add_argument("--dataset", required=True, help="name of a data set, or 'shop' for the built-in one")
    parser.add_argument("--model", required=True, choices=[name for name, spec in specs.items() if spec.get("sweep")])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--max_epochs", type=int, help="fewer epochs than the benchmark's")
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    matplotlib.use("Agg")

    task = load(args.root, args.dataset)
    split = default_split(task.data)
    grid = candidates(args.model, specs[args.model], args.dataset)
    views = prepare(task.data, [grid[0].model], split)
    facts = {"dataset": args.dataset, "protocol": split.protocol, "split_hash": split_hash(views)}
    point = middle(grid, Runs(args.results / f"{task.results}_runs.csv", task, views, facts).ledger.rows(), facts)
    if args.max_epochs:
        point = replace(point, trainer_args={**point.trainer_args, "max_epochs": args.max_epochs})
    runs = Runs(args.results / "sweep_runs.csv", task, views, facts)
    names, rows = modalities(task.data), []
    for name, values in specs[args.model]["sweep"].items():
        for value in values:
            for seed in args.seeds:
                found = runs.run(varied(point, name, value, names), seed, "search")
                rows.append({"argument": name, "value": value, "seed": seed, METRIC: found[METRIC]})
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    plot(table, args.results / f"sweep_{args.dataset}_{args.model}.png")


if __name__ == "__main__":
    main()
