from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.diagnostics import IntentReport, intent_report
from pyg_mmrec.models import LightGCN, Recommender, Representations
from pyg_mmrec.typing import INTERACTS


class Knows(Recommender):
    """Ranks by the planted probabilities, and says whatever intents it is given."""

    def __init__(self, num_users: int, num_items: int, intent: torch.Tensor) -> None:
        super().__init__(num_users, num_items)
        self.intent = intent

    def forward(self, data: HeteroData) -> Representations:
        return Representations(data["user"].preference, data["item"].affinity, intent=self.intent)

    def loss(self, data: HeteroData, batch: object) -> dict[str, torch.Tensor]:
        return {}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[HeteroData, Views]:
    data = AttributeShop(str(tmp_path_factory.mktemp("shop")), num_users=1500, num_items=300)[0]
    return data, prepare(data, [LightGCN])


def test_planted_intents_are_recovered(shop: tuple[HeteroData, Views], tmp_path: Path) -> None:
    data, views = shop
    report = intent_report(Knows(1500, 300, data["user"].intent), data, views[2], folder=tmp_path)
    assert isinstance(report, IntentReport)
    nmi = report.recovery.set_index("intents")["nmi"]
    assert nmi["model"] == pytest.approx(1)
    assert nmi["k-means on the truth"] < 1
    assert nmi["model, users shuffled"] < 0.1
    assert {path.name for path in tmp_path.iterdir()} == {"recovery.csv", "shift.csv"}


def test_hits_by_the_intent_that_dominates(shop: tuple[HeteroData, Views]) -> None:
    data, views = shop
    model = Knows(1500, 300, data["user"].intent)
    shift = intent_report(model, data, views[2]).shift.set_index("intent")
    edges = data[INTERACTS].edge_index
    planted = {
        (user, item): intent
        for (user, item), intent in zip(edges.t().tolist(), data[INTERACTS].intent.tolist(), strict=True)
    }
    counts = torch.zeros(1500, 8)
    for pair in views[2][INTERACTS].edge_index.t().tolist():
        if planted[tuple(pair)] >= 0:
            counts[pair[0], planted[tuple(pair)]] += 1
    found: dict[str, list[bool]] = {"dominant": [], "other": []}
    for user, item in views[2][INTERACTS].edge_label_index.t().tolist():
        intent = planted[user, item]
        if intent >= 0 and counts[user].sum() > 0:
            top = model.recommend(views[2], torch.tensor([user]), 20)[1]
            found["dominant" if intent == int(counts[user].argmax()) else "other"].append(item in top.tolist()[0])
    for name, hits in found.items():
        assert len(hits) > 50
        assert shift.loc[name, "num_interactions"] == len(hits)
        assert shift.loc[name, "hits@20"] == pytest.approx(sum(hits) / len(hits))


def test_what_cannot_be_compared(shop: tuple[HeteroData, Views], tiny_data: HeteroData) -> None:
    data, views = shop
    with pytest.raises(ValueError, match=r"^LightGCN has no intents to compare with the planted ones$"):
        intent_report(LightGCN(1500, 300), data, views[2])
    other = copy.copy(views[2])
    other[INTERACTS].edge_label_index = torch.ones(1500, 300).nonzero().t()
    with pytest.raises(ValueError, match=r"^'heldout' has interactions that 'data' lacks: "):
        intent_report(Knows(1500, 300, data["user"].intent), data, other)
    with pytest.raises(ValueError, match=r"^the data carry no planted truth, data\['user'\].dominant_intent and "):
        intent_report(LightGCN(40, 30), tiny_data, tiny_data)
