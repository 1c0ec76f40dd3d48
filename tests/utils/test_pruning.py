from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import degree_sensitive_pruning, interaction_operator, normalized_weight


@pytest.fixture
def data() -> HeteroData:
    """A popular user and a popular item among others with one edge each; their own edge is the last."""
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 10
    others = torch.arange(1, 10)
    zeros = torch.zeros_like(others)
    edges = torch.stack([torch.cat([zeros, others]), torch.cat([others, zeros])])
    data[INTERACTS].edge_index = torch.cat([edges, torch.zeros(2, 1, dtype=torch.long)], dim=1)
    data[INTERACTS].edge_weight = torch.ones(19)
    data[INTERACTS].edge_label_index = edges
    return data


@pytest.mark.parametrize(("pruning", "num_kept"), [(0.0, 19), (0.5, 9), (0.9, 1)])
def test_kept_edges(data: HeteroData, pruning: float, num_kept: int) -> None:
    view, again, other = (
        degree_sensitive_pruning(data, pruning, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    kept = view[INTERACTS].edge_index
    assert kept.size(1) == num_kept
    assert {*map(tuple, kept.t().tolist())} <= {*map(tuple, data[INTERACTS].edge_index.t().tolist())}
    assert torch.equal(kept, again[INTERACTS].edge_index)
    assert torch.equal(kept, other[INTERACTS].edge_index) == (pruning == 0)
    assert view[INTERACTS].edge_label_index is data[INTERACTS].edge_label_index
    weight = interaction_operator(view).to_dense()[kept[1], kept[0]]
    torch.testing.assert_close(weight, normalized_weight(kept, 10, 10))


def test_edges_between_popular_ends_go_first(data: HeteroData) -> None:
    generator, kept = torch.Generator().manual_seed(0), torch.zeros(10, 10)
    for _ in range(2000):
        user, item = degree_sensitive_pruning(data, 18 / 19, generator)[INTERACTS].edge_index
        kept[user, item] += 1 / 2000
    assert kept.sum().item() == pytest.approx(1)
    rate = 1 / (18 / 10**0.5 + 1 / 10)
    assert kept[0, 0].item() == pytest.approx(rate / 10, abs=0.01)
    assert kept[0, 1:].sum().item() == pytest.approx(9 * rate / 10**0.5, abs=0.04)
