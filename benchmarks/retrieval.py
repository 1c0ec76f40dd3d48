"""Recommendations of a million users written to a file: users a second and peak memory.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/retrieval.py                # 1,000,000 users, top 50 of 100,000 items
    OMP_WAIT_POLICY=PASSIVE python benchmarks/retrieval.py --users 20000  # a small form

Vectors are random, 64 wide, and every user has had 20 items. Each row is a process of its own, so that its peak memory
is its own; it includes the vectors and the lists of items that users have had. Writes ``results/retrieval.csv``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
from measure import peak_gib
from steps import in_own_process, write_table
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BPRMF
from pyg_mmrec.retrieval import Retriever, write_recommendations
from pyg_mmrec.utils import keep_freed_memory

RESULTS = Path(__file__).parent / "results"
CHANNELS, SEEN = 64, 20


def random_shop(num_users: int, num_items: int) -> tuple[BPRMF, HeteroData]:
    """A model with random vectors, and users with 20 different items each."""
    generator = torch.Generator().manual_seed(0)
    step = torch.randint(1, num_items // SEEN, (num_users, SEEN), generator=generator)
    item = (torch.randint(num_items, (num_users, 1), generator=generator) + step.cumsum(1)) % num_items
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    user = torch.arange(num_users).repeat_interleave(SEEN)
    data["user", "interacts", "item"].edge_index = torch.stack([user, item.flatten()])
    torch.manual_seed(0)
    return BPRMF.from_data(data, hidden_channels=CHANNELS), data


def measure(num_users: int, num_items: int, k: int, end: str, folder: Path) -> dict[str, float]:
    """Seconds from the model to the finished file, users a second, size of the file, peak memory."""
    keep_freed_memory()  # as the command does
    model, data = random_shop(num_users, num_items)
    start, cpu = time.perf_counter(), time.process_time()
    path = folder / f"recommendations.{end}"
    write_recommendations(Retriever(model, data), path, k=k)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "users_per_second": num_users / seconds,
        "file_gib": path.stat().st_size / 2**30,
        "peak_gib": peak_gib(),
    }


def main() -> None:
    """Measures each format in a process of its own, writes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--formats", nargs="+", default=["parquet", "csv"], choices=["parquet", "csv"])
    parser.add_argument("--folder", type=Path, help="where the files are written for a while")
    parser.add_argument("--one", metavar="FORMAT", help="measure one format and print it as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    sizes = ["--users", str(args.users), "--items", str(args.items), "--k", str(args.k)]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        if args.one:
            print(json.dumps(measure(args.users, args.items, args.k, args.one, Path(folder))))
            return
        rows = []
        for end in args.formats:
            facts = {"format": end, "users": args.users, "items": args.items, "k": args.k}
            rows.append({**facts, **in_own_process(__file__, *sizes, "--folder", folder, "--one", end)})
            print(rows[-1], flush=True)
    write_table(pd.DataFrame(rows), args.results / "retrieval.csv")


if __name__ == "__main__":
    main()
