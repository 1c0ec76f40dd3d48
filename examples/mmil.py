"""Trains MMIL on the built-in shop, compares its intents with the planted ones and explains a user.

python examples/mmil.py            # the default shop, some minutes
python examples/mmil.py --small    # a smaller shop, some seconds
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import intent_report
from pyg_mmrec.models import MMIL
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import ModalKNNGraph


def main() -> None:
    """Trains, tests, looks at the intents."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a smaller shop and few epochs")
    parser.add_argument("--root", default=str(Path(tempfile.gettempdir(), "pyg_mmrec_shop")), help="folder of the shop")
    parser.add_argument("--out", default="mmil_report", help="folder for tables")
    args = parser.parse_args()

    shop = AttributeShop(args.root, **({"num_users": 600, "num_items": 400} if args.small else {}))
    train_data, val_data, test_data = prepare(shop[0], [MMIL], graph=ModalKNNGraph(k=10))
    torch.manual_seed(0)
    model = MMIL.from_data(train_data, num_intents=8)

    trainer = Trainer(max_epochs=15 if args.small else 1000, batch_size=512)  # users in a batch
    print(trainer.fit(model, train_data, val_data, test_data).test)
    report = intent_report(model, shop[0], test_data, folder=args.out)
    print(report.recovery.to_string(index=False))
    print(report.shift.to_string(index=False))

    why = model.explain(train_data, user=0)
    intent = int(why.intent.argmax())
    print("channels:", {name: round(weight, 2) for name, weight in why.modality.items()})
    print(f"intent {intent} ({why.intent[intent]:.2f}) is carried by")
    for item, share in zip(why.item.tolist(), why.carried[intent].tolist(), strict=True):
        print(f"  {share:.2f}  {shop.text(item)}")


if __name__ == "__main__":
    main()
