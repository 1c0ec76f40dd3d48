from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models import Recommender, Representations
from pyg_mmrec.typing import INTERACTS, Triplets
from pyg_mmrec.utils import csr_entries, rank_items, seen_items, to_csr
from tests.properties.strategies import PROPERTY, interactions, pairs_of, scores


class Table(Recommender):
    """Scores from a matrix."""

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items)
        self.register_buffer("table", torch.zeros(num_users, num_items))

    def forward(self, data: HeteroData) -> Representations:
        return Representations(self.table, torch.eye(self.num_items))

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        return {}


def check_lists(table: Tensor, users: list[int], values: Tensor, items: Tensor, seen: set[tuple[int, int]]) -> None:
    """Sorted scores of distinct items that may be recommended, none left out that is better."""
    k = items.size(1)
    for user, value, item in zip(users, values.tolist(), items.tolist(), strict=True):
        left = [i for i in range(table.size(1)) if (user, i) not in seen]
        best = sorted(table[user, left].tolist(), reverse=True)[:k]
        assert value == best + [-torch.inf] * (k - len(best))
        found = item[: len(best)]
        assert len(set(found)) == len(found)
        assert set(found) <= set(left)
        assert table[user, found].tolist() == best


@PROPERTY
@given(interactions(), st.data())
def test_rank_items(data: HeteroData, draw: st.DataObject) -> None:
    num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
    table = draw.draw(scores(num_users, num_items))
    users = draw.draw(st.lists(st.integers(0, num_users - 1), min_size=1, max_size=8))
    k = draw.draw(st.integers(1, num_items))
    known = draw.draw(st.booleans())
    seed = draw.draw(st.none() | st.integers(0, 99))
    values, items = rank_items(
        lambda user, item: table[user][:, item],
        torch.tensor(users),
        k,
        num_items,
        seen_items(data) if known else None,
        block_size=draw.draw(st.integers(1, 9)),
        generator=None if seed is None else torch.Generator().manual_seed(seed),
    )
    check_lists(table, users, values, items, set(pairs_of(data[INTERACTS].edge_index)) if known else set())


@PROPERTY
@given(interactions(), st.data())
def test_recommend(data: HeteroData, draw: st.DataObject) -> None:
    num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
    model = Table(num_users, num_items)
    model.table = draw.draw(scores(num_users, num_items))
    users = draw.draw(st.lists(st.integers(0, num_users - 1), min_size=1, max_size=8))
    k = draw.draw(st.integers(1, num_items))
    known = draw.draw(st.booleans())
    values, items = model.recommend(data, torch.tensor(users), k, known, block_size=draw.draw(st.integers(1, 9)))
    seen = set(pairs_of(data[INTERACTS].edge_index)) if known else set()
    check_lists(model.table, users, values, items, seen)
    assert torch.equal(items == -1, values == -torch.inf)


@PROPERTY
@given(interactions())
def test_seen_items_are_the_interactions(data: HeteroData) -> None:
    ptr, item = seen_items(data)
    row = torch.arange(data["user"].num_nodes).repeat_interleave(ptr.diff())
    assert list(zip(row.tolist(), item.tolist(), strict=True)) == sorted(pairs_of(data[INTERACTS].edge_index))


@PROPERTY
@given(st.integers(1, 6), st.data())
def test_csr_round_trip(num_rows: int, draw: st.DataObject) -> None:
    pairs = draw.draw(st.lists(st.tuples(st.integers(0, num_rows - 1), st.integers(0, 9)), max_size=25))
    rows = draw.draw(st.lists(st.integers(0, num_rows - 1), max_size=10))
    entries = torch.tensor(pairs, dtype=torch.long).view(-1, 2)
    ptr, col = to_csr(entries[:, 0], entries[:, 1], num_rows)
    back = torch.arange(num_rows).repeat_interleave(ptr.diff())
    assert list(zip(back.tolist(), col.tolist(), strict=True)) == sorted(pairs)
    assert int(ptr[0]) == 0
    assert int(ptr[-1]) == len(pairs)
    position, entry = csr_entries(ptr, torch.tensor(rows, dtype=torch.long))
    expected = [(place, i) for place, row in enumerate(rows) for i in range(int(ptr[row]), int(ptr[row + 1]))]
    assert list(zip(position.tolist(), entry.tolist(), strict=True)) == expected
