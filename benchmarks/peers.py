"""Epochs, evaluation, kNN graphs and memory beside PyG, RecBole, Cornac, scikit-learn and faiss at equal settings.

    pip install -c constraints.txt ".[benchmark]"
    OMP_WAIT_POLICY=PASSIVE python benchmarks/peers.py --recbole PYTHON

Amazon Baby's sizes (19,445 users, 7,050 items, 118,551 train interactions; random, see graphs.py), width 64, batches of
2048 with one negative each, Adam, 58 steps. Every figure is from a process of its own: the median wall time of
``--repeats`` runs after one that is left out (three at most for the large kNN graph, whose dense way takes 10 GB), and
the most memory that the process held, libraries and data included. An epoch holds the drawing of batches and negatives.
What is compared, and how RecBole's environment is made, is in docs/benchmarks.md.

The extra ``benchmark`` installs Cornac and faiss beside this package; ``--cornac`` names another environment's Python.
What is not installed is left out. Writes ``results/peers.csv``: ``times_ours`` is a library's time over ours,
``memory_times_ours`` its memory over ours.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import peers_knn
import peers_lightgcn
import peers_vbpr
from measure import peak_gib
from peers_data import Sizes, Workload, draw_held_out

SEARCHES = {
    "ours": peers_knn.ours,
    "dense": peers_knn.dense,
    "scikit-learn": peers_knn.sklearn,
    "faiss": peers_knn.faiss,
}
EPOCHS = {
    "ours": peers_lightgcn.our_epoch,
    "PyG": peers_lightgcn.pyg_epoch,
    "RecBole": peers_lightgcn.recbole_epoch,
}
#: The comparison in which glibc keeps freed memory in every process, as this package's trainer has it, and how.
KEPT = "LightGCN: epoch, memory kept by all"
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
#: Each comparison: what measures the seconds of each library, this package first.
TASKS: dict[str, dict[str, Callable[[Workload], float]]] = {
    "LightGCN: epoch": EPOCHS,
    KEPT: EPOCHS,
    "LightGCN: evaluation": {"ours": peers_lightgcn.our_evaluation, "RecBole": peers_lightgcn.recbole_evaluation},
    "VBPR: epoch": {"ours": peers_vbpr.our_epoch, "Cornac": peers_vbpr.cornac_epoch},
    "VBPR: evaluation": {"ours": peers_vbpr.our_evaluation, "Cornac": peers_vbpr.cornac_evaluation},
    **{
        f"kNN graph, {rows:,} x {channels}": {
            name: partial(peers_knn.search, method=method, rows=rows, channels=channels)
            for name, method in SEARCHES.items()
        }
        for rows, channels in ((7_050, 4096), (7_050, 384), (50_000, 384))
    },
}
#: Where a library's version is found.
DISTRIBUTIONS = {
    "PyG": "torch-geometric",
    "RecBole": "recbole",
    "Cornac": "cornac",
    "dense": "torch",
    "scikit-learn": "scikit-learn",
    "faiss": "faiss-cpu",
}
Row = dict[str, str | float]


def measure(task: str, peer: str, work: Workload) -> Row:
    """What this process takes for a task."""
    seconds = TASKS[task][peer](work)
    version = importlib.metadata.version(DISTRIBUTIONS[peer]) if peer in DISTRIBUTIONS else ""
    return {"version": version, "seconds": seconds, "peak_gib": peak_gib()}


def in_own_process(python: str, task: str, peer: str, work: Path, threads: int) -> Row:
    """What a process of a peer's environment prints last."""
    command = [python, str(Path(__file__).resolve()), "--task", task, "--peer", peer, "--work", str(work)]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    kept = KEEP if task == KEPT else {}
    done = subprocess.run(  # in the folder of the data, since RecBole writes its logs where it runs
        command, capture_output=True, text=True, env={**os.environ, **limits, **kept}, cwd=work.parent, check=False
    )
    if done.returncode:
        raise SystemExit(f"{task}: {peer} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    row: Row = json.loads(done.stdout.splitlines()[-1])
    return row


def compare(tasks: list[str], pythons: dict[str, str | None], sizes: Sizes, threads: int) -> list[Row]:
    """Measures the libraries that have a Python, one after another, each figure beside ours."""
    from graphs import random_graph

    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "work.npz")
        graph = random_graph(sizes.num_train, sizes.num_users, sizes.num_items)
        train = graph["user", "interacts", "item"].edge_index.numpy()
        Workload(sizes, train, draw_held_out(train, sizes.num_users, sizes.num_items)).save(path)
        for task in tasks:
            base: Row = {}
            for peer in TASKS[task]:
                if (python := pythons.get(peer, sys.executable)) is None:
                    continue
                found = in_own_process(python, task, peer, path, threads)
                base = base or found
                row: Row = {"peer": peer, "version": found["version"], "what": task}
                for name, ratio in (("seconds", "times_ours"), ("peak_gib", "memory_times_ours")):
                    row[name], row[ratio] = found[name], float(found[name]) / float(base[name])
                rows.append(row)
                print(row, flush=True)
    return rows


def parse_args() -> argparse.Namespace:
    """The command line; paths of Pythons are made absolute."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recbole", metavar="PYTHON", help="of an environment with RecBole (default: left out)")
    parser.add_argument("--cornac", metavar="PYTHON", help="of an environment with Cornac (default: this one)")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), metavar="TASK")
    parser.add_argument("--repeats", type=int, default=Sizes.repeats)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--task", choices=list(TASKS), help=argparse.SUPPRESS)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for name in ("recbole", "cornac"):
        if python := getattr(args, name):
            if not os.access(python, os.X_OK):
                parser.error(f"--{name} must be the path of a Python (got {python!r})")
            setattr(args, name, os.path.abspath(python))  # not resolved: a link leads out of its environment
    return args


def main() -> None:
    """Measures, prints, writes."""
    args = parse_args()
    if args.task:
        print("\n" + json.dumps(measure(args.task, args.peer, Workload.load(args.work))))
        return
    import pandas as pd
    import torch
    from steps import write_table

    torch.set_num_threads(args.threads)
    here = {name: sys.executable if importlib.util.find_spec(name) else None for name in ("cornac", "faiss")}
    pythons = {"RecBole": args.recbole, "Cornac": args.cornac or here["cornac"], "faiss": here["faiss"]}
    rows = compare(args.tasks, pythons, Sizes(repeats=args.repeats), args.threads)
    write_table(pd.DataFrame(rows), args.results / "peers.csv")


if __name__ == "__main__":
    main()
