from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from pyg_mmrec.utils.negatives import ItemsLeft, NegativeSampler, distinct_ranks


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[set[int]], int]:
    """The items of each user, none of whom has every train item, and the number of items."""
    num_items = draw(st.integers(2, 9))
    train = draw(st.lists(st.integers(0, num_items - 1), min_size=2, unique=True))
    users = draw(st.lists(st.sets(st.sampled_from(train), max_size=len(train) - 1), max_size=6))
    return [*users, {train[0]}, set(train[1:])], num_items


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, 5))
def test_negatives_are_unseen_train_items(drawn: tuple[list[set[int]], int], seed: int) -> None:
    users, num_items = drawn
    train = set().union(*users)
    edges = [(user, item) for user, items in enumerate(users) for item in items]
    edge_index = torch.tensor(edges + edges[:2]).t()[:, torch.randperm(len(edges) + len(edges[:2]))]  # some repeat
    sampler = NegativeSampler(edge_index, len(users) + 1, num_items)
    user = torch.arange(len(users) + 1).repeat(30)
    for u, item in zip(user.tolist(), sampler(user, torch.Generator().manual_seed(seed)).tolist(), strict=True):
        assert item in train
        assert u == len(users) or item not in users[u]


@pytest.mark.parametrize(
    "history",
    [set(), {0}, {7}, {0, 1, 2}, {5, 7}, {0, 2, 3, 7}, {1, 2, 3, 4, 5, 7}],
    ids=lambda items: str(sorted(items)),
)
def test_negatives_are_uniform(history: set[int]) -> None:
    train = [0, 1, 2, 3, 4, 5, 7]  # item 6 has no train edge
    edges = [(0, item) for item in history] + [(item % 3 + 1, item) for item in train]
    sampler = NegativeSampler(torch.tensor(edges).t(), 4, 9)
    drawn = sampler(torch.zeros(20_000, dtype=torch.long), torch.Generator().manual_seed(1))
    count = torch.bincount(drawn, minlength=9)
    left = [item for item in train if item not in history]
    assert int(count[left].sum()) == 20_000
    if len(left) > 1:
        assert chisquare(count[left].numpy()).pvalue > 1e-3


def test_draws_follow_the_generator() -> None:
    sampler = NegativeSampler(torch.tensor([[0, 1, 2, 3], [0, 1, 2, 3]]), 4, 4)
    user = torch.arange(4).repeat(20)
    one, two, other = (sampler(user, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_no_draws() -> None:
    sampler = NegativeSampler(torch.tensor([[0, 1], [0, 1]]), 2, 2)
    assert sampler(torch.empty(0, dtype=torch.long), torch.Generator()).tolist() == []


def test_a_user_with_every_train_item() -> None:
    with pytest.raises(ValueError, match=r"^user 1 has interacted with every train item: no negative can be drawn"):
        NegativeSampler(torch.tensor([[0, 1, 1, 1], [2, 2, 4, 4]]), 2, 9)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_items_left_are_numbered_in_order(drawn: tuple[list[set[int]], int]) -> None:
    users, num_items = drawn
    edges = [(user, item) for user, items in enumerate(users) for item in items]
    edge_index = torch.tensor(edges + edges[:2]).t()[:, torch.randperm(len(edges) + len(edges[:2]))]  # some repeat
    left = ItemsLeft(edge_index, len(users), torch.arange(num_items))
    for user, items in enumerate(users):
        expected = sorted(set(range(num_items)) - items)
        assert int(left.count[user]) == len(expected)
        assert left(torch.tensor(user), torch.arange(len(expected))).tolist() == expected
    ranks = torch.zeros(len(users), 2, dtype=torch.long)
    assert (
        left(torch.arange(len(users)).unsqueeze(1), ranks)[:, 0] == left(torch.arange(len(users)), ranks[:, 0])
    ).all()


def test_users_without_edges_have_all_items_left() -> None:
    left = ItemsLeft(torch.empty(2, 0, dtype=torch.long), 2, torch.tensor([3, 5]))
    assert left.count.tolist() == [2, 2]
    assert left(torch.tensor([0, 1]), torch.tensor([0, 1])).tolist() == [3, 5]


@pytest.mark.parametrize(("count", "num_ranks"), [(5, 2), (6, 3), (4, 4), (7, 6), (1, 1)])
def test_sets_of_distinct_ranks_are_equally_likely(count: int, num_ranks: int) -> None:
    uniform = torch.rand(20_000, num_ranks, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    drawn = [tuple(sorted(row)) for row in distinct_ranks(torch.full((20_000,), count), uniform).tolist()]
    sets = list(combinations(range(count), num_ranks))
    number = [drawn.count(one) for one in sets]
    assert sum(number) == 20_000
    if len(sets) > 1:
        assert chisquare(number).pvalue > 1e-3


def test_distinct_ranks_of_other_limits() -> None:
    count = torch.tensor([0, 1, 3, 5, 8, 2**20])
    for last in (0.0, 1 - 2**-53):
        uniform = torch.rand(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        uniform[:, -1] = last
        for limit, row in zip(count.tolist(), distinct_ranks(count, uniform).tolist(), strict=True):
            ranks, rest = row[: min(limit, 5)], row[min(limit, 5) :]
            assert len(set(ranks)) == len(ranks)
            assert all(0 <= rank < limit for rank in ranks)
            assert rest == [-1] * len(rest)
    assert distinct_ranks(count, torch.empty(6, 0, dtype=torch.float64)).shape == (6, 0)
