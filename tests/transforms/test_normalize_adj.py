from __future__ import annotations

import math

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.transforms import NormalizeAdj
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import interaction_operator, with_operators

EDGES = [(0, 0), (0, 1), (0, 3), (1, 1), (2, 1), (2, 3)]


@pytest.fixture
def data() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 4, 5
    data[INTERACTS].edge_index = torch.tensor(EDGES).t()
    return data


def expected(normalization: str) -> list[float]:
    users, items = zip(*EDGES, strict=True)
    if normalization == "sym":
        return [1 / math.sqrt(users.count(user) * items.count(item)) for user, item in EDGES]
    return [1 / items.count(item) if normalization == "row" else 1.0 for _, item in EDGES]


@pytest.mark.parametrize("normalization", ["sym", "row", "none"])
def test_weights_equal_the_formula(data: HeteroData, normalization: str) -> None:
    out = NormalizeAdj(normalization)(data)  # type: ignore[arg-type]
    torch.testing.assert_close(out[INTERACTS].edge_weight, torch.tensor(expected(normalization)))
    assert "edge_weight" not in data[INTERACTS]
    assert out[INTERACTS].edge_index is data[INTERACTS].edge_index


def test_applying_it_twice_changes_nothing(data: HeteroData) -> None:
    once = NormalizeAdj()(data)
    assert torch.equal(NormalizeAdj()(once)[INTERACTS].edge_weight, once[INTERACTS].edge_weight)


def test_the_default_is_what_models_use_without_weights(data: HeteroData) -> None:
    torch.testing.assert_close(
        interaction_operator(NormalizeAdj()(data)).to_dense(), interaction_operator(data).to_dense()
    )


def test_a_held_operator_is_not_kept(data: HeteroData) -> None:
    held = with_operators(data)
    out = NormalizeAdj("row")(held)
    assert interaction_operator(out).to_dense().sum(1).tolist() == [1.0, 1.0, 0.0, 1.0, 0.0]
    assert "operator" in held[INTERACTS]


def test_other_edge_types(data: HeteroData) -> None:
    follows = ("user", "follows", "user")
    data[follows].edge_index = torch.tensor([[0, 1, 2], [1, 0, 1]])
    out = NormalizeAdj("row", edge_types=[follows])(data)
    assert out[follows].edge_weight.tolist() == [0.5, 1.0, 0.5]
    assert "edge_weight" not in out[INTERACTS]


def test_errors(data: HeteroData) -> None:
    with pytest.raises(ValueError, match=r"'normalization' must be .* \(got 'both'\)"):
        NormalizeAdj("both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no \('user', 'follows', 'user'\) edge_index; its edge types"):
        NormalizeAdj(edge_types=[("user", "follows", "user")])(data)
    data["tag", "of", "item"].edge_index = torch.zeros(2, 1, dtype=torch.long)
    with pytest.raises(ValueError, match=r"num_nodes at both ends of \('tag', 'of', 'item'\) \(got \[None, 5\]\)"):
        NormalizeAdj(edge_types=[INTERACTS, ("tag", "of", "item")])(data)
    assert "edge_weight" not in data[INTERACTS]


def test_repr() -> None:
    assert repr(NormalizeAdj()) == "NormalizeAdj(normalization='sym', edge_types=[('user', 'interacts', 'item')])"
