from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.diagnostics import DualReport, cosine_distance, dual_report, gradient_cosine
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import VBPR, LightGCN, Representations, UserItem
from pyg_mmrec.models.base import Recommender
from pyg_mmrec.nn.loss import bpr_loss
from pyg_mmrec.typing import Triplets


class Planted(Recommender):
    """Two lines with a parameter each and one that both share."""

    def __init__(self, num_users: int, num_items: int, shared: bool = True) -> None:
        super().__init__(num_users, num_items)
        generator = torch.Generator().manual_seed(0)
        self.table = torch.nn.ParameterList(torch.randn(n, 4, generator=generator) for n in (num_users, num_items))
        self.own = torch.nn.Parameter(torch.ones(4))
        self.other = torch.nn.ParameterList(torch.randn(n, 4, generator=generator) for n in (num_users, num_items))
        self.shared = shared

    def forward(self, data: HeteroData) -> Representations:
        behavior = UserItem(*self.table)
        source = self.table if self.shared else self.other
        modal = UserItem(source[0] * self.own, -source[1])
        return Representations(behavior.user + modal.user, behavior.item + modal.item, behavior=behavior, modal=modal)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, torch.Tensor]:
        return {}


def test_lines_are_ranked_alone(tiny_split: Views) -> None:
    model = Planted(40, 30)
    report = dual_report(model, tiny_split[1], Evaluator(["recall@3"]))
    ranking = report.ranking.set_index("line")["recall@3"]
    with torch.no_grad():
        pair = model(tiny_split[1]).modal
    score = (pair.user @ pair.item.t()).masked_fill_(torch.zeros(40, 30, dtype=torch.bool), 0)
    ptr, seen = tiny_split[1]["user"].seen_ptr, tiny_split[1]["user"].seen_item
    for user in range(40):
        score[user, seen[ptr[user] : ptr[user + 1]]] = -torch.inf
    user, item = tiny_split[1]["user", "interacts", "item"].edge_label_index
    expected = (score.topk(3).indices[user] == item[:, None]).any(1).float().mean()
    assert ranking["modal"] == pytest.approx(float(expected))
    assert ranking["model"] == Evaluator(["recall@3"])(model, tiny_split[1])["recall@3"]
    assert ranking["behavior"] != ranking["modal"]


def test_cosine_distance(tiny_data: HeteroData) -> None:
    model = Planted(40, 30)
    found = cosine_distance(model, tiny_data)
    assert found == {"user": pytest.approx(0, abs=1e-6), "item": pytest.approx(2)}
    assert model.training


def test_gradient_cosine_equals_its_definition(tiny_data: HeteroData) -> None:
    model = Planted(40, 30)
    batch = next(TripletLoader(tiny_data, 64).epoch(0))
    grads = []
    for line in ("behavior", "modal"):
        model.zero_grad()
        pair = getattr(model(tiny_data), line)
        scores = [(pair.user[batch.user] * pair.item[item]).sum(1) for item in (batch.pos_item, batch.neg_item)]
        bpr_loss(*scores).backward()
        grads.append(np.concatenate([part.grad.numpy().ravel() for part in model.table]))
    expected = grads[0] @ grads[1] / np.linalg.norm(grads[0]) / np.linalg.norm(grads[1])
    assert gradient_cosine(model, tiny_data, batch) == pytest.approx(expected, rel=1e-5)
    assert gradient_cosine(model, tiny_data, batch) < 0  # one line scores against the other
    assert gradient_cosine(Planted(40, 30, shared=False), tiny_data, batch) == 0


def test_report_is_written(tiny_split: Views, tmp_path: Path) -> None:
    report = dual_report(VBPR.from_data(tiny_split[0], hidden_channels=8), tiny_split[2], folder=tmp_path / "report")
    assert isinstance(report, DualReport)
    for name, table in report._asdict().items():
        pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "report" / f"{name}.csv"), table)
    for name in ("ranking", "tsne"):
        assert (tmp_path / "report" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert report.tsne.groupby(["node_type", "line"]).size().to_dict() == {
        (kind, line): size for kind, size in (("user", 40), ("item", 30)) for line in ("behavior", "modal")
    }
    again = dual_report(VBPR.from_data(tiny_split[0], hidden_channels=8), tiny_split[2], seed=1)
    assert list(again.ranking.columns) == ["line", "recall@20", "ndcg@20"]


def test_a_model_without_lines(tiny_split: Views) -> None:
    model = LightGCN.from_data(tiny_split[0])
    for call in (
        lambda: dual_report(model, tiny_split[1]),
        lambda: cosine_distance(model, tiny_split[0]),
        lambda: gradient_cosine(model, tiny_split[0], next(TripletLoader(tiny_split[0], 8).epoch(0))),
    ):
        with pytest.raises(ValueError, match=r"^the representations of LightGCN have no behavior and no modal part$"):
            call()


def test_plots_need_matplotlib(tiny_split: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="plots need matplotlib"):
        dual_report(VBPR.from_data(tiny_split[0]), tiny_split[1], folder=tmp_path / "report")
    assert not (tmp_path / "report").exists()
