from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.transforms import RandomSplit, UserCooccurrence, user_cooccurrence
from pyg_mmrec.typing import COOCCURS, INTERACTS

NUM_USERS, NUM_ITEMS = 30, 12


@pytest.fixture
def data() -> HeteroData:
    """Few items, so that many counts are equal; users 4 and 11 have none, user 7 alone has the last."""
    pairs = torch.rand(NUM_USERS, NUM_ITEMS, generator=torch.Generator().manual_seed(0)) < 0.3
    pairs[[4, 11]], pairs[7], pairs[:, -1] = False, False, False
    pairs[7, -1] = True
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = NUM_USERS, NUM_ITEMS
    data[INTERACTS].edge_index = pairs.nonzero().t().contiguous()
    return data


def loop(data: HeteroData, k: int) -> list[tuple[int, int, int, float]]:
    """Neighbour, user, count and weight of each edge."""
    items = [set() for _ in range(NUM_USERS)]
    for u, i in data[INTERACTS].edge_index.t().tolist():
        items[u].add(i)
    out = []
    for u in range(NUM_USERS):
        counts = [(-len(items[u] & items[v]), v) for v in range(NUM_USERS) if v != u and items[u] & items[v]]
        nearest = sorted(counts)[:k]
        total = sum(torch.tensor(float(-count)).exp().item() for count, _ in nearest)
        out += [(v, u, -count, torch.tensor(float(-count)).exp().item() / total) for count, v in nearest]
    return out


@pytest.mark.parametrize("products", [1, 100, 2**20])
@pytest.mark.parametrize("k", [1, 4, 40])
def test_it_equals_a_loop(data: HeteroData, k: int, products: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_cooccurrence, "_BLOCK_PRODUCTS", products)
    graph = UserCooccurrence(k)(data)[COOCCURS]
    *integers, weight = (torch.tensor(column) for column in zip(*loop(data, k), strict=True))
    assert torch.equal(graph.edge_index, torch.stack(integers[:2]))
    assert torch.equal(graph.count, integers[2])
    torch.testing.assert_close(graph.edge_weight, weight)
    assert not {4, 7, 11} & set(graph.edge_index.flatten().tolist())


def test_the_order_of_interactions_and_their_repeats_do_not_matter(data: HeteroData) -> None:
    expected = UserCooccurrence(3)(data)[COOCCURS]
    edges = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = torch.cat([edges.flip(1), edges[:, :9]], dim=1)
    graph = UserCooccurrence(3)(data)[COOCCURS]
    assert all(torch.equal(graph[key], expected[key]) for key in ("edge_index", "count", "edge_weight"))


def test_many_common_items_do_not_overflow() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 200
    data[INTERACTS].edge_index = torch.stack([torch.arange(3).repeat_interleave(200), torch.arange(200).repeat(3)])
    graph = UserCooccurrence()(data)[COOCCURS]
    assert graph.count.tolist() == [200] * 6
    assert graph.edge_weight.tolist() == [0.5] * 6


def test_only_train_items_count(data: HeteroData) -> None:
    views = RandomSplit()(data)
    alone = HeteroData()
    alone["user"].num_nodes, alone["item"].num_nodes = NUM_USERS, NUM_ITEMS
    alone[INTERACTS].edge_index = views[0][INTERACTS].edge_index
    expected = UserCooccurrence(5)(alone)[COOCCURS]
    assert not torch.equal(expected.edge_index, UserCooccurrence(5)(data)[COOCCURS].edge_index)
    for view in views:
        graph = UserCooccurrence(5)(view)[COOCCURS]
        assert torch.equal(graph.edge_index, expected.edge_index)
        assert torch.equal(graph.count, expected.count)


def test_a_graph_that_is_there_is_replaced_and_the_input_unchanged(data: HeteroData) -> None:
    data[COOCCURS].edge_index, data[COOCCURS].operator = torch.tensor([[0], [1]]), "old"
    graph = UserCooccurrence(2)(data)[COOCCURS]
    assert set(graph) == {"edge_index", "count", "edge_weight"}
    assert data[COOCCURS].edge_index.tolist() == [[0], [1]]


def test_nobody_has_anything_in_common() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 3
    data[INTERACTS].edge_index = torch.tensor([[0, 2], [1, 0]])
    graph = UserCooccurrence()(data)[COOCCURS]
    assert graph.edge_index.shape == (2, 0)
    assert graph.count.numel() == graph.edge_weight.numel() == 0


def test_errors_and_repr(data: HeteroData) -> None:
    with pytest.raises(ValueError, match=r"^'k' must be positive \(got 0\)$"):
        UserCooccurrence(0)
    del data[INTERACTS]
    with pytest.raises(ValueError, match=r"^the data has no .* edge_index; give it the interactions"):
        UserCooccurrence()(data)
    assert repr(UserCooccurrence()) == "UserCooccurrence(k=40)"
