from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pyg_mmrec.benchmark import Candidate, Ledger, prepare, split_hash, train_one
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import BPRMF, FREEDOM
from pyg_mmrec.transforms import ModalKNNGraph

#: A label that must not reach a page as it is.
MARKUP = "BPR <b onload=alert(1)>&"
KEY = ["dataset", "model", "purpose", "init_args", "trainer_args", "seed"]
SHOP = {"num_users": 60, "num_items": 40, "interactions_per_user": 8}
METRICS = ["recall@10", "recall@20", "ndcg@20"]


def write_comparison(
    folder: Path, views: Views, candidates: list[Candidate], seeds: tuple[int, ...] = (0, 1), **trainer: Any
) -> None:
    """Trains, and writes what the command 'benchmark' writes: two searched points a model, then the test runs."""
    ledger = Ledger(folder / "runs.csv", KEY)
    facts = {"protocol": "random", "split_hash": split_hash(views), "peak_memory_mib": 700.0, "device": "cpu"}
    facts |= {"published_recall@20": 0.25, "published_where": "SEA, Table 2"}

    def run(candidate: Candidate, purpose: str, seed: int) -> dict[str, Any]:
        run_dir = folder / "shop" / candidate.name / f"seed-{seed}" if purpose == "test" else None
        seen = views if purpose == "test" else (*views[:2], None)
        evaluator = Evaluator(METRICS)
        model, row = train_one(
            candidate, seen, seed, run_dir=run_dir, progress=False, evaluator=evaluator, accelerator="cpu", **trainer
        )
        if run_dir is not None:
            evaluator.by_user(model, views[2]).to_csv(run_dir / "users.csv")
        return row | facts

    for candidate in candidates:
        for purpose, seed in (("search", seeds[0]), *(("test", seed) for seed in seeds)):
            key = {"dataset": "shop", "model": candidate.name, "purpose": purpose, "seed": seed}
            key |= {"init_args": candidate.init_args, "trainer_args": candidate.trainer_args}
            ledger.run(key, partial(run, candidate, purpose, seed))
    (folder / "suite.yaml").write_text("datasets: {shop: AttributeShop} # a <script>\n")


@pytest.fixture(scope="session")
def comparison_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data, ``shop``, and what a comparison of two models over two seeds on it left, ``bench``."""
    root = tmp_path_factory.mktemp("comparison")
    write_comparison(
        root / "bench",
        shop_views(root / "shop"),
        [
            Candidate(FREEDOM, {"hidden_channels": 8}),
            Candidate(BPRMF, {"hidden_channels": 8}, {"learning_rate": 0.01}, label=MARKUP),
        ],
        max_epochs=3,
        batch_size=128,
    )
    return root


def shop_views(root: Path) -> Views:
    """The views of a small shop."""
    return prepare(AttributeShop(str(root), **SHOP)[0], [FREEDOM], graph=ModalKNNGraph(k=3))
