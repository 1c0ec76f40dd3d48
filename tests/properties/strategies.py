"""What the property tests draw, and how many times."""

from __future__ import annotations

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS

#: The same examples at every run.
PROPERTY = settings(deadline=None, derandomize=True, max_examples=50)

Pair = tuple[int, int]


def generator(draw: st.DrawFn) -> torch.Generator:
    return torch.Generator().manual_seed(draw(st.integers(0, 2**32)))


def pairs_of(edge_index: Tensor) -> list[Pair]:
    return [(user, item) for user, item in edge_index.t().tolist()]


@st.composite
def interactions(draw: st.DrawFn, max_users: int = 6, max_items: int = 12, min_edges: int = 1) -> HeteroData:
    """Users and items, some without interactions, whose interactions have times with ties, and labels."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = draw(st.integers(1, max_users)), draw(st.integers(2, max_items))
    cells = data["user"].num_nodes * data["item"].num_nodes
    size = draw(st.integers(min(min_edges, cells), cells))
    random = generator(draw)
    cell = torch.randperm(cells, generator=random)[:size]
    data[INTERACTS].edge_index = torch.stack([cell // data["item"].num_nodes, cell % data["item"].num_nodes])
    data[INTERACTS].time = torch.randint(draw(st.sampled_from([2, 10, 10**6])), (size,), generator=random)
    data[INTERACTS].split = torch.randint(0, 4, (size,), generator=random) % 3
    return data


@st.composite
def scores(draw: st.DrawFn, num_users: int, num_items: int) -> Tensor:
    """``[num_users, num_items]`` scores, of few values or of many."""
    random = generator(draw)
    if draw(st.booleans()):
        return torch.randint(draw(st.integers(1, 3)), (num_users, num_items), generator=random).float()
    return torch.randn(num_users, num_items, generator=random)
