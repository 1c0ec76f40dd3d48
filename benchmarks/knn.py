"""User-user graphs at Amazon Clothing's sizes, and at a million users: seconds, memory and the neighbours found.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/knn.py            # 39,387 users x 4096 features, a few minutes
    OMP_WAIT_POLICY=PASSIVE python benchmarks/knn.py --large    # and 1,000,000 users x 64, an hour

Users have the mean features of seven random items each, of 23,033; the items' features are random around the centres of
500 groups. ``recall`` is the share of the exact search's ten nearest users that is found. Every row is a process of its
own, so that its peak memory is its own. Writes ``results/knn.csv``.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from measure import peak_gib
from steps import in_own_process, write_table
from torch import Tensor

from pyg_mmrec.utils import knn

RESULTS = Path(__file__).parent / "results"
K = 10
#: Users, items, width and arguments of each row.
CASES: dict[str, tuple[int, int, int, dict[str, Any]]] = {
    "Clothing, exact": (39_387, 23_033, 4096, {}),
    "Clothing, bfloat16": (39_387, 23_033, 4096, {"precision": "bfloat16"}),
    "Clothing, projected to 256": (39_387, 23_033, 4096, {"projection": 256}),
    "Clothing, projected to 256, bfloat16": (39_387, 23_033, 4096, {"projection": 256, "precision": "bfloat16"}),
}
LARGE: dict[str, tuple[int, int, int, dict[str, Any]]] = {
    "a million users, exact": (1_000_000, 200_000, 64, {}),
}


def user_means(num_users: int, num_items: int, channels: int) -> Tensor:
    """``[num_users, channels]``."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(500, channels, generator=generator)
    item = centre[torch.randint(500, (num_items,), generator=generator)]
    item += torch.randn(num_items, channels, generator=generator)
    chosen = torch.randint(num_items, (num_users, 7), generator=generator)
    return torch.nn.functional.embedding_bag(chosen, item, mode="mean")


def measure(case: str, folder: Path) -> dict[str, float]:
    """Seconds, peak memory and recall; the exact search of a size leaves its neighbours for the others."""
    num_users, num_items, channels, arguments = (CASES | LARGE)[case]
    x = user_means(num_users, num_items, channels)
    start, cpu = time.perf_counter(), time.process_time()
    found = knn(x, K, **arguments)[0]
    figures = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    figures["peak_gib"] = peak_gib()
    exact = folder / f"neighbors_{num_users}.pt"
    if not arguments:
        torch.save(found, exact)
    expected = torch.load(exact, weights_only=True)
    hits = [
        (one.unsqueeze(2) == other.unsqueeze(1)).any(2).sum()
        for one, other in zip(found.split(10_000), expected.split(10_000), strict=True)
    ]
    return {**figures, "recall": float(torch.stack(hits).sum() / found.numel())}


def main() -> None:
    """Runs every row in its own process, writes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", action="store_true", help="also a million users")
    parser.add_argument("--folder", type=Path, default=Path("data"), help="where exact neighbours are kept")
    parser.add_argument("--one", metavar="CASE", help="measure one row and print it as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.folder)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in CASES | (LARGE if args.large else {}):
        rows.append({"case": case, **in_own_process(__file__, "--folder", str(args.folder), "--one", case)})
        print(rows[-1], flush=True)
    write_table(pd.DataFrame(rows), args.results / "knn.csv")


if __name__ == "__main__":
    main()
