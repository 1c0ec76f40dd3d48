"""The words nearest to each of MDR's aspects on real texts (Figure 5 of its paper).

    python benchmarks/mdr_aspects.py --root DATA --dataset office

Trains MDR once at the point that ``accuracy.py`` chose on validation (it is searched first where it was not yet), and
writes ``results/mdr_aspects.csv``: data set, aspect, words.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
import yaml
from accuracy import FOLDER, Runs, choose
from tasks import load

from pyg_mmrec.benchmark import default_split, prepare, split_hash, train_one
from pyg_mmrec.diagnostics import aspect_words
from pyg_mmrec.models import MDR


def main() -> None:
    """Trains, writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the data sets")
    parser.add_argument("--dataset", default="office", choices=["office", "ml1m"])
    parser.add_argument("--k", type=int, default=10, help="words of an aspect")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER / "results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    specs = yaml.safe_load((FOLDER / "accuracy.yaml").read_text())
    task = load(args.root, args.dataset)
    split = default_split(task.data)
    views = prepare(task.data, [MDR], split)
    facts = {"dataset": args.dataset, "protocol": split.protocol, "split_hash": split_hash(views)}
    candidate = choose("MDR", specs, Runs(args.results / f"{task.results}_runs.csv", task, views, facts))
    model, _ = train_one(
        candidate, (*views[:2], None), args.seed, progress=False, evaluator=task.evaluator, monitor=task.monitor
    )
    words = aspect_words(model, task.data["word"].text, args.k)
    rows = [{"dataset": args.dataset, "aspect": name, "words": " ".join(near)} for name, near in words.items()]
    path = args.results / "mdr_aspects.csv"
    known = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["dataset"])
    table = pd.concat([known[known["dataset"] != args.dataset], pd.DataFrame(rows)])
    table.to_csv(path, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
