"""Rows of tensors: by index, and brought to length one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pyg_mmrec.typing import Triplets

#: Rows are not divided by less than this length.
_SHORTEST = 1e-12


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


def unit_rows(x: Tensor) -> Tensor:
    r"""Rows brought to length one, :math:`\mathbf{x} / \lVert \mathbf{x} \rVert`; rows of zeros stay zeros.

    Equal to :func:`torch.nn.functional.normalize` along the last dimension, whose gradient reads and writes the whole
    tensor some ten times: this one's does so three times. It has no second derivative.

    Args:
        x: ``[..., channels]``.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    out: Tensor = _UnitRows.apply(x)
    return out


class _UnitRows(torch.autograd.Function):
    """With y a row's output, its gradient is that of y but for the part along y, over the length."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        share: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype).clamp_min(_SHORTEST).reciprocal()
        out: Tensor = (x * share).to(x.dtype)
        ctx.save_for_backward(out, share)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        out, share = ctx.saved_tensors  # type: ignore[attr-defined]
        along = (grads[0] * out).sum(-1, keepdim=True)
        across: Tensor = torch.addcmul(grads[0], out, along, value=-1) * share
        return across.to(out.dtype)


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
