"""What SEA's two modules do on the built-in shop, where it is known which attributes modalities share.

    python benchmarks/sea_evidence.py

On five shops: SEA (solosim and CLUB), SEA without one module or both, and the first and the last again with the texts
dealt out anew to the items, so that the modalities share nothing. The weights of the modules are the best of a small
grid on the validation part of another shop (seed 0). Writes ``results/sea_shop_runs.csv`` (one row a training),
``results/sea_shop.csv`` (paired gains), ``results/sea_probes.csv`` (linear probes of the planted attributes from
generic and unique parts, means over the shops, beside an untrained model) and ``results/sea_information.csv``.
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
from shop import shuffled
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import Candidate, Ledger, prepare, train_one
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import separation_report
from pyg_mmrec.models import SEA, Recommender
from pyg_mmrec.transforms import ModalKNNGraph

FOLDER = Path(__file__).parent / "results"
ARGS: dict[str, Any] = {"graph_weights": {"image": 0.5, "text": 0.5}, "estimator_lr": 1e-3, "estimator_items": 500}
TRAINER: dict[str, Any] = {"learning_rate": 3e-4}
GRID = [
    {"align_weight": alpha, "distance_weight": beta} for alpha, beta in itertools.product([0.01, 0.1, 1.0], [0.01, 0.1])
]
WEIGHTS = {"alignment": "align_weight", "distancing": "distance_weight"}
VARIANTS: dict[str, list[str]] = {  # and the modules that they leave out
    "SEA-a": [],
    "without distancing": ["distancing"],
    "without alignment": ["alignment"],
    "without both": ["alignment", "distancing"],
}
KEY = ["shop", "variant", "init_args", "trainer_args", "purpose"]


def views_of(shop: int, shuffle: bool) -> Views:
    """The split shop; ``shuffle`` gives every item another item's text features."""
    data = AttributeShop(str(Path(tempfile.gettempdir(), f"pyg_mmrec_shop_{shop}")), seed=shop)[0]
    return prepare(shuffled(data, ["text"]) if shuffle else data, [SEA], graph=ModalKNNGraph(k=10))


def train(shop: int, variant: str, init_args: dict[str, Any], purpose: str, results: Path) -> dict[str, Any]:
    """What a training measures; only ``purpose='test'`` sees the test part, and the method's own are probed."""
    views = views_of(shop, shuffle=variant.endswith("shuffled"))
    parts = views if purpose == "test" else (*views[:2], None)
    model, row = train_one(Candidate(SEA, init_args), parts, seed=shop, progress=False, **TRAINER)
    if purpose == "test" and variant.startswith("SEA-a"):
        probe(model, views[0], shop, variant, results)
    print(shop, variant, init_args, round(row["val_recall@20"], 4), f"{row['seconds']:.0f} s", flush=True)
    return row


def run(ledger: Ledger, shop: int, variant: str, args: dict[str, Any], purpose: str) -> dict[str, Any]:
    """The row of a training, done if it has to be."""
    args = {**ARGS, **args}
    key = dict(zip(KEY, (shop, variant, args, TRAINER, purpose), strict=True))
    return ledger.run(key, partial(train, shop, variant, args, purpose, ledger.path.parent))


def search(ledger: Ledger) -> dict[str, Any]:
    """Alpha and beta by validation on shop 0."""
    scores = [run(ledger, 0, "SEA-a", point, "search")["val_recall@20"] for point in GRID]
    return GRID[scores.index(max(scores))]


def probe(model: Recommender, data: HeteroData, shop: int, variant: str, results: Path) -> None:
    """Writes probes and information of a trained model and of the same model before training."""
    torch.manual_seed(shop)
    control = SEA.from_data(data, **model.config())
    report = separation_report(model, data, control=control, seed=shop)
    for name, table in (("probes", report.probes), ("information", report.information)):
        path = results / f"sea_{name}_by_shop.csv"
        known = [pd.read_csv(path)] if path.exists() else []
        pd.concat([*known, table.assign(shop=shop, variant=variant)]).to_csv(path, index=False)


def summarise(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Test Recall@20 by shop, and the paired gain of the modules with its standard error over the shops."""
    wide = rows.pivot(index="shop", columns="variant", values="test_recall@20")
    for variant in ("without distancing", "without alignment"):
        wide[f"gain over {variant}"] = wide["SEA-a"] - wide[variant]
    wide["gain"] = wide["SEA-a"] - wide["without both"]
    wide["shuffled_gain"] = wide["SEA-a, shuffled"] - wide["without both, shuffled"]
    table = pd.concat([wide, wide.agg(["mean", "sem"])])
    table.round(4).to_csv(path, index_label="shop")
    return table


def main() -> None:
    """Searches, trains, probes, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="seeds of shops and trainings")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ledger = Ledger(args.results / "sea_shop_runs.csv", KEY)
    chosen, rows = search(ledger), []
    for shop, shuffle in itertools.product(args.shops, (False, True)):
        suffix = ", shuffled" if shuffle else ""
        for variant in ("SEA-a", "without both") if shuffle else VARIANTS:
            left_out = VARIANTS[variant]
            init_args = {name: chosen[name] for module, name in WEIGHTS.items() if module not in left_out}
            rows.append(run(ledger, shop, variant + suffix, init_args | dict.fromkeys(left_out), "test"))
    for name, value in (("probes", ["accuracy", "chance"]), ("information", ["lower", "upper"])):
        table = pd.read_csv(args.results / f"sea_{name}_by_shop.csv")
        table = table.drop_duplicates([column for column in table.columns if column not in value], keep="last")
        keys = [column for column in table.columns if column not in (*value, "shop")]
        table.groupby(keys)[value].mean().round(4).reset_index().to_csv(args.results / f"sea_{name}.csv", index=False)
    print(summarise(pd.DataFrame(rows), args.results / "sea_shop.csv").round(4).to_string())


if __name__ == "__main__":
    main()
