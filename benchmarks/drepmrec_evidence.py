"""What DRepMRec's two lines say on the built-in shop, alone and together, and how they get there.

    python benchmarks/drepmrec_evidence.py

On five shops, split at random and by items (cold items): Recall@20 of the behaviour line, of the modal line and of
their sum (Figure 5 of the paper). The weights of the losses are the best of a small grid on the validation part of
another shop (seed 0). On one shop: the cosine distance of the lines by epoch, with and without the
similarity-supervised signal (Figure 6), a t-SNE map (Figure 7) and, by step, the cosine of what behaviour and
modalities ask of the ID embeddings, for DRepMRec and for MGCN (Figure 1a). Writes ``results/drepmrec_*``; a finished
training of the first part is not repeated.
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
from matplotlib.figure import Figure
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import Ledger, prepare
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import cosine_distance, dual_report, gradient_cosine
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import MGCN, DRepMRec, Recommender
from pyg_mmrec.training import Trainer, TrainResult
from pyg_mmrec.transforms import ColdItemSplit, ModalKNNGraph
from pyg_mmrec.utils import with_operators

FOLDER = Path(__file__).parent / "results"
ARGS: dict[str, Any] = {"modality_weights": {"image": 0.5, "text": 0.5}}
GRID = [
    {"intra_weight": alpha, "inter_weight": beta, "sss_weight": 0.1}
    for alpha, beta in itertools.product([0.01, 0.1, 1.0], [0.001, 0.01, 0.1])
]
METRIC = "recall@20"


class Tracking(Evaluator):
    """Measures how far apart the lines are, too."""

    def __call__(self, model: Any, data: HeteroData) -> dict[str, float]:
        """The metrics and both distances."""
        distance = {f"distance_{kind}": value for kind, value in cosine_distance(model, data).items()}
        return {**super().__call__(model, data), **distance}


def views_of(shop: int, split: str) -> Views:
    """A split shop with the graphs of items and users."""
    data = AttributeShop(str(Path(tempfile.gettempdir(), f"pyg_mmrec_shop_{shop}")), seed=shop)[0]
    return prepare(data, [DRepMRec], ColdItemSplit() if split == "cold items" else None, ModalKNNGraph(k=10))


def fit(cls: type[Recommender], views: Views, seed: int, **args: Any) -> tuple[Recommender, TrainResult]:
    """A trained model; without a test view nothing is tested."""
    torch.manual_seed(seed)
    model = cls.from_data(views[0], **args)
    trainer = Trainer(seed=seed, progress=False, evaluator=Tracking([METRIC]))
    return model, trainer.fit(model, views[0], views[1])


def search(path: Path) -> dict[str, float]:
    """The weights of the losses by validation on shop 0."""

    def train(point: dict[str, float]) -> dict[str, float]:
        return fit(DRepMRec, views_of(0, "random"), 0, **ARGS, **point)[1].validation

    ledger = Ledger(path, ["point"])
    scores = [ledger.run({"point": point}, partial(train, point))[METRIC] for point in GRID]
    print(dict(zip(map(str, GRID), scores, strict=True)), flush=True)
    return GRID[scores.index(max(scores))]


def rankings(weights: dict[str, float], shops: list[int], path: Path) -> pd.DataFrame:
    """Test Recall@20 of each line, one row for each shop and split."""

    def train(shop: int, split: str) -> dict[str, float]:
        views = views_of(shop, split)
        model, _ = fit(DRepMRec, views, shop, **ARGS, **weights)
        report = dual_report(model, views[2], Evaluator([METRIC]))
        if (shop, split) == (shops[0], "random"):
            report.save(path.parent / "drepmrec_lines")
        return dict(report.ranking.set_index("line")[METRIC])

    ledger, rows = Ledger(path, ["shop", "split"]), []
    for shop, split in itertools.product(shops, ("random", "cold items")):
        rows.append(ledger.run({"shop": shop, "split": split}, partial(train, shop, split)))
        print(rows[-1], flush=True)
    return pd.DataFrame(rows).set_index(["split", "shop"])


def by_epoch(weights: dict[str, float], shop: int, path: Path) -> None:
    """Cosine distance of the lines after each epoch, with and without the similarity-supervised signal."""
    views, tables = views_of(shop, "random"), []
    for name, weight in (("with SSS", weights["sss_weight"]), ("without SSS", 0.0)):
        _, result = fit(DRepMRec, views, shop, **{**ARGS, **weights, "sss_weight": weight})
        tables.append(pd.DataFrame(result.history).assign(variant=name))
    table = pd.concat(tables)[["variant", "epoch", METRIC, "distance_user", "distance_item"]]
    table.to_csv(path, index=False)
    plot(table, "epoch", ["distance_user", "distance_item"], path.with_suffix(".png"))


def by_step(weights: dict[str, float], shop: int, steps: int, path: Path) -> None:
    """Cosine of the two gradients in the first steps of a training."""
    train, rows = with_operators(views_of(shop, "random")[0]), []
    for cls, args in ((DRepMRec, {**ARGS, **weights}), (MGCN, {})):
        torch.manual_seed(shop)
        model = cls.from_data(train, **args)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        loader = TripletLoader(train, 2048, seed=shop)
        batches = itertools.chain.from_iterable(loader.epoch(epoch) for epoch in itertools.count())
        for step, batch in enumerate(itertools.islice(batches, steps)):
            rows.append({"variant": cls.__name__, "step": step, "cosine": gradient_cosine(model, train, batch)})
            optimizer.zero_grad()
            torch.stack(list(model.loss(train, batch).values())).sum().backward()
            optimizer.step()
    table = pd.DataFrame(rows)
    table.to_csv(path, index=False)
    plot(table, "step", ["cosine"], path.with_suffix(".png"))


def plot(table: pd.DataFrame, x: str, columns: list[str], path: Path) -> None:
    """One panel for each column, one line for each variant."""
    figure = Figure(figsize=(4.5 * len(columns), 3), layout="constrained")
    for ax, column in zip(figure.subplots(1, len(columns), squeeze=False)[0], columns, strict=True):
        for variant, part in table.groupby("variant"):
            ax.plot(part[x], part[column], label=variant)
        ax.set(xlabel=x, ylabel=column)
        ax.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Searches, trains, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shops", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="seeds of shops and trainings")
    parser.add_argument("--steps", type=int, default=200, help="steps of the gradients' cosines")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=FOLDER)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    weights = search(args.results / "drepmrec_search.csv")
    print("weights", weights, flush=True)
    wide = rankings(weights, args.shops, args.results / "drepmrec_lines.csv")[["behavior", "modal", "model"]]
    wide["modal over behavior"] = wide["modal"] - wide["behavior"]
    wide["sum over the better line"] = wide["model"] - wide[["behavior", "modal"]].max(axis=1)
    summary = wide.groupby("split").agg(["mean", "sem"])
    summary.columns = [" ".join(column) for column in summary.columns]
    summary.round(4).to_csv(args.results / "drepmrec_lines_summary.csv")
    print(summary.round(4).T.to_string())
    by_epoch(weights, args.shops[0], args.results / "drepmrec_distance.csv")
    by_step(weights, args.shops[0], args.steps, args.results / "drepmrec_gradients.csv")


if __name__ == "__main__":
    main()
