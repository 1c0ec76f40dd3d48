"""Trains MDR on pictures, words and a few labels of the built-in shop, and shows what its attributes are.

python examples/mdr.py            # the default shop, some ten minutes
python examples/mdr.py --small    # a smaller shop, some seconds
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import torch

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import aspect_words, attribute_report, save_grid, traverse
from pyg_mmrec.models import MDR
from pyg_mmrec.nn import AttributeLayout
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import WeakLabels, WordTokens


def main() -> None:
    """Trains, tests, looks at the attributes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="a smaller shop and few epochs")
    parser.add_argument("--root", default=str(Path(tempfile.gettempdir(), "pyg_mmrec_shop")), help="folder of the shop")
    parser.add_argument("--out", default="mdr_report", help="folder for tables and pictures")
    args = parser.parse_args()

    shop = AttributeShop(args.root, **({"num_users": 300, "num_items": 200} if args.small else {}))
    texts = [shop.text(item) for item in range(shop[0]["item"].num_nodes)]
    data = WordTokens(texts, min_count=1, stop_words="english")(copy.copy(shop[0]))
    train_data, val_data, test_data = prepare(WeakLabels(0.05)(data), [MDR])
    layout = AttributeLayout(shop.visible_in, num_classes={"colour": 8, "shape": 6})
    torch.manual_seed(0)
    model = MDR.from_data(train_data, layout=layout, rebuilt_items=256)

    trainer = Trainer(max_epochs=2 if args.small else 60, batch_size=1024, learning_rate=3e-3, evaluate_every=2)
    print(trainer.fit(model, train_data, val_data, test_data).test)
    report = attribute_report(model, train_data, shop[0], folder=args.out)
    print(report.probes.pivot(index="attribute", columns="part", values="accuracy").round(2).to_string())
    print(report.labels.to_string(index=False))
    print(report.shares.to_string(index=False))
    image = data["item"].image  # first the picture itself, then what is rebuilt with the attribute changed
    for attribute in ("colour", "shape", "texture"):
        rows = [torch.cat([image[item : item + 1], traverse(model, train_data, item, attribute)]) for item in range(4)]
        save_grid(Path(args.out, f"{attribute}.png"), rows)
    for attribute, words in aspect_words(model, data["word"].text, k=6).items():
        print(f"{attribute}: {' '.join(words)}")

    user = 0
    item = int(model.recommend(train_data, torch.tensor([user]), k=1)[1])
    why = model.explain(train_data, user, item)
    print(f"{why.score:.2f} for {shop.text(item)}")
    for attribute, own in why.candidate.items():
        best = int(why.history[attribute].argmax())
        given = float(why.history[attribute].sum())
        print(f"  {attribute}: {own:+.2f} of its own, {given:+.2f} of the history, most of it by")
        print(f"    {shop.text(int(why.item[best]))}")


if __name__ == "__main__":
    main()
