"""The sizes of data sets in the published files, as the papers' tables of data sets have them.

    python benchmarks/datasets.py --root DATA

Writes ``results/datasets.csv``: users, items and interactions, also by part of the split that comes with the data. Sets
that are not in the folder keep the rows that they have.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from pyg_mmrec.benchmark import default_split
from pyg_mmrec.datasets import MMRecDataset
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import num_users_items

RESULTS = Path(__file__).parent / "results"
NAMES = ["baby", "sports", "clothing", "toys", "office", "tiktok", "microlens50k"]


def sizes(root: str, name: str) -> dict[str, str | int | float]:
    """The row of a data set."""
    data = MMRecDataset(root, name)[0]
    (users, items), count = num_users_items(data), data[INTERACTS].edge_index.size(1)
    parts = [view[INTERACTS].edge_label_index.size(1) for view in default_split(data)(data)]
    row: dict[str, str | int | float] = {"dataset": name, "users": users, "items": items, "interactions": count}
    row |= dict(zip(("train", "validation", "test"), parts, strict=True))
    return row | {"sparsity": round(1 - count / (users * items), 5)}


def main() -> None:
    """Reads, writes and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, help="folder of the data sets")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    path = args.results / "datasets.csv"
    found = [sizes(args.root, name) for name in NAMES if Path(args.root, name, f"{name}.inter").is_file()]
    if not found:
        raise SystemExit(f"{args.root} holds none of {', '.join(NAMES)}")
    known = pd.read_csv(path).to_dict("records") if path.exists() else []
    rows = {row["dataset"]: row for row in [*known, *found]}
    table = pd.DataFrame([rows[name] for name in NAMES if name in rows])
    table.to_csv(path, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
