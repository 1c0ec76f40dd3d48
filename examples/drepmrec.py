"""Trains DRepMRec on the built-in shop and shows what its two lines say.

python examples/drepmrec.py            # the default shop, some minutes
python examples/drepmrec.py --small    # a smaller shop, some seconds
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import dual_report
from pyg_mmrec.models import DRepMRec
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import ModalKNNGraph


def main() -> None:
    """Trains, tests, looks at both lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a smaller shop and few epochs")
    parser.add_argument("--root", default=str(Path(tempfile.gettempdir(), "pyg_mmrec_shop")), help="folder of the shop")
    parser.add_argument("--out", default="drepmrec_report", help="folder for tables and plots")
    args = parser.parse_args()

    shop = AttributeShop(args.root, **({"num_users": 600, "num_items": 400} if args.small else {}))
    train_data, val_data, test_data = prepare(shop[0], [DRepMRec], graph=ModalKNNGraph(k=10))
    torch.manual_seed(0)
    model = DRepMRec.from_data(train_data, modality_weights={"image": 0.5, "text": 0.5})

    trainer = Trainer(max_epochs=10 if args.small else 1000)
    print(trainer.fit(model, train_data, val_data, test_data).test)
    report = dual_report(model, test_data, folder=args.out)
    print(report.ranking.to_string(index=False))
    print(report.distance.to_string(index=False))


if __name__ == "__main__":
    main()
