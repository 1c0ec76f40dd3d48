"""Linear maps of linear maps, without the wide result between them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def composed_linear(
    x: Tensor, first: torch.nn.Linear, seconds: Mapping[str, tuple[torch.nn.Linear, slice]]
) -> dict[str, Tensor]:
    r"""Applies linear maps to parts of another linear map's output, which is never built.

    With :math:`\mathbf{T} = \mathbf{X} \mathbf{A}^\top + \mathbf{a}`, computes
    :math:`\mathbf{T}_{:, s_j} \mathbf{W}_j^\top + \mathbf{b}_j` for each j as

    .. math::
        \mathbf{X} (\mathbf{W}_j \mathbf{A}_{s_j})^\top + (\mathbf{W}_j \mathbf{a}_{s_j} + \mathbf{b}_j),

    the same function with the same gradients. It pays where the outputs have far fewer columns than
    :math:`\mathbf{T}` and there are not many fewer columns in :math:`\mathbf{T}` than rows in :math:`\mathbf{X}`.

    Args:
        x: ``[num_rows, in_channels]``.
        first: :math:`\mathbf{A}, \mathbf{a}`.
        seconds: By name, :math:`\mathbf{W}_j, \mathbf{b}_j` and the columns :math:`s_j` of :math:`\mathbf{T}` it reads.

    Returns:
        By name, ``[num_rows, out_channels_j]``.

    Example:
        >>> first, second = torch.nn.Linear(8, 6), torch.nn.Linear(3, 2)
        >>> x = torch.rand(5, 8)
        >>> out = composed_linear(x, first, {'left': (second, slice(0, 3))})['left']
        >>> torch.allclose(out, second(first(x)[:, :3]), atol=1e-6)
        True
    """
    columns = range(first.out_features)
    reads = {name: range(*part.indices(len(columns))) for name, (_, part) in seconds.items()}
    cuts = sorted({0, len(columns), *(cut for read in reads.values() for cut in (read.start, read.stop))})
    spans = [range(start, stop) for start, stop in itertools.pairwise(cuts)]
    # Maps that read the same columns are multiplied together.
    readers = [
        [name for name, read in reads.items() if read.start <= span.start and span.stop <= read.stop] for span in spans
    ]
    stacked = [
        torch.cat(
            [first.weight.new_empty(0, len(span))]
            + [seconds[name][0].weight[:, span.start - reads[name].start :][:, : len(span)] for name in names]
        )
        for span, names in zip(spans, readers, strict=True)
    ]
    weights: dict[str, list[Tensor]] = {name: [] for name in seconds}
    for product, names in zip(_RowBlocks.apply(first.weight, *stacked), readers, strict=True):
        for name, part in zip(names, product.split([seconds[name][0].out_features for name in names]), strict=True):
            weights[name].append(part)
    weight = torch.cat([functools.reduce(torch.add, parts) for parts in weights.values()])
    bias = torch.cat([F.linear(first.bias[part], second.weight, second.bias) for second, part in seconds.values()])
    sizes = [second.out_features for second, _ in seconds.values()]
    return dict(zip(seconds, F.linear(x, weight, bias).split(sizes, dim=-1), strict=True))


class _RowBlocks(torch.autograd.Function):
    """Products of matrices with consecutive blocks of another's rows, whose gradient is written in one piece."""

    @staticmethod
    def forward(ctx: FunctionCtx, matrix: Tensor, *lefts: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(matrix, *lefts)
        blocks = matrix.split([left.size(1) for left in lefts])
        return tuple(left @ block for left, block in zip(lefts, blocks, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        matrix, *lefts = ctx.saved_tensors  # type: ignore[attr-defined]
        blocks = matrix.split([left.size(1) for left in lefts])
        grad_matrix = torch.empty_like(matrix)
        with torch.autocast(matrix.device.type, enabled=False):  # which may have been on in the forward pass
            grads = tuple(grad.to(matrix.dtype) for grad in grads)
            for left, grad, out in zip(lefts, grads, grad_matrix.split([left.size(1) for left in lefts]), strict=True):
                torch.mm(left.t(), grad, out=out)
            return grad_matrix, *[grad @ block.t() for grad, block in zip(grads, blocks, strict=True)]
