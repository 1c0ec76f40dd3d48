"""Rows of tensors by index."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_mmrec.typing import Triplets


def take_rows(x: Tensor, index: Tensor) -> Tensor:
    """``x[index]``, with a gradient that adds up repeated rows in a fixed order.

    The gradient of plain indexing adds repeated rows from several threads in whichever order they come, so that a seed
    would not fix the last bits of a training; that of ``index_select`` does so on a GPU.

    Args:
        x: ``[num_rows, ...]``.
        index: Rows, int64 of any shape, repeats allowed.

    Returns:
        ``[*index.shape, ...]``.

    Example:
        >>> take_rows(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([[2, 0], [2, 1]]))
        tensor([[3., 1.],
                [3., 2.]])
    """
    return F.embedding(index, x.flatten(1) if x.dim() > 1 else x.unsqueeze(1)).view(*index.shape, *x.shape[1:])


def triplet_scores(user: Tensor, item: Tensor, batch: Triplets) -> Tensor:
    """Inner products of a batch's users with their positive and with their negative items.

    Args:
        user: ``[num_users, channels]``.
        item: ``[num_items, channels]``.
        batch: The triplets.

    Returns:
        ``[2, B]``, positive items first.

    Example:
        >>> batch = Triplets(torch.tensor([1]), torch.tensor([0]), torch.tensor([2]))
        >>> triplet_scores(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0], [5.0]]), batch)
        tensor([[ 6.],
                [10.]])
    """
    items = torch.stack([batch.pos_item, batch.neg_item])  # [2, B]
    scores: Tensor = (take_rows(user, batch.user) * take_rows(item, items)).sum(-1)
    return scores
