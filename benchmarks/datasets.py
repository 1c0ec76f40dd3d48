"""The sizes of data sets in the published files, as the papers' tables of data sets have them.

    python benchmarks/datasets.py --root DATA

Writes ``results/datasets.csv``: users, items and interactions, also by part of the split that comes with the data, and
for each modality the mean cosine of two items' features and of two users', the means of their train items'. Sets that
are not in the folder keep the rows that they have.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from torch import Tensor

from pyg_mmrec.benchmark import default_split
from pyg_mmrec.datasets import MMRecDataset
from pyg_mmrec.typing import INTERACTS, ITEM, feature_key
from pyg_mmrec.utils import interaction_operator, masked_mean, modalities, modality_masks, num_users_items, unit_rows

RESULTS = Path(__file__).parent / "results"
NAMES = ["baby", "sports", "clothing", "toys", "office", "tiktok", "microlens50k"]


def mean_cosine(x: Tensor) -> float:
    """Of two rows that are not the same, and not zero."""
    unit = unit_rows(x[x.any(1)].double())
    return float((unit.sum(0).square().sum() - len(unit)) / (len(unit) * (len(unit) - 1)))


def sizes(root: str, name: str) -> dict[str, str | int | float]:
    """The row of a data set."""
    data = MMRecDataset(root, name)[0]
    (users, items), count = num_users_items(data), data[INTERACTS].edge_index.size(1)
    views = default_split(data)(data)
    parts = [view[INTERACTS].edge_label_index.size(1) for view in views]
    row: dict[str, str | int | float] = {"dataset": name, "users": users, "items": items, "interactions": count}
    row |= dict(zip(("train", "validation", "test"), parts, strict=True))
    row["sparsity"] = round(1 - count / (users * items), 5)
    mean, masks = interaction_operator(views[0]).t().mean(), modality_masks(data, modalities(data))
    for modality in modalities(data):
        x = data[ITEM][feature_key(modality)]
        row[f"cosine_items_{modality}"] = round(mean_cosine(x), 4)
        row[f"cosine_users_{modality}"] = round(mean_cosine(masked_mean(mean, x, masks.get(modality))), 4)
    return row


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
