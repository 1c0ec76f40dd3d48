from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BPRMF, MDR, MMIL, WideDeep
from pyg_mmrec.retrieval import Retriever
from pyg_mmrec.serve import explain

HISTORY = torch.tensor([4, 9, 11])


def test_shares_are_those_of_the_inner_products(tiny_data: HeteroData) -> None:
    model = BPRMF.from_data(tiny_data)
    item = torch.zeros(30, 64)
    item[[4, 9, 11, 20]] = torch.tensor([[1.0, 0], [3.0, 1], [-2.0, 0], [1.0, 0]]).repeat(1, 32)
    model.item_emb.weight.data.copy_(item)
    told = explain(Retriever(model, tiny_data), HISTORY, 0, 20)
    assert told["kind"] == "history"
    assert [node for node, _ in told["items"]] == [9, 4]
    assert [share for _, share in told["items"]] == pytest.approx([0.75, 0.25])
    assert explain(Retriever(model, tiny_data), HISTORY, 0, 21)["items"] == []
    assert explain(Retriever(model, tiny_data), torch.tensor([], dtype=torch.long), 0, 20)["items"] == []


def test_models_whose_items_have_other_vectors(tiny_data: HeteroData) -> None:
    model = WideDeep.from_data(tiny_data, mlp_channels=8, num_layers=2)
    assert explain(Retriever(model, tiny_data), HISTORY, 0, 20)["kind"] == "history"


def test_attributes_of_mdr(tiny_data: HeteroData) -> None:
    model = MDR.from_data(tiny_data)
    retriever = Retriever(model, tiny_data)
    told = explain(retriever, HISTORY, 3, 20)
    score = float(model.score(retriever.data, retriever.representations, torch.tensor([3]))[0, 20])
    assert told["kind"] == "attributes"
    assert sum(value for _, value in told["parts"]) + model.explain(tiny_data, 3, 20).bias == pytest.approx(
        score, abs=1e-4
    )
    assert sorted(told["parts"], key=lambda part: -part[1]) == told["parts"]


def test_intents_of_mmil(tiny_data: HeteroData) -> None:
    model = MMIL.from_data(tiny_data)
    retriever = Retriever(model, tiny_data)
    told = explain(retriever, HISTORY, 3, 20)
    assert told["kind"] == "intents"
    assert {"modality image", "modality text"} <= {name for name, _ in told["parts"]}
    own = set(model.explain(tiny_data, 3).item.tolist())
    assert {node for node, _ in told["items"]} <= own
