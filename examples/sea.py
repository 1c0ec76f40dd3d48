"""Trains SEA on the built-in shop and shows what its generic and unique parts hold.

python examples/sea.py            # the default shop, some minutes
python examples/sea.py --small    # a smaller shop, some seconds
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import separation_report
from pyg_mmrec.models import SEA
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import ModalKNNGraph


def main() -> None:
    """Trains, tests, probes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a smaller shop and few epochs")
    parser.add_argument("--root", default=str(Path(tempfile.gettempdir(), "pyg_mmrec_shop")), help="folder of the shop")
    parser.add_argument("--out", default="sea_report", help="folder for tables and plots")
    args = parser.parse_args()

    shop = AttributeShop(args.root, **({"num_users": 600, "num_items": 400} if args.small else {}))
    train_data, val_data, test_data = prepare(shop[0], [SEA], graph=ModalKNNGraph(k=10))
    settings = {"graph_weights": {"image": 0.5, "text": 0.5}, "align_weight": 0.1, "distance_weight": 0.1}
    torch.manual_seed(0)
    model = SEA.from_data(train_data, **settings, estimator_lr=1e-3)
    torch.manual_seed(0)
    untrained = SEA.from_data(train_data, **settings)

    trainer = Trainer(max_epochs=10 if args.small else 1000, learning_rate=2e-3)
    print(trainer.fit(model, train_data, val_data, test_data).test)
    report = separation_report(model, train_data, control=untrained, folder=args.out)
    print(report.probes.to_string(index=False))


if __name__ == "__main__":
    main()
