"""Items that a user has not interacted with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import cumsum


class ItemsLeft:
    r"""The items that a user has no edge to, numbered from 0 for each user.

    With :math:`p_0 < p_1 < \dots` the places of a user's items among all, the r-th of those that are left is behind
    every :math:`p_j` with :math:`p_j - j \leq r`. One binary search finds any number of them at once.

    Args:
        edge_index: ``[2, num_edges]`` users and items, which are among ``items``; repeats count once.
        num_users: Number of users.
        items: ``[n]`` all items, sorted.

    Example:
        >>> left = ItemsLeft(torch.tensor([[0, 0], [3, 7]]), num_users=2, items=torch.tensor([3, 5, 7, 8]))
        >>> left.count
        tensor([2, 4])
        >>> left(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
        tensor([5, 8, 5])
    """

    def __init__(self, edge_index: Tensor, num_users: int, items: Tensor) -> None:
        self.items = items
        place = torch.searchsorted(items, edge_index[1].contiguous())
        edge = (edge_index[0] * items.numel() + place).unique()  # sorted by user, then item
        user, place = edge // items.numel(), edge % items.numel()
        taken = torch.bincount(user, minlength=num_users)
        self.count = items.numel() - taken  #: ``[num_users]`` how many items are left
        self.start = cumsum(taken)[:-1]
        self.stride = items.numel() + 1
        self.keys = user * self.stride + place  # sorted
        self.keys -= torch.arange(user.numel(), device=user.device) - self.start[user]  # p_j - j

    def __call__(self, user: Tensor, rank: Tensor) -> Tensor:
        """The items of given numbers.

        Args:
            user: Users, of a shape that broadcasts to that of ``rank``.
            rank: Numbers below ``count[user]``.
        """
        skipped = torch.searchsorted(self.keys, user * self.stride + rank, right=True) - self.start[user]
        item: Tensor = self.items[rank + skipped]
        return item


class NegativeSampler:
    r"""Draws items uniformly among the train items that a user has no train edge to.

    Same distribution as drawing until no known positive comes up, without the loop: a number is drawn for each, and
    :class:`ItemsLeft` tells the items.

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
        self.left = ItemsLeft(edge_index, num_users, edge_index[1].unique())
        if (self.left.count == 0).any():
            full = int((self.left.count == 0).nonzero()[0])
            raise ValueError(
                f"user {full} has interacted with every train item: no negative can be drawn, drop the user"
            )

    def __call__(self, user: Tensor, generator: torch.Generator) -> Tensor:
        """One item for each entry of ``user``.

        Args:
            user: ``[n]`` users, repeats allowed.
            generator: A CPU generator.
        """
        uniform = torch.rand(user.numel(), generator=generator, dtype=torch.float64).to(user.device)
        left = self.left.count[user]
        return self.left(user, (uniform * left).long().clamp(max=left - 1))


def distinct_ranks(count: Tensor, uniform: Tensor) -> Tensor:
    """Draws numbers below a limit without repeats, so that all sets of them are equally likely.

    Floyd's algorithm (`"A Sample of Brilliance" <https://doi.org/10.1145/30401.315746>`_): of n numbers below c, the
    i-th is drawn below c - n + i + 1, and c - n + i takes its place where it is there already. Memory is B times the
    largest limit.

    Args:
        count: ``[B]`` the limits.
        uniform: ``[B, n]`` float64, uniform in [0, 1).

    Returns:
        ``[B, n]`` int64; where the limit is below n, all numbers below it, then -1.

    Example:
        >>> distinct_ranks(torch.tensor([100, 2]), torch.tensor([[0.5, 0.5, 0.2], [0.9, 0.9, 0.9]]))
        tensor([[49, 98, 20],
                [ 0,  1, -1]])
    """
    rank, rows = torch.full_like(uniform, -1, dtype=torch.long), torch.arange(count.numel(), device=count.device)
    there = torch.zeros(count.numel(), int(count.max()), dtype=torch.bool, device=count.device)
    num_drawn = count.clamp(max=uniform.size(1))
    for i, part in enumerate(uniform.unbind(1)):
        last = (count - num_drawn + i).minimum(count - 1).clamp_min(0)
        drawn = (part * (last + 1)).long().minimum(last)
        drawn = torch.where(there[rows, drawn], last, drawn)
        there[rows, drawn] = True
        rank[:, i] = drawn.masked_fill(i >= num_drawn, -1)
    return rank
