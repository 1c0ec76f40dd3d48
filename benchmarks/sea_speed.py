"""A training step of SEA at Amazon Baby's sizes: weights composed, against T_m built as the equations have it.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/sea_speed.py

The data of ``speed.py``: 19,445 users, 7,050 items, features of width 4096 and 384, batches of 2048. Every row is a
process of its own, so that its peak memory is its own. Writes ``results/sea_speed.csv``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd
import torch
from speed import NUM_ITEMS, NUM_USERS, baby_sized
from steps import WARM_UP, in_own_process, time_steps, write_table
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models import SEA
from pyg_mmrec.transforms import ModalKNNGraph
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import item_features, with_operators

RESULTS = Path(__file__).parent / "results"
BATCH = 2048
VARIANTS = {
    "SEA-a": {},
    "SEA-b": {"distancing": "negative"},
    "SEA-c": {"alignment": "infonce"},
    "SEA-d": {"alignment": "infonce", "distancing": "negative"},
    "SEA-a, estimators on 2048 items": {"estimator_items": 2048},
}


class PlainSEA(SEA):
    """SEA with T_m built."""

    def _first_layers(self, data: HeteroData) -> dict[str, dict[str, Tensor]]:
        first = {}
        for name, width in self.in_channels.items():
            t = self.transform[name](item_features(data, name, width))
            layers = {"encoder": (self.encoder_in[name], slice(None)), **self.separate.first_layers(name)}
            first[name] = {key: layer(t[:, part]) for key, (layer, part) in layers.items()}
        return first


def measure(variant: str, form: str, steps: int) -> dict[str, float]:
    """Figures of a step."""
    torch.manual_seed(0)
    data = with_operators(ModalKNNGraph(k=10)(baby_sized(torch.Generator().manual_seed(0))))
    model = (SEA if form == "composed" else PlainSEA).from_data(data, **VARIANTS[variant])
    batches = (
        Triplets(*(torch.randint(size, (BATCH,)) for size in (NUM_USERS, NUM_ITEMS, NUM_ITEMS)))
        for _ in range(steps + WARM_UP)
    )
    return time_steps(model, data, batches)


def main() -> None:
    """Runs every row in its own process, writes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--one", nargs=2, metavar=("VARIANT", "FORM"), help="measure one row and print it as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.steps)))
        return
    rows = []
    for variant in VARIANTS:
        for form in ("composed", "plain") if variant in ("SEA-a", "SEA-b") else ("composed",):
            found = in_own_process(__file__, "--steps", str(args.steps), "--one", variant, form)
            rows.append({"variant": variant, "form": form, **found})
            print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    plain = table[table["form"] == "plain"].set_index("variant")["seconds"]
    table["plain_over_composed"] = table["variant"].map(plain) / table["seconds"]
    write_table(table, args.results / "sea_speed.csv")


if __name__ == "__main__":
    main()
