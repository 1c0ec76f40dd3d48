"""A training step and an epoch of MMIL at Amazon Baby's sizes, and its memory with many intents and long histories.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/mmil_speed.py

The data of ``speed.py``: 19,445 users, 7,050 items, features of width 4096 and 384, batches of 512 users. In the
last row there are 12,000 items and one user more, who has 10,000 of them. Every row is a process of its own, so that
its peak memory is its own. Writes ``results/mmil_speed.csv``.
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
from torch_geometric.data import HeteroData

from pyg_mmrec.loader import HistoryLoader
from pyg_mmrec.models import MMIL
from pyg_mmrec.transforms import ModalKNNGraph
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import with_operators

RESULTS = Path(__file__).parent / "results"
BATCH = 512
MORE_ITEMS = 12_000  # where there is a long history
#: By row, the number of intents and the length of a long history; 0 for none.
VARIANTS: dict[str, tuple[int, int]] = {
    "20 intents": (20, 0),
    "100 intents": (100, 0),
    "100 intents, a history of 10,000 items": (100, 10_000),
}


def graph(long: int) -> HeteroData:
    """The train view; with a long history, one user and some items more."""
    generator = torch.Generator().manual_seed(0)
    data = baby_sized(generator)
    if long:
        user, more = data["user"].num_nodes, MORE_ITEMS - data["item"].num_nodes
        data["user"].num_nodes, data["item"].num_nodes = user + 1, MORE_ITEMS
        for key in ("x_image", "x_text"):
            x = data["item"][key]
            data["item"][key] = torch.cat([x, torch.randn(more, x.size(1), generator=generator)])
        own = torch.stack([torch.full((long,), user), torch.arange(MORE_ITEMS - long, MORE_ITEMS)])
        data[INTERACTS].edge_index = torch.cat([data[INTERACTS].edge_index, own], dim=1)
    data[INTERACTS].edge_label_index = data[INTERACTS].edge_index  # what is trained on
    return with_operators(ModalKNNGraph(k=10)(data))


def measure(variant: str) -> dict[str, float]:
    """Figures of an epoch's steps."""
    num_intents, long = VARIANTS[variant]
    data = graph(long)
    torch.manual_seed(0)
    model = MMIL.from_data(data, num_intents=num_intents, warmup_epochs=None)
    loader = HistoryLoader(data, BATCH, seed=0)
    return time_steps(model, data, itertools.chain(itertools.islice(loader.epoch(1), WARM_UP), loader.epoch(0)))


def main() -> None:
    """Runs every row in its own process, writes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", metavar="VARIANT", help="measure one row and print it as JSON")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one)))
        return
    rows: list[dict[str, Any]] = []
    for variant in VARIANTS:
        rows.append({"variant": variant, **in_own_process(__file__, "--one", variant)})
        print(rows[-1], flush=True)
    write_table(pd.DataFrame(rows), args.results / "mmil_speed.csv")


if __name__ == "__main__":
    main()
