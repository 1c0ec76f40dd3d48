"""Trains and compares models on the built-in shop, then shows what they recommend.

python examples/demo.py            # three seeds, the default shop
python examples/demo.py --small    # two seeds, a smaller shop, some seconds

The shop's defaults, and the batch size and learning rate here, were chosen so that features matter on this very shop
(seed 0). ``benchmarks/shop.py`` repeats the comparison on shops of other seeds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import Candidate, compare, format_table, prepare, summarize
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import PlantedOracle
from pyg_mmrec.models import FREEDOM, SEA, VBPR, LightGCN, Popularity, Recommender
from pyg_mmrec.transforms import ModalKNNGraph
from pyg_mmrec.typing import INTERACTS

CANDIDATES = [
    Candidate(Popularity, label="Popularity (floor)"),
    Candidate(LightGCN, {"num_layers": 2}),
    Candidate(VBPR),
    Candidate(FREEDOM, {"graph_weights": {"image": 0.5, "text": 0.5}}),
    Candidate(
        SEA,
        {
            "graph_weights": {"image": 0.5, "text": 0.5},
            "estimator_lr": 1e-3,
            "estimator_items": 500,
            "estimator_steps": 10,
        },
        {"batch_size": 2048, "patience": 5},  # in a fraction of the time that its own settings take
    ),
    Candidate(PlantedOracle, label="PlantedOracle (ceiling)"),
]


def show_users(model: Recommender, shop: AttributeShop, view: HeteroData, num_users: int = 5) -> None:
    """Prints some users' train items and what the model recommends to them."""
    users = torch.arange(num_users)
    _, items = model.recommend(view, users, k=5)
    edges = view[INTERACTS].edge_index
    for user in users.tolist():
        print(f"\nUser {user} has")
        for item in edges[1, edges[0] == user][:5].tolist():
            print(f"    {shop.text(item)}")
        print("  and is recommended")
        for item in items[user].tolist():
            print(f"    {shop.text(item)}")


def main() -> None:
    """Makes the shop, trains, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a smaller shop and two seeds")
    parser.add_argument("--root", default=str(Path(tempfile.gettempdir(), "pyg_mmrec_shop")), help="its folder")
    args = parser.parse_args()
    torch.set_num_threads(1)  # the steps are so small that a second thread costs more than it brings

    shop = AttributeShop(args.root, **({"num_users": 800, "num_items": 600} if args.small else {}))
    data = shop[0]
    views = prepare(data, [candidate.model for candidate in CANDIDATES], graph=ModalKNNGraph(k=10))
    print(shop, views[0], sep="\n")
    seeds = range(2 if args.small else 3)
    runs, models = compare(CANDIDATES, views, list(seeds), batch_size=512, learning_rate=2e-3)
    print(f"\nTest results, mean and standard deviation over {len(seeds)} seeds, selected on validation:\n")
    print(format_table(summarize(runs), ["recall@10", "recall@20", "ndcg@20"]))
    show_users(models["FREEDOM"], shop, views[0])


if __name__ == "__main__":
    main()
