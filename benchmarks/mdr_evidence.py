"""What MDR's parts are on the built-in shop, whose attributes are known, and what they are worth.

    python benchmarks/mdr_evidence.py

On five shops, from pictures and words without stop words, with labels of colour and shape for 5 % of the items: MDR,
without its information constraint (w/o IC) and DIN++, selected by group AUC on validation; test group AUC and NDCG@10
among 100 sampled items, Recall@20 of the full ranking, and for MDR what
:func:`pyg_mmrec.diagnostics.attribute_report` measures. MDR also with the pictures, or the texts, of half the items
missing. With ``--shares`` other shares of labels. Writes ``results/mdr_shop_runs.csv``, where finished trainings are
not repeated, and ``results/mdr_shop.csv``.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pyg_mmrec.benchmark import Candidate, Ledger, prepare, train_one
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import attribute_report
from pyg_mmrec.evaluation import Evaluator, SampledEvaluator
from pyg_mmrec.models import MDR, DINPlus
from pyg_mmrec.nn import AttributeLayout
from pyg_mmrec.transforms import DropModality, WeakLabels, WordTokens

FOLDER = Path(__file__).parent / "results"
LAYOUT = AttributeLayout(AttributeShop.visible_in, num_classes={"colour": 8, "shape": 6}).to_dict()
TRAINER: dict[str, Any] = {"batch_size": 1024, "learning_rate": 3e-3, "evaluate_every": 5, "monitor": "gauc"}
TRAINER |= {"max_epochs": 60, "patience": 15}
VARIANTS: dict[str, tuple[type, dict[str, Any]]] = {
    "MDR": (MDR, {"layout": LAYOUT}),
    "w/o IC": (MDR, {"layout": LAYOUT, "information_weight": 0.0}),
    "DIN++": (DINPlus, {}),
    "half without image": (MDR, {"layout": LAYOUT}),
    "half without text": (MDR, {"layout": LAYOUT}),
}
KEY = ["shop", "variant", "labelled", "init_args"]


def train(shop: int, variant: str, labelled: float, args: dict[str, Any]) -> dict[str, Any]:
    """What a training and its report measure."""
    model_class = VARIANTS[variant][0]
    dataset = AttributeShop(str(Path(tempfile.gettempdir(), f"pyg_mmrec_shop_{shop}")), seed=shop)
    truth = dataset[0]
    texts = [dataset.text(item) for item in range(truth["item"].num_nodes)]
    data = WordTokens(texts, min_count=1, stop_words="english")(copy.copy(truth))
    if variant.startswith("half without "):
        data = DropModality(0.5, variant.removeprefix("half without "), seed=shop)(data)
    views = prepare(WeakLabels(labelled, ["colour", "shape"], seed=shop)(data), [model_class])
    candidate = Candidate(model_class, args)
    model, row = train_one(
        candidate, views, seed=shop, progress=False, evaluator=SampledEvaluator(["gauc", "ndcg@10"]), **TRAINER
    )
    row["test_recall@20"] = Evaluator(["recall@20"])(model, views[2])["recall@20"]
    if isinstance(model, MDR):
        report = attribute_report(model, views[0], truth, seed=shop)
        row |= {f"probe, {a}, {part}": value for a, part, value in report.probes.iloc[:, :3].itertuples(index=False)}
        row |= {f"label, {a}": value for a, value in report.labels.iloc[:, :2].itertuples(index=False)}
        row |= dict(report.scores.itertuples(index=False))
        row |= {f"share, {part}": value for part, value in report.shares.itertuples(index=False)}
    print(shop, variant, labelled, *(f"{name} {row[name]:.4f}" for name in ("test_gauc", "test_recall@20")), flush=True)
    return row


def run(ledger: Ledger, shop: int, variant: str, labelled: float) -> dict[str, Any]:
    """The row of a training, done if it has to be."""
    args = {"rebuilt_items": 256, **VARIANTS[variant][1]}
    key = dict(zip(KEY, (shop, variant, labelled, args), strict=True))
    return ledger.run(key, partial(train, shop, variant, labelled, args))


def main() -> None:
    """Trains, compares, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="seeds of shops and trainings")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.05], help="shares of labelled items")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ledger = Ledger(args.results / "mdr_shop_runs.csv", KEY)
    rows = [
        run(ledger, shop, variant, labelled)
        for labelled in args.shares
        for shop in args.shops
        for variant in args.variants
    ]
    table = pd.DataFrame(rows)
    shown = ("test_", "probe", "label,", "share", "mutual", "dis", "compl", "inf")
    measures = [name for name in table if name.startswith(shown)]
    summary = table.groupby(["labelled", "variant"], sort=False)[measures].agg(["mean", "sem"])
    summary.T.round(4).to_csv(args.results / "mdr_shop.csv")
    print(summary.T.round(4).to_string())


if __name__ == "__main__":
    main()
