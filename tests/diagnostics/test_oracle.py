from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import Candidate, compare, prepare
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import PlantedOracle
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import FREEDOM, LightGCN, Popularity


def test_the_oracle_scores_are_the_planted_probabilities(tmp_path: Path) -> None:
    data = AttributeShop(tmp_path, num_users=50, num_items=60)[0]
    oracle = PlantedOracle.from_data(data)
    score = oracle.score(data, oracle(data), torch.arange(50))
    assert torch.allclose(score.sum(dim=1), torch.ones(50), atol=1e-5)
    assert oracle.loss(data, None) == {}


def test_data_without_planted_truth_are_refused(tiny_data: HeteroData) -> None:
    with pytest.raises(ValueError, match="planted truth"):
        PlantedOracle.from_data(tiny_data)(tiny_data)


@pytest.mark.slow
def test_planted_features_lift_freedom_above_lightgcn_and_shuffled_ones_do_not(tmp_path: Path) -> None:
    """Floor, LightGCN, FREEDOM and ceiling stand in this order; shuffling the features takes FREEDOM's gain away."""
    data = AttributeShop(tmp_path, num_users=1000, num_items=1000, seed=7)[0]
    models = [Popularity, LightGCN, FREEDOM, PlantedOracle]
    args = {LightGCN: {"num_layers": 2}, FREEDOM: {"graph_weights": {"image": 0.5, "text": 0.5}}}
    settings = {
        "batch_size": 512,
        "learning_rate": 5e-3,
        "patience": 8,
        "progress": False,
        "evaluator": Evaluator(["recall@20"]),
    }
    runs, _ = compare([Candidate(m, args.get(m, {})) for m in models], prepare(data, models), [0], **settings)
    floor, lightgcn, freedom, ceiling = runs["test_recall@20"]
    assert floor < lightgcn < freedom < ceiling
    perm = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    for name in ("x_image", "x_text"):
        data["item"][name] = data["item"][name][perm]
    shuffled, _ = compare([Candidate(FREEDOM, args[FREEDOM])], prepare(data, [FREEDOM]), [0], **settings)
    assert shuffled["test_recall@20"][0] < freedom - 0.5 * (freedom - lightgcn)
