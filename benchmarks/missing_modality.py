"""How much do models lose when items lack their image or their text?

    python benchmarks/missing_modality.py --shops 1 2 3

From 0 to 90 % of the items of a built-in shop lose the image, and as many, drawn apart, the text (``DropModality``),
before any graph is built. SEA, DRepMRec and FREEDOM are trained on what is left: with the missing features masked, or
imputed from the train interactions (``ImputeFeatures('neighbors')``). Shops and trainings have the same seeds; SEA
aligns samples of 512 items, for speed. Each training is a row of ``results/missing_modality_runs.csv``; what is there
already is not repeated.
``results/missing_modality.csv`` has the test Recall@20, its standard error over the shops, and the share of the value
without missing features that is left.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import warnings
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pyg_mmrec.benchmark import Candidate, Ledger, prepare, train_one
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.models import FREEDOM, SEA, DRepMRec
from pyg_mmrec.transforms import DropModality, ImputeFeatures, ModalKNNGraph, RandomSplit
from pyg_mmrec.typing import INTERACTS

FOLDER = Path(__file__).parent / "results"
EVEN = {"image": 0.5, "text": 0.5}
CANDIDATES = [
    Candidate(SEA, {"graph_weights": EVEN, "align_items": 512, "estimator_items": 500}),
    Candidate(DRepMRec, {"modality_weights": EVEN}),
    Candidate(FREEDOM, {"graph_weights": EVEN}),
]
METRIC = "test_recall@20"
KEY = ["shop", "rate", "imputed", "model", "trainer"]


@cache
def views_of(shop: int, rate: float, imputed: str) -> Views:
    """The split shop, whose items lack modalities."""
    data = AttributeShop(str(Path(tempfile.gettempdir(), f"pyg_mmrec_shop_{shop}")), seed=shop)[0]
    data = DropModality(rate, seed=shop)(data)
    data[INTERACTS].split = RandomSplit(seed=shop).labels(data)
    if imputed != "none":
        data = ImputeFeatures(imputed)(data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(items|users) without usable features")
        return prepare(data, [c.model for c in CANDIDATES], graph=ModalKNNGraph(k=10))


def train(shop: int, rate: float, imputed: str, candidate: Candidate, trainer: dict[str, Any]) -> dict[str, Any]:
    """The row of a training."""
    row = train_one(candidate, views_of(shop, rate, imputed), shop, progress=False, **trainer)[1]
    print(shop, rate, imputed, candidate.name, round(row[METRIC], 4), f"{row['seconds']:.0f} s", flush=True)
    return row


def curve(runs: pd.DataFrame) -> pd.DataFrame:
    """Means over the shops by model, kind of imputation and rate."""
    groups = runs.groupby(["model", "imputed", "rate"])[METRIC]
    table = pd.DataFrame({"recall@20": groups.mean(), "se": groups.sem()}).reset_index()
    whole = table[table["rate"] == 0].set_index(["model", "imputed"])["recall@20"]
    table["share left"] = [row["recall@20"] / whole.get((row["model"], row["imputed"])) for _, row in table.iterrows()]
    return table.round(4)


def main() -> None:
    """Trains what is missing, writes and prints the curve."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", nargs="+", type=int, default=[1, 2, 3], help="seeds of shops and trainings")
    parser.add_argument("--rates", nargs="+", type=float, default=[0.0, 0.3, 0.6, 0.9])
    parser.add_argument("--imputed", nargs="+", default=["none", "neighbors"], choices=["none", "mean", "neighbors"])
    parser.add_argument("--models", nargs="+", default=[c.name for c in CANDIDATES])
    parser.add_argument("--max_epochs", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER)
    args = parser.parse_args()
    if 0 not in args.rates:
        parser.error("--rates needs 0, which the others are compared with")
    torch.set_num_threads(args.threads)
    trainer = {"batch_size": 2048, "learning_rate": 4e-3, "patience": 10, "max_epochs": args.max_epochs}
    ledger, rows = Ledger(args.results / "missing_modality_runs.csv", KEY), []
    chosen = [candidate for candidate in CANDIDATES if candidate.name in args.models]
    for shop, rate, imputed, candidate in itertools.product(args.shops, args.rates, args.imputed, chosen):
        way = imputed if rate else "none"  # where nothing lacks, nothing is imputed
        key = dict(zip(KEY, (shop, rate, way, candidate.name, trainer), strict=True))
        row = ledger.run(key, partial(train, shop, rate, way, candidate, trainer))
        rows.append({**row, "imputed": imputed})
    table = curve(pd.DataFrame(rows))
    table.to_csv(args.results / "missing_modality.csv", index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
