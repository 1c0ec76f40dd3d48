"""An epoch of every baseline on graphs at Amazon Baby's sizes, and its memory.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/models_speed.py

The data of ``speed.py``: 19,445 users, 7,050 items, features of width 4096 and 384, batches of 2048, 58 an epoch;
default arguments, frozen features. An epoch is what comes before its first batch (a graph that is pruned or searched
anew) and 58 times the median step of 20. Every model is a process of its own, so that its peak memory is its own.
Writes ``results/models_speed.csv``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from speed import baby_sized
from steps import in_own_process, time_steps, write_table

import pyg_mmrec.models
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import Recommender
from pyg_mmrec.transforms import ModalKNNGraph, UserCooccurrence
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import with_operators

RESULTS = Path(__file__).parent / "results"
BATCH, STEPS = 2048, 20
MODELS = ["LightGCN", "LayerGCN", "MMGCN", "GRCN", "DualGNN", "BM3", "FREEDOM", "MGCN", "LATTICE", "MICRO", "LGMRec"]
MODELS += ["SLMRec", "MMGCL", "MMSSL"]


def measure(name: str) -> dict[str, float]:
    """Figures of an epoch."""
    model_class: type[Recommender] = getattr(pyg_mmrec.models, name)
    data = UserCooccurrence()(ModalKNNGraph(k=10)(baby_sized(torch.Generator().manual_seed(0))))
    data[INTERACTS].edge_label_index = data[INTERACTS].edge_index  # what is trained on
    data = with_operators(data)
    torch.manual_seed(0)
    model = model_class.from_data(data)
    before = []
    for epoch in range(3):
        start, generator = time.perf_counter(), torch.Generator().manual_seed(epoch)
        model.start_epoch(data, epoch, generator)
        view = with_operators(model.resample(data, generator))
        before.append(time.perf_counter() - start)
    loader = TripletLoader(data, BATCH, seed=0)
    found = time_steps(model, view, itertools.islice(loader.epoch(0), STEPS + 2))
    found["before_seconds"] = statistics.median(before)
    found["epoch_seconds"] = found["before_seconds"] + len(loader) * found["seconds"]
    return found


def main() -> None:
    """Runs every model in its own process, writes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", metavar="MODEL", help="measure one model and print it as JSON")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    rows: list[dict[str, Any]] = []
    for name in args.models:
        rows.append({"model": name, **in_own_process(__file__, "--one", name)})
        print(rows[-1], flush=True)
    columns = ["model", "epoch_seconds", "before_seconds", "seconds", "cpu_seconds", "peak_gib"]
    write_table(pd.DataFrame(rows)[columns], args.results / "models_speed.csv")


if __name__ == "__main__":
    main()
