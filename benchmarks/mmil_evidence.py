"""What MMIL's intents are on the built-in shop, where users were drawn from known ones.

    python benchmarks/mmil_evidence.py

On five shops, for MMIL, without its Kullback-Leibler term, with intents drawn at random, without intents, with ID
embeddings that start long, none for users and more negatives, with intents and without, and with fewer or more intents
than were planted (8, which the others learn): test Recall@20, how well the planted intents are recovered from users
with a clear one (beside k-means on the truth, and with the users shuffled), and the hits of test interactions that come
from the intent that dominates a user's history, and from another (the paper's intent overfitting). The weights of the
losses are the best of a small grid on the validation part of another shop (seed 0). Writes
``results/mmil_shop_runs.csv``, where finished trainings are not repeated, and ``results/mmil_shop.csv``.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pyg_mmrec.benchmark import Candidate, Ledger, prepare, train_one
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import intent_report
from pyg_mmrec.models import MMIL
from pyg_mmrec.transforms import ModalKNNGraph

FOLDER = Path(__file__).parent / "results"
ARGS: dict[str, Any] = {"num_intents": 8}
TRAINER: dict[str, Any] = {"batch_size": 512, "evaluate_every": 2, "patience": 20}
GRID = [
    {"kl_of": of, "kl_weight": kl, "distance_weight": distance}
    for of, kl, distance in itertools.product(["users", "batch"], [0.01, 0.1, 1.0], [0.001, 0.01])
]
LONG: dict[str, Any] = {"embedding_std": 1.0, "user_embedding": False, "num_negatives": 4}
VARIANTS: dict[str, dict[str, Any]] = {
    "MMIL": {},
    "without KL": {"kl_weight": 0.0},
    "random start": {"warmup_epochs": None},
    "without intents": {"intent_learning": False},
    "long IDs": LONG,
    "long IDs, without intents": {**LONG, "intent_learning": False},
    **{f"{number} intents": {"num_intents": number} for number in (4, 16, 32)},
}
KEY = ["shop", "variant", "init_args"]


def train(shop: int, variant: str, args: dict[str, Any]) -> dict[str, Any]:
    """What a training and its report measure; ``variant='search'`` does not see the test part."""
    data = AttributeShop(str(Path(tempfile.gettempdir(), f"pyg_mmrec_shop_{shop}")), seed=shop)[0]
    views = prepare(data, [MMIL], graph=ModalKNNGraph(k=10))
    seen = (*views[:2], None) if variant == "search" else views
    model, row = train_one(Candidate(MMIL, args), seen, seed=shop, progress=False, **TRAINER)
    if variant != "search" and args.get("intent_learning", True):
        report = intent_report(model, data, views[2], seed=shop)
        for name, found in zip(("model", "k-means", "shuffled"), report.recovery.to_dict("records"), strict=True):
            row |= {f"nmi, {name}": found["nmi"], f"accuracy, {name}": found["accuracy"]}
        row |= {f"hits@20, {found['intent']}": found["hits@20"] for found in report.shift.to_dict("records")}
    print(shop, variant, args, round(row["val_recall@20"], 4), f"{row['seconds']:.0f} s", flush=True)
    return row


def run(ledger: Ledger, shop: int, variant: str, args: dict[str, Any]) -> dict[str, Any]:
    """The row of a training, done if it has to be."""
    args = {**ARGS, **args}
    return ledger.run(dict(zip(KEY, (shop, variant, args), strict=True)), partial(train, shop, variant, args))


def main() -> None:
    """Searches, trains, compares, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="seeds of shops and trainings")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ledger = Ledger(args.results / "mmil_shop_runs.csv", KEY)
    scores = [run(ledger, 0, "search", point)["val_recall@20"] for point in GRID]
    chosen = GRID[scores.index(max(scores))]
    rows = [
        run(ledger, shop, variant, {**chosen, **change}) for shop in args.shops for variant, change in VARIANTS.items()
    ]
    table = pd.DataFrame(rows).set_index("shop")
    columns = ["test_recall@20", *(name for name in table if name.startswith(("nmi", "accuracy", "hits")))]
    out = []
    for variant in VARIANTS:
        part = table[table["variant"] == variant][columns]
        out.append(pd.concat([part, part.agg(["mean", "sem"])]).assign(variant=variant))
        gain = (table[table["variant"] == "MMIL"][columns] - part) if variant != "MMIL" else None
        if gain is not None:
            out.append(gain.agg(["mean", "sem"]).assign(variant=f"MMIL's gain over {variant}"))
    result = pd.concat(out).reset_index(names="shop").set_index("variant")
    result.round(4).to_csv(args.results / "mmil_shop.csv")
    print(result[result["shop"].isin(["mean", "sem"])].round(4).to_string())


if __name__ == "__main__":
    main()
