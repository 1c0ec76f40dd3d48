"""Trains MDR on pictures, words and a few labels of the built-in shop, and explains a recommendation.

python examples/mdr.py
"""

import argparse
import copy

import torch

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.models import MDR
from pyg_mmrec.nn import AttributeLayout
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import WeakLabels

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--root", default="data", help="folder that the shop is kept in")
parser.add_argument("--num-users", type=int, default=3000)
parser.add_argument("--num-items", type=int, default=2000)
parser.add_argument("--epochs", type=int, default=30)
args = parser.parse_args()

shop = AttributeShop(args.root, args.num_users, args.num_items)
data = WeakLabels(0.05)(copy.copy(shop[0]))  # of a twentieth of the items
views = prepare(data, [MDR])

torch.manual_seed(0)
layout = AttributeLayout(shop.visible_in, num_classes={"colour": 8, "shape": 6})
model = MDR.from_data(views[0], layout=layout, rebuilt_items=256)
trainer = Trainer(max_epochs=args.epochs, batch_size=1024, learning_rate=3e-3, evaluate_every=5)
result = trainer.fit(model, *views)
print(f"test Recall@20 {result.test['recall@20']:.4f}")

hidden = data["item"].attr_colour < 0
for name, value in model.labels(views[0]).items():
    right = (value == shop[0]["item"][f"attr_{name}"])[hidden].float().mean()
    print(f"{name} of items without a label: {right:.0%} right")

user = 0
item = int(model.recommend(views[0], torch.tensor([user]), k=1)[1])
why = model.explain(views[0], user, item)
print(f"item {item} for user {user}: {shop.text(item)}")
for name in why.candidate:
    best = int(why.history[name].argmax())
    print(
        f"  {name}: {why.candidate[name]:+.2f} of its own, {float(why.history[name].sum()):+.2f} of the history, "
        f"most by item {int(why.item[best])}"
    )
