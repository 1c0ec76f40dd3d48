from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import csr_entries, rank_items, seen_items


def table(scores: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """A score function that reads a matrix."""
    return lambda user, item: scores[user][:, item]


def csr(seen: list[list[int]]) -> tuple[Tensor, Tensor]:
    count = torch.tensor([0, *map(len, seen)])
    return count.cumsum(0), torch.tensor([item for items in seen for item in items], dtype=torch.long)


@pytest.mark.parametrize("block_size", [1, 2, 1024])
@pytest.mark.parametrize("seed", [None, 3])
def test_best_items_first(block_size: int, seed: int | None) -> None:
    scores = torch.tensor([[0.1, 0.4, 0.3, 0.2], [4.0, 3.0, 2.0, 1.0], [-1.0, -3.0, -2.0, -4.0]])
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    values, items = rank_items(
        table(scores),
        torch.tensor([2, 0, 1]),
        3,
        4,
        block_size=block_size,
        generator=generator,
    )
    assert items.tolist() == [[0, 2, 1], [1, 2, 3], [0, 1, 2]]
    torch.testing.assert_close(values, torch.tensor([[-1.0, -2.0, -3.0], [0.4, 0.3, 0.2], [4.0, 3.0, 2.0]]))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_left_out_items_come_last(draw: st.DataObject) -> None:
    num_users, num_items = draw.draw(st.integers(1, 5)), draw.draw(st.integers(1, 7))
    items = st.lists(st.integers(0, num_items - 1), unique=True)
    seen = [sorted(draw.draw(items)) for _ in range(num_users)]
    k = draw.draw(st.integers(1, num_items))
    user = torch.tensor(draw.draw(st.lists(st.integers(0, num_users - 1), min_size=1)))
    seed = draw.draw(st.integers(0, 9))
    scores = torch.randn(num_users, num_items, generator=torch.Generator().manual_seed(seed))
    before = scores.clone()
    values, ranked = rank_items(
        table(scores),
        user,
        k,
        num_items,
        csr(seen),
        block_size=2,
        generator=torch.Generator().manual_seed(seed) if seed % 2 else None,
    )
    assert torch.equal(scores, before)
    for row, u in enumerate(user.tolist()):
        left = sorted(set(range(num_items)) - set(seen[u]), key=lambda item: -float(scores[u, item]))
        num_left = min(k, len(left))
        assert ranked[row, :num_left].tolist() == left[:num_left]
        assert values[row, :num_left].tolist() == [float(scores[u, item]) for item in left[:num_left]]
        assert (values[row, num_left:] == -torch.inf).all()
        assert set(ranked[row, num_left:].tolist()) <= set(seen[u])


def test_ties_fall_in_random_order() -> None:
    first = torch.zeros(5)
    for seed in range(400):
        generator = torch.Generator().manual_seed(seed)
        constant = lambda user, item: torch.zeros(user.numel(), item.numel())  # noqa: E731
        first[rank_items(constant, torch.tensor([0]), 1, 5, generator=generator)[1]] += 1
    assert ((first - 80).square() / 80).sum() < 20.5  # chi-square, 4 degrees of freedom, p = 4e-4


def test_no_users() -> None:
    scores, items = rank_items(table(torch.rand(2, 3)), torch.empty(0, dtype=torch.long), 2, 3)
    assert scores.shape == items.shape == (0, 2)
    assert items.dtype == torch.long


@pytest.mark.parametrize("k", [0, 4])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"^'k' must lie in 1..3, the number of items \\(got {k}\\)$"):
        rank_items(table(torch.rand(2, 3)), torch.tensor([0]), k, 3)


def test_nan_scores_name_the_user() -> None:
    scores = torch.rand(3, 4)
    scores[2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"^the scores of user 2 are NaN: the model has diverged$"):
        rank_items(table(scores), torch.arange(3), 1, 4)


def test_csr_entries_equal_a_loop() -> None:
    ptr, col = torch.tensor([0, 2, 2, 5, 6]), torch.tensor([5, 6, 1, 2, 3, 9])
    rows = torch.tensor([2, 1, 0, 2, 3])
    position, entry = csr_entries(ptr, rows)
    expected = [
        (place, int(col[at]))
        for place, row in enumerate(rows.tolist())
        for at in range(int(ptr[row]), int(ptr[row + 1]))
    ]
    assert list(zip(position.tolist(), col[entry].tolist(), strict=True)) == expected
    assert [part.numel() for part in csr_entries(ptr, rows[:0])] == [0, 0]


def test_seen_items_of_data_without_a_split() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, 4
    data[INTERACTS].edge_index = torch.tensor([[2, 0, 2, 2], [3, 1, 0, 2]])
    ptr, item = seen_items(data)
    assert ptr.tolist() == [0, 1, 1, 4]
    assert item.tolist() == [1, 0, 2, 3]


def test_seen_items_of_a_split(tiny_data: HeteroData) -> None:
    ptr, item = seen_items(tiny_data)
    assert ptr is tiny_data["user"].seen_ptr
    assert item is tiny_data["user"].seen_item
