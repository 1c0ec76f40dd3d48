"""A training step and an epoch of DRepMRec at Amazon Baby's sizes, by how the targets of its similarities are found.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/drepmrec_speed.py

The data of ``speed.py``: 19,445 users, 7,050 items, features of width 4096 and 384, batches of 2048. Every row is a
process of its own, so that its peak memory is its own. ``error`` is the root mean square by which the targets of a
batch's users differ from the direct ones. Writes ``results/drepmrec_speed.csv``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from speed import baby_sized
from steps import WARM_UP, in_own_process, time_steps, write_table

from pyg_mmrec.benchmark.prepare import with_user_graphs
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import DRepMRec
from pyg_mmrec.transforms import ModalKNNGraph
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import with_operators

RESULTS = Path(__file__).parent / "results"
BATCH = 2048
VARIANTS: dict[str, dict[str, Any]] = {
    "direct targets": {},
    "targets from Gram matrices": {"targets": "gram"},
    "projected targets, 256 channels": {"targets": "projected"},
    "no SSS": {"sss_weight": 0.0},
}


def measure(variant: str, folder: Path) -> dict[str, float]:
    """Figures of an epoch's steps."""
    data = torch.load(folder / "data.pt", weights_only=False)
    torch.manual_seed(0)
    model = DRepMRec.from_data(data, **VARIANTS[variant])
    loader = TripletLoader(data, BATCH, seed=0)
    batches = list(itertools.chain(itertools.islice(loader.epoch(1), WARM_UP), loader.epoch(0)))
    figures = time_steps(model, data, batches)
    user = batches[0].user.unique()
    direct = DRepMRec.from_data(data).alignment.targets.users(data, user)
    error = (model.alignment.targets.users(data, user) - direct).square().mean().sqrt()
    return {**figures, "error": float(error)}


def main() -> None:
    """Builds the graphs once, runs every row in its own process, writes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("data"), help="where the random data is kept")
    parser.add_argument("--one", metavar="VARIANT", help="measure one row and print it as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.folder)))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    data = ModalKNNGraph(k=10)(baby_sized(torch.Generator().manual_seed(0)))
    data[INTERACTS].edge_label_index = data[INTERACTS].edge_index  # what is trained on
    torch.save(with_operators(with_user_graphs(data)), args.folder / "data.pt")
    rows = []
    for variant in VARIANTS:
        found = in_own_process(__file__, "--folder", str(args.folder), "--one", variant)
        rows.append({"variant": variant, **found})
        print(rows[-1], flush=True)
    write_table(pd.DataFrame(rows), args.results / "drepmrec_speed.csv")


if __name__ == "__main__":
    main()
