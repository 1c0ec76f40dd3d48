"""What MDR's parts are on the built-in shop, whose attributes are known, and what they are worth.

    python benchmarks/mdr_evidence.py

On five shops, from pictures and words without stop words, with labels of colour and shape for 5 % of the items: MDR,
without its information constraint (w/o IC), with the leakage of colour and shape into other parts penalised, with
other shares of labels, with the pictures or the texts of half the items missing; DIN++, with a beta-VAE's weight of
the divergence, 4, and with MDR's. Selected by group AUC on validation; test group AUC and NDCG@10 among 100 sampled
items, Recall@20 of the full ranking, and for MDR what
:func:`pyg_mmrec.diagnostics.attribute_report` measures. Writes ``results/mdr_shop_runs.csv``, where finished
trainings are not repeated, and ``results/mdr_shop.csv``.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from pyg_mmrec.benchmark import Candidate, Ledger, prepare, train_one
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import attribute_report
from pyg_mmrec.evaluation import Evaluator, SampledEvaluator
from pyg_mmrec.models import MDR, DINPlus
from pyg_mmrec.models.content_din import ContentDIN
from pyg_mmrec.nn import AttributeLayout
from pyg_mmrec.transforms import DropModality, WeakLabels, WordTokens

FOLDER = Path(__file__).parent / "results"
LAYOUT = AttributeLayout(AttributeShop.visible_in, num_classes={"colour": 8, "shape": 6}).to_dict()
TRAINER: dict[str, Any] = {"batch_size": 1024, "learning_rate": 3e-3, "evaluate_every": 5, "monitor": "gauc"}
TRAINER |= {"max_epochs": 60, "patience": 15}


class Variant(NamedTuple):
    """A model, and the data that it is trained on."""

    model: type[ContentDIN] = MDR
    args: dict[str, Any] = {"layout": LAYOUT}  # noqa: RUF012
    labelled: float = 0.05  #: share of the items with labels
    lacking: str | None = None  #: a modality that half the items lack


VARIANTS = {
    "MDR": Variant(),
    "w/o IC": Variant(args={"layout": LAYOUT, "information_weight": 0.0}),
    "leakage 0.1": Variant(args={"layout": LAYOUT, "leakage_weight": 0.1}),
    "DIN++": Variant(DINPlus, {}),
    "DIN++, weight 1": Variant(DINPlus, {"kl_weight": 1.0}),
    "1 % labels": Variant(labelled=0.01),
    "20 % labels": Variant(labelled=0.2),
    "half without image": Variant(lacking="image"),
    "half without text": Variant(lacking="text"),
}
KEY = ["shop", "variant", "labelled", "init_args"]


def train(shop: int, name: str, args: dict[str, Any]) -> dict[str, Any]:
    """What a training and its report measure."""
    variant = VARIANTS[name]
    dataset = AttributeShop(str(Path(tempfile.gettempdir(), f"pyg_mmrec_shop_{shop}")), seed=shop)
    truth = dataset[0]
    texts = [dataset.text(item) for item in range(truth["item"].num_nodes)]
    data = WordTokens(texts, min_count=1, stop_words="english")(copy.copy(truth))
    if variant.lacking is not None:
        data = DropModality(0.5, variant.lacking, seed=shop)(data)
    views = prepare(WeakLabels(variant.labelled, ["colour", "shape"], seed=shop)(data), [variant.model])
    candidate = Candidate(variant.model, args)
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
    print(shop, name, *(f"{name} {row[name]:.4f}" for name in ("test_gauc", "test_recall@20")), flush=True)
    return row


def run(ledger: Ledger, shop: int, name: str) -> dict[str, Any]:
    """The row of a training, done if it has to be."""
    args = {"rebuilt_items": 256, **VARIANTS[name].args}
    key = dict(zip(KEY, (shop, name, VARIANTS[name].labelled, args), strict=True))
    return ledger.run(key, partial(train, shop, name, args))


def main() -> None:
    """Trains, compares, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="seeds of shops and trainings")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ledger = Ledger(args.results / "mdr_shop_runs.csv", KEY)
    rows = [run(ledger, shop, name) for shop in args.shops for name in args.variants]
    table = pd.DataFrame(rows).set_index("shop")
    shown = ("test_", "probe", "label,", "share", "mutual", "dis", "compl", "inf")
    measures = [name for name in table if name.startswith(shown)]
    parts = {name: table[table["variant"] == name][measures] for name in args.variants}
    others = [name for name in parts if name != "MDR" and "MDR" in parts]
    parts |= {f"MDR's gain over {name}": parts["MDR"] - parts[name] for name in others}
    summary = pd.concat({name: part.agg(["mean", "sem"]) for name, part in parts.items()}).T.round(4)
    summary.to_csv(args.results / "mdr_shop.csv")
    print(summary.to_string())


if __name__ == "__main__":
    main()
