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
import datetime
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from shop import shuffled
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import Candidate, prepare, train_one
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import separation_report
from pyg_mmrec.models import SEA
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


class Runs:
    """The file of finished trainings."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def table(self) -> pd.DataFrame:
        """All rows."""
        return pd.read_csv(self.path) if self.path.exists() else pd.DataFrame(columns=KEY)

    def find(self, key: dict[str, Any]) -> pd.DataFrame:
        """The rows of a key."""
        table = self.table()
        return table[(table[KEY].astype(str) == pd.Series(key).astype(str)[KEY]).all(axis=1)]

    def keep(self, row: dict[str, Any]) -> None:
        """Writes a row; a training without one is repeated."""
        pd.concat([self.table(), pd.DataFrame([row])]).to_csv(self.path, index=False)
        print({name: row[name] for name in KEY}, round(row["val_recall@20"], 4), f"{row['seconds']:.0f} s", flush=True)


def key_of(shop: int, variant: str, args: dict[str, Any], purpose: str) -> dict[str, Any]:
    """Everything that decides a training."""
    settings = json.dumps({**ARGS, **args}, sort_keys=True), json.dumps(TRAINER, sort_keys=True)
    return dict(zip(KEY, (shop, variant, *settings, purpose), strict=True))


def train(views: Views, key: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The trained model and its row; only ``purpose='test'`` sees the test part."""
    parts = views if key["purpose"] == "test" else (*views[:2], None)
    candidate = Candidate(SEA, json.loads(key["init_args"]))
    model, row = train_one(candidate, parts, seed=key["shop"], progress=False, **TRAINER)
    return model, row | {**key, "date": datetime.date.today().isoformat(), "threads": torch.get_num_threads()}


def search(runs: Runs) -> dict[str, Any]:
    """Alpha and beta by validation on shop 0."""
    scores, views = [], None
    for point in GRID:
        key = key_of(0, "SEA-a", point, "search")
        if runs.find(key).empty:
            views = views or views_of(0, shuffle=False)
            runs.keep(train(views, key)[1])
        scores.append(runs.find(key)["val_recall@20"].iloc[0])
    return GRID[scores.index(max(scores))]


def evidence(model: SEA, data: HeteroData, shop: int, variant: str) -> dict[str, pd.DataFrame]:
    """Probes and information of a trained model and of the same model before training."""
    torch.manual_seed(shop)
    control = SEA.from_data(data, **model.config())
    report = separation_report(model, data, control=control, seed=shop)
    return {
        name: table.assign(shop=shop, variant=variant)
        for name, table in (("probes", report.probes), ("information", report.information))
    }


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
    runs = Runs(args.results / "sea_shop_runs.csv")
    chosen, rows = search(runs), []
    for shop, shuffle in itertools.product(args.shops, (False, True)):
        suffix = ", shuffled" if shuffle else ""
        for variant in ("SEA-a", "without both") if shuffle else VARIANTS:
            left_out = VARIANTS[variant]
            init_args = {name: chosen[name] for module, name in WEIGHTS.items() if module not in left_out}
            key = key_of(shop, variant + suffix, init_args | dict.fromkeys(left_out), "test")
            if runs.find(key).empty:
                views = views_of(shop, shuffle)
                model, row = train(views, key)
                if variant == "SEA-a":
                    for name, table in evidence(model, views[0], shop, variant + suffix).items():
                        path = args.results / f"sea_{name}_by_shop.csv"
                        known = [pd.read_csv(path)] if path.exists() else []
                        pd.concat([*known, table]).to_csv(path, index=False)
                runs.keep(row)
            rows.append(runs.find(key))
    for name, value in (("probes", ["accuracy", "chance"]), ("information", ["lower", "upper"])):
        table = pd.read_csv(args.results / f"sea_{name}_by_shop.csv")
        table = table.drop_duplicates([column for column in table.columns if column not in value], keep="last")
        keys = [column for column in table.columns if column not in (*value, "shop")]
        table.groupby(keys)[value].mean().round(4).reset_index().to_csv(args.results / f"sea_{name}.csv", index=False)
    print(summarise(pd.concat(rows), args.results / "sea_shop.csv").round(4).to_string())


if __name__ == "__main__":
    main()
