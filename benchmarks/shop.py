"""Do item features help on the built-in shop? New shops, drawn with seeds that no setting was chosen on.

    python benchmarks/shop.py --shops 1 2 3 4 5 --seeds 0 1 2

On every shop, with the settings of ``examples/demo.py``: popularity as the floor, LightGCN, FREEDOM, FREEDOM with the
items' features shuffled, and the oracle that knows the planted preferences as the ceiling. Each run is a row of
``results/shop_runs.csv``; what is there already is not repeated. ``results/shop.csv`` has the gains over LightGCN, each
with its standard error over the training seeds, and a last row over the shops.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import tempfile
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import Candidate, Ledger, prepare, train_one
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import PlantedOracle
from pyg_mmrec.models import FREEDOM, LightGCN, Popularity
from pyg_mmrec.transforms import ModalKNNGraph
from pyg_mmrec.typing import ITEM, feature_key

FOLDER = Path(__file__).parent / "results"
METRIC = "test_recall@20"
GRAPHS = {"graph_weights": {"image": 0.5, "text": 0.5}}
CANDIDATES = [
    Candidate(Popularity),
    Candidate(LightGCN, {"num_layers": 2}),
    Candidate(FREEDOM, GRAPHS),
    Candidate(FREEDOM, GRAPHS, label="FREEDOM, shuffled features"),
    Candidate(PlantedOracle),
]
UNTRAINED = (Popularity, PlantedOracle)


def shuffled(data: HeteroData, names: Sequence[str] = ("image", "text")) -> HeteroData:
    """The shop with these features of its items dealt out anew, all in the same order."""
    data = copy.copy(data)
    perm = torch.randperm(data[ITEM].num_nodes, generator=torch.Generator().manual_seed(0))
    for name in names:
        data[ITEM][feature_key(name)] = data[ITEM][feature_key(name)][perm]
    return data


@cache
def views_of(shop: int, shuffle: bool) -> Views:
    """The split shop with the items' graphs."""
    data = AttributeShop(str(Path(tempfile.gettempdir(), f"pyg_mmrec_shop_{shop}")), seed=shop)[0]
    return prepare(shuffled(data) if shuffle else data, [FREEDOM], graph=ModalKNNGraph(k=10))


def train(shop: int, candidate: Candidate, seed: int) -> dict[str, Any]:
    """The row of a training."""
    views = views_of(shop, candidate.name.endswith("shuffled features"))
    return train_one(candidate, views, seed, batch_size=512, learning_rate=2e-3, progress=False)[1]


def gains(runs: pd.DataFrame) -> pd.DataFrame:
    """Means and gains over LightGCN by shop, and the mean gain over shops with its standard error."""
    rows = []
    for shop, part in runs.groupby("shop"):
        by_model = part.groupby("model")[METRIC]
        mean, error = by_model.mean(), by_model.std() / by_model.size() ** 0.5
        row = {"shop": str(shop), **mean.round(4)}
        for label, name in (("gain", "FREEDOM"), ("shuffled_gain", "FREEDOM, shuffled features")):
            row[label] = mean[name] - mean["LightGCN"]
            row[f"{label}_se"] = math.hypot(error[name], error["LightGCN"])
        rows.append(row)
    table = pd.DataFrame(rows)
    total = {"shop": "all"} | {name: table[name].mean() for name in table.columns if name != "shop"}
    for label in ("gain", "shuffled_gain"):
        total[f"{label}_se"] = table[label].std() / len(table) ** 0.5
    return pd.concat([table, pd.DataFrame([total])]).round(4)


def main() -> None:
    """Trains what is missing, writes and prints the gains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="seeds of the shops")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="training seeds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ledger, rows = Ledger(args.results / "shop_runs.csv", ["shop", "model", "seed"]), []
    for shop, candidate in itertools.product(args.shops, CANDIDATES):
        for seed in args.seeds[:1] if candidate.model in UNTRAINED else args.seeds:
            key = {"shop": shop, "model": candidate.name, "seed": seed}
            rows.append(ledger.run(key, partial(train, shop, candidate, seed)))
    runs = pd.DataFrame(rows)
    table = gains(runs)
    table.to_csv(args.results / "shop.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
