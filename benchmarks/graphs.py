"""Random user-item graphs of any size with a long-tailed popularity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS


def random_graph(num_interactions: int, num_users: int | None = None, num_items: int | None = None) -> HeteroData:
    """A train view; by default ten interactions a user and fifty an item, drawn with seed 0.

    Users are equally likely, the i-th item with a weight of ``i ** -0.6``; pairs that come twice are drawn once.
    """
    num_users = num_users or max(1, num_interactions // 10)
    num_items = num_items or max(1, num_interactions // 50)
    generator = torch.Generator().manual_seed(0)
    weight = torch.arange(1, num_items + 1, dtype=torch.float64).pow(-0.6).cumsum(0)
    pairs = torch.empty(0, dtype=torch.long)
    while pairs.numel() < num_interactions:
        pairs = torch.cat([pairs, _draw(num_interactions - pairs.numel(), num_users, weight, generator)]).unique()
    pairs = pairs[torch.randperm(pairs.numel(), generator=generator)[:num_interactions]]
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    data[INTERACTS].edge_index = torch.stack([pairs // num_items, pairs % num_items])
    return data


def _draw(number: int, num_users: int, weight: Tensor, generator: torch.Generator) -> Tensor:
    number += number // 20 + 100  # some come twice
    user = torch.randint(num_users, (number,), generator=generator)
    uniform = torch.rand(number, generator=generator, dtype=torch.float64) * weight[-1]
    return user * weight.numel() + torch.searchsorted(weight, uniform).clamp(max=weight.numel() - 1)
