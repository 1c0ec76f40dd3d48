from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.metrics import ranking_metrics
from pyg_mmrec.typing import INTERACTS
from tests.properties.strategies import PROPERTY, generator

NUM_ITEMS = 9
KINDS = ("recall", "precision", "ndcg", "map", "hit", "mrr", "coverage", "diversity", "popularity")
NAMES = [f"{kind}@{k}" for kind in KINDS for k in range(1, NUM_ITEMS + 1) if kind != "diversity" or k > 1]
Ranking = tuple[HeteroData, Tensor, Tensor]


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    """A catalogue, lists of which some end early, and pairs of rows and held-out items, in no order."""
    random, num_users = generator(draw), draw(st.integers(1, 7))
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, NUM_ITEMS
    data[INTERACTS].edge_index = torch.stack(
        [torch.randint(num_users, (20,), generator=random), torch.randint(NUM_ITEMS, (20,), generator=random)]
    )
    data["item"].category = torch.randint(3, (NUM_ITEMS,), generator=random)
    items = torch.rand(num_users, NUM_ITEMS, generator=random).argsort(1)
    left = torch.randint(NUM_ITEMS + 1, (num_users, 1), generator=random)
    items = items.masked_fill(torch.arange(NUM_ITEMS) >= left, -1)
    held_out = (torch.rand(num_users, NUM_ITEMS, generator=random) < draw(st.sampled_from([0.1, 0.3, 0.9]))).nonzero()
    return data, items, held_out[torch.randperm(len(held_out), generator=random)].t()


def measure(data: HeteroData, *updates: tuple[Tensor, Tensor], names: list[str] = NAMES) -> dict[str, float]:
    metrics = ranking_metrics(names, data)
    for items, held_out in updates:
        metrics.update(items, (held_out[0], held_out[1]))
    return metrics.compute()


@PROPERTY
@given(rankings())
def test_bounds(ranking: Ranking) -> None:
    data, items, held_out = ranking
    found = measure(data, (items, held_out))
    most = int(torch.bincount(data[INTERACTS].edge_index[1]).max())
    for name, value in found.items():
        assert 0 <= value <= (most if "popularity" in name else 1), name
    for k in range(1, NUM_ITEMS + 1):
        assert found[f"recall@{k}"] <= found[f"hit@{k}"] + 1e-12
        assert found[f"mrr@{k}"] <= found[f"hit@{k}"] + 1e-12
        assert found[f"precision@{k}"] <= found[f"hit@{k}"] + 1e-12


@pytest.mark.parametrize("kind", ["recall", "hit", "mrr", "coverage"])
@PROPERTY
@given(rankings())
def test_longer_lists_find_more(kind: str, ranking: Ranking) -> None:
    data, *update = ranking
    found = measure(data, (update[0], update[1]), names=[f"{kind}@{k}" for k in range(1, NUM_ITEMS + 1)])
    assert all(one <= two + 1e-12 for one, two in pairwise(found.values()))


@PROPERTY
@given(rankings(), st.integers(0, 2**31))
def test_order_and_blocks_of_users_do_not_matter(ranking: Ranking, seed: int) -> None:
    data, items, held_out = ranking
    expected = pytest.approx(measure(data, (items, held_out)), rel=1e-12, abs=1e-15)
    perm = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))
    moved = torch.stack([perm.argsort()[held_out[0]], held_out[1]])
    assert measure(data, (items[perm], moved)) == expected
    half = len(items) // 2
    first, second = (held_out[:, held_out[0] < half], held_out[:, held_out[0] >= half] - torch.tensor([[half], [0]]))
    assert measure(data, (items[:half], first), (items[half:], second)) == expected


@PROPERTY
@given(rankings())
def test_repeats_of_what_is_held_out_do_not_matter(ranking: Ranking) -> None:
    data, items, held_out = ranking
    assert measure(data, (items, held_out.repeat(1, 2))) == measure(data, (items, held_out))


@PROPERTY
@given(rankings())
def test_a_perfect_ranking_scores_one(ranking: Ranking) -> None:
    data, _, held_out = ranking
    wanted = torch.zeros(data["user"].num_nodes, NUM_ITEMS)
    wanted[held_out[0], held_out[1]] = 1
    items = wanted.argsort(1, descending=True)
    names = [f"{kind}@{k}" for kind in ("ndcg", "map", "hit", "mrr") for k in range(1, NUM_ITEMS + 1)]
    assert set(measure(data, (items, held_out), names=names).values()) == {1.0 if held_out.numel() else 0.0}
