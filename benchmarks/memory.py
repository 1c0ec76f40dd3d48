"""What it saves that training keeps freed memory: epochs of LightGCN with ``keep_freed_memory`` and without.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/memory.py

At Amazon Baby's sizes in batches of 2048 and at two larger sizes in batches that grow, as ``scaling.py`` measures them.
Each figure is from a process of its own, glibc as it is by default or told to keep memory. Writes
``results/memory.csv``: ``times_kept`` is an epoch's time over that with memory kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from scaling import measure
from steps import in_own_process, write_table

SIZES = [
    {"interactions": 118_551, "users": 19_445, "items": 7_050},
    {"interactions": 1_000_000, "users": 100_000, "items": 20_000},
    {"interactions": 3_000_000, "users": 300_000, "items": 60_000},
]


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--point", help=argparse.SUPPRESS)  # one point, in a process of its own
    args = parser.parse_args()
    if args.point:
        json.dump(measure(json.loads(args.point)), sys.stdout)
        return
    torch.set_num_threads(args.threads)
    shared = {"way": "growing", "channels": 64, "layers": 2, "num_threads": args.threads, "steps": args.steps}
    rows: list[dict[str, Any]] = []
    for size, kept in itertools.product(SIZES, [True, False]):
        found = in_own_process(__file__, "--point", json.dumps({**shared, **size, "kept": kept}))
        rows.append({**size, "kept": kept, **{name: found[name] for name in ("epoch_seconds", "peak_gib")}})
        rows[-1]["times_kept"] = rows[-1]["epoch_seconds"] / rows[-1 if kept else -2]["epoch_seconds"]
        print(rows[-1], flush=True)
    write_table(pd.DataFrame(rows), args.results / "memory.csv")


if __name__ == "__main__":
    main()
