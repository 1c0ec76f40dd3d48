"""Linear maps of linear maps, without the wide result between them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


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
    weights: dict[str, list[Tensor]] = {name: [] for name in seconds}
    # Maps that read the same columns are multiplied together; splitting keeps the gradient of A in one piece.
    for span, rows in zip(spans, first.weight.split([len(span) for span in spans]), strict=True):
        readers = [name for name, read in reads.items() if read.start <= span.start and span.stop <= read.stop]
        if readers:
            stacked = torch.cat(
                [seconds[name][0].weight[:, span.start - reads[name].start :][:, : len(span)] for name in readers]
            )
            products = (stacked @ rows).split([seconds[name][0].out_features for name in readers])
            for name, product in zip(readers, products, strict=True):
                weights[name].append(product)
    weight = torch.cat([functools.reduce(torch.add, parts) for parts in weights.values()])
    bias = torch.cat([F.linear(first.bias[part], second.weight, second.bias) for second, part in seconds.values()])
    sizes = [second.out_features for second, _ in seconds.values()]
    return dict(zip(seconds, F.linear(x, weight, bias).split(sizes, dim=-1), strict=True))
