"""Items that a user has not interacted with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import cumsum


class NegativeSampler:
    r"""Draws items uniformly among the train items that a user has no train edge to.

    Same distribution as drawing until no known positive comes up, without the loop: with :math:`p_0 < p_1 < \dots`
    the places of a user's items among the n train items, draw r uniformly among the places that are left and
    skip every :math:`p_j` with :math:`p_j - j \leq r`. One binary search finds them for all draws at once.

    Args:
        edge_index: ``[2, num_edges]`` train edges; repeats count once.
        num_users: Number of users.
        num_items: Number of items.

    Raises:
        ValueError: If a user has interacted with every train item, so that no negative is left.

    Example:
        >>> sampler = NegativeSampler(torch.tensor([[0, 0, 1], [0, 2, 1]]), num_users=2, num_items=3)
        >>> sampler(torch.tensor([0, 0, 0]), torch.Generator().manual_seed(0))
        tensor([1, 1, 1])
    """

    def __init__(self, edge_index: Tensor, num_users: int, num_items: int) -> None:
        edge = (edge_index[0] * num_items + edge_index[1]).unique()  # sorted by user, then item
        user, item = edge // num_items, edge % num_items
        self.items = item.unique()
        self.count = torch.bincount(user, minlength=num_users)
        if (self.count == self.items.numel()).any():
            full = int((self.count == self.items.numel()).nonzero()[0])
            raise ValueError(
                f"user {full} has interacted with every train item: no negative can be drawn, drop the user"
            )
        self.start = cumsum(self.count)[:-1]
        place = torch.searchsorted(self.items, item) - (
            torch.arange(user.numel(), device=user.device) - self.start[user]
        )
        self.stride = self.items.numel() + 1
        self.keys = user * self.stride + place  # sorted; place = p_j - j

    def __call__(self, user: Tensor, generator: torch.Generator) -> Tensor:
        """One item for each entry of ``user``.

        Args:
            user: ``[n]`` users, repeats allowed.
            generator: A CPU generator.
        """
        uniform = torch.rand(user.numel(), generator=generator, dtype=torch.float64).to(user.device)
        left = self.items.numel() - self.count[user]
        rank = (uniform * left).long().clamp(max=left - 1)
        skipped = torch.searchsorted(self.keys, user * self.stride + rank, right=True) - self.start[user]
        negative: Tensor = self.items[rank + skipped]
        return negative
