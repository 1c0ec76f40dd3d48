"""How an epoch of LightGCN grows: with the interactions, users, items, width and layers.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/scaling.py --threads 2
    OMP_WAIT_POLICY=PASSIVE python benchmarks/scaling.py --threads 2 --ways sampled --curves interactions --neighbors 5

Two ways of training (docs/guide/large_graphs.md): ``growing``, the whole graph in batches that grow with it
(``batch_size='auto'``, Adam), and ``sampled``, subgraphs of sampled neighbours, by default ten, in batches of 2048
(LazyAdam). The graphs are random with a long-tailed popularity (graphs.py), ten interactions a user and fifty an item;
the other curves change one size at ``--base`` interactions. Each point runs in a process of its own: an epoch is what
comes before its first batch plus its number of batches times the median step of ``--steps``, after two that are left
out.

Writes ``results/scaling.csv``, a row a point, from which a stopped run goes on, and ``results/scaling_fit.csv``: of the
epochs over the interactions, R² of the linear fit and the exponent of the power law between the last two points. One
size with its memory: ``--curves interactions --most 1e7 --least 1e7``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from graphs import random_graph
from measure import peak_gib
from steps import in_own_process

from pyg_mmrec.benchmark import Ledger
from pyg_mmrec.loader import SubgraphSampler, TripletLoader
from pyg_mmrec.models import LightGCN
from pyg_mmrec.training import LazyAdam
from pyg_mmrec.training.lazy_adam import sparse_gradients
from pyg_mmrec.utils import keep_freed_memory, with_operators

INTERACTIONS = [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000]
SIZES = ("interactions", "users", "items", "channels", "layers")
KEY = ["curve", "way", *SIZES, "neighbors", "num_threads"]
WARM_UP = 2


def points(curves: list[str], base: int, least: float, most: float) -> list[dict[str, Any]]:
    """The sizes of each point of each curve."""
    standard = {"interactions": base, "users": base // 10, "items": base // 50, "channels": 64, "layers": 2}
    values: dict[str, list[int]] = {
        "users": [base // 40, base // 20, base // 10, base // 5, base // 2],
        "items": [base // 400, base // 100, base // 50, base // 20, base // 10],
        "channels": [16, 32, 64, 128, 256],
        "layers": [1, 2, 3, 4],
    }
    found = []
    for curve in curves:
        if curve == "interactions":
            kept = [number for number in INTERACTIONS if least <= number <= most]
            rows = [{**standard, "interactions": n, "users": n // 10, "items": n // 50} for n in kept]
        else:
            rows = [{**standard, curve: value} for value in values[curve]]
        found += [{"curve": curve, **row} for row in rows]
    return found


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """An epoch's parts at one point."""
    torch.set_num_threads(spec["num_threads"])
    torch.manual_seed(0)
    if spec.get("kept", True):
        keep_freed_memory()  # as the trainer does
    start = time.perf_counter()
    data = with_operators(random_graph(spec["interactions"], spec["users"], spec["items"]))
    model = LightGCN.from_data(data, hidden_channels=spec["channels"], num_layers=spec["layers"])
    sampled = spec["way"] == "sampled"
    loader = TripletLoader(data, 2048 if sampled else "auto")
    built = time.perf_counter() - start
    sampler = SubgraphSampler(model.reach(), spec["neighbors"]) if sampled else None
    make = LazyAdam if sampled else torch.optim.Adam
    optimizer, generator = make(model.parameters(), **({} if sampled else {"fused": True})), torch.Generator()
    steps, start = [], time.perf_counter()
    with sparse_gradients(model, sampled):
        batches = loader.epoch(0)
        batch = next(batches)
        before = time.perf_counter() - start
        for _ in range(spec["steps"] + WARM_UP):
            start = time.perf_counter()
            view, local = sampler(data, batch, generator) if sampler else (data, batch)
            optimizer.zero_grad()
            torch.stack(list(model.loss(view, local).values())).sum().backward()
            optimizer.step()
            batch = next(batches, batch)
            steps.append(time.perf_counter() - start)
    step = statistics.median(steps[WARM_UP:])
    epoch = before + len(loader) * step
    parts = {"before_seconds": before, "step_seconds": step, "batches": len(loader), "batch_size": loader.batch_size}
    return {"epoch_seconds": epoch, **parts, "build_seconds": built, "peak_gib": peak_gib()}


def fits(table: pd.DataFrame) -> pd.DataFrame:
    """How the epochs follow the interactions, for each way and number of neighbours."""
    rows = []
    for (way, neighbors), part in table[table["curve"] == "interactions"].groupby(["way", "neighbors"]):
        part = part.sort_values("interactions")
        if len(part) < 3:
            continue
        x, y = part["interactions"].to_numpy(float), part["epoch_seconds"].to_numpy(float)
        slope, shift = np.polyfit(x, y, 1)
        r2 = 1 - ((y - slope * x - shift) ** 2).sum() / ((y - y.mean()) ** 2).sum()
        exponent = math.log(y[-1] / y[-2]) / math.log(x[-1] / x[-2])
        row = {"way": way, "neighbors": neighbors, "points": len(part), "from": int(x[0]), "to": int(x[-1])}
        rows.append({**row, "r2": r2, "last_exponent": exponent, "seconds_per_million": 1e6 * slope})
    return pd.DataFrame(rows)


def main() -> None:
    """Measures what is not in the results yet, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--curves", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--ways", nargs="+", default=["growing", "sampled"], choices=["growing", "sampled"])
    parser.add_argument("--base", type=float, default=1e6, help="interactions of the other curves")
    parser.add_argument("--least", type=float, default=1e5, help="interactions of the first curve's first point")
    parser.add_argument("--most", type=float, default=1e7, help="interactions of its last")
    parser.add_argument("--neighbors", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--point", help=argparse.SUPPRESS)  # one point, in a process of its own
    args = parser.parse_args()
    if args.point:
        json.dump(measure(json.loads(args.point)), sys.stdout)
        return
    torch.set_num_threads(args.threads)
    ledger = Ledger(args.results / "scaling.csv", KEY)
    for point in points(args.curves, int(args.base), args.least, args.most):
        for way in args.ways:
            key = {**point, "way": way, "neighbors": args.neighbors if way == "sampled" else "all"}
            key["num_threads"] = args.threads
            spec = json.dumps({**key, "steps": args.steps})
            row = ledger.run(key, lambda spec=spec: in_own_process(__file__, "--point", spec))
            print(point, way, f"{row['epoch_seconds']:.1f} s an epoch, {row['peak_gib']:.2f} GiB", flush=True)
    table = fits(ledger.rows())
    if not table.empty:
        table.to_csv(args.results / "scaling_fit.csv", index=False)
        print(table.to_string(index=False))


if __name__ == "__main__":
    main()
