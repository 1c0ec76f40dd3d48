"""What models share that score a user with an item by a network: one-hot fields, perceptrons on pairs, blocks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Dropout, Linear, ReLU, Sequential
from torch_geometric.data import HeteroData

from pyg_mmrec.nn.embedding import XavierEmbedding
from pyg_mmrec.nn.xavier import reset_xavier
from pyg_mmrec.typing import ITEM
from pyg_mmrec.utils.checks import check_int, check_part

#: Numbers in the rows of the pairs that :func:`score_pairs` scores at a time.
NUMBERS_AT_ONCE = 2**22


class OneHotFields(torch.nn.Module):
    """Embeddings of the sparse fields of a user and an item: the user, the item and, where known, its category.

    An item whose category is unknown (-1) has zeros there, as a one-hot field without a one gives.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        num_categories: Number of categories; 0 for no such field.
        channels: Width of the embeddings.

    Shapes:
        - **users:** ``[...]`` users to ``[..., channels]``
        - **items:** ``[...]`` items to ``[..., num_item_fields, channels]``

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data['item'].category = torch.tensor([1, 0, -1])
        >>> fields = OneHotFields(num_users=4, num_items=3, num_categories=2, channels=5)
        >>> fields.users(torch.tensor([3, 0])).shape, fields.items(data).shape
        (torch.Size([2, 5]), torch.Size([3, 2, 5]))
    """

    def __init__(self, num_users: int, num_items: int, num_categories: int, channels: int) -> None:
        super().__init__()
        check_int(0, num_categories=num_categories)
        self.user_emb = XavierEmbedding(num_users, channels)
        self.item_emb = XavierEmbedding(num_items, channels)
        self.category_emb = XavierEmbedding(num_categories, channels) if num_categories else None
        #: How many fields an item has.
        self.num_item_fields = 2 if num_categories else 1

    def reset_parameters(self) -> None:
        """Draws all tables anew."""
        for table in self.children():
            if isinstance(table, XavierEmbedding):
                table.reset_parameters()

    def users(self, index: Tensor | None = None) -> Tensor:
        """The field of users, by default of all."""
        return self.user_emb.weight if index is None else self.user_emb(index)

    def items(self, data: HeteroData, index: Tensor | None = None) -> Tensor:
        """The fields of items, by default of all: the item, then its category."""
        item = self.item_emb.weight if index is None else self.item_emb(index)
        if self.category_emb is None:
            return item.unsqueeze(-2)
        category = data[ITEM].category if index is None else data[ITEM].category[index]
        known = (category >= 0).unsqueeze(-1)
        return torch.stack([item, self.category_emb(category.clamp_min(0)) * known], dim=-2)


class PairMLP(torch.nn.Module):
    r"""A perceptron on a user's and an item's vector, whose first layer is computed once for each of the two.

    .. math::
        \mathbf{W} [\mathbf{x}_u, \mathbf{x}_i] + \mathbf{b} = \mathbf{W}_1 \mathbf{x}_u +
        (\mathbf{W}_2 \mathbf{x}_i + \mathbf{b})

    Only the sum and what follows it, the rectifier, dropout and the other layers, are computed for pairs.

    Args:
        user_channels: Width of users' vectors.
        item_channels: Width of items' vectors.
        hidden_channels: Widths of the hidden layers.
        dropout: Share of each hidden layer's neurons that is left out in training (default: 0).

    Shapes:
        - **input:** ``[..., hidden_channels[0]]``, the sum of :meth:`users` and :meth:`items`
        - **output:** ``[...]`` logits

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> mlp = PairMLP(user_channels=4, item_channels=6, hidden_channels=[8, 8])
        >>> user, item = mlp.users(torch.rand(3, 1, 4)), mlp.items(torch.rand(5, 6))
        >>> mlp(user + item).shape
        torch.Size([3, 5])
    """

    def __init__(
        self, user_channels: int, item_channels: int, hidden_channels: list[int], dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_part(dropout=dropout)
        self.user_channels = user_channels
        self.first = Linear(user_channels + item_channels, hidden_channels[0])
        layers: list[torch.nn.Module] = []
        for width, following in zip(hidden_channels, [*hidden_channels[1:], 1], strict=True):
            layers += [ReLU(), Dropout(dropout), Linear(width, following)]
        self.rest = Sequential(*layers)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws Xavier-uniform weights and zero biases."""
        reset_xavier(self)

    def users(self, x: Tensor) -> Tensor:
        """What users add to the first layer."""
        return F.linear(x, self.first.weight[:, : self.user_channels])

    def items(self, x: Tensor) -> Tensor:
        """What items add to the first layer, with its bias."""
        return F.linear(x, self.first.weight[:, self.user_channels :], self.first.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits of pairs from their first layer before the rectifier."""
        out: Tensor = self.rest(hidden).squeeze(-1)
        return out


def pair_products(user: Tensor, item: Tensor) -> Tensor:
    """Inner products of users with items.

    Args:
        user: ``[b, 1, channels]``.
        item: ``[b, c, channels]`` by user, or ``[1, c, channels]``, the same for all.

    Returns:
        ``[b, c]``.

    Example:
        >>> pair_products(torch.ones(2, 1, 3), torch.ones(1, 4, 3)).shape
        torch.Size([2, 4])
    """
    return (user @ item.transpose(-1, -2)).squeeze(-2)


def score_pairs(
    logits: Callable[[Tensor, Tensor], Tensor], user: Tensor, item: Tensor, candidates: Tensor | None = None
) -> Tensor:
    """Logits of users with items in blocks of pairs, so that memory does not grow with their number.

    Args:
        logits: Gives ``[b, c]`` logits of ``[b, 1, channels]`` users with ``[b, c, channels]`` items by user, or with
            ``[1, c, channels]`` items, the same for all.
        user: ``[B, channels]``, the users.
        item: ``[num_items, channels]``, all items.
        candidates: None for all items, ``[C]`` for the same candidates for all, ``[B, C]`` for candidates by user.

    Returns:
        ``[B, num_items]`` or ``[B, C]``.

    Example:
        >>> user, item = torch.ones(2, 3), torch.ones(5, 3)
        >>> score_pairs(pair_products, user, item, torch.tensor([4, 0]))
        tensor([[3., 3.],
                [3., 3.]])
    """
    if candidates is None:
        candidates = torch.arange(item.size(0), device=item.device)
    pairs = max(1, NUMBERS_AT_ONCE // user.size(1))
    width = min(pairs, max(1, candidates.size(-1)))
    scores = []
    for rows in torch.arange(user.size(0), device=user.device).split(max(1, pairs // width)):
        chosen = candidates[rows] if candidates.dim() == 2 else candidates.unsqueeze(0)
        blocks = [logits(user[rows].unsqueeze(1), item[part]) for part in chosen.split(width, dim=1)]
        scores.append(torch.cat(blocks, dim=1))
    return torch.cat(scores)
