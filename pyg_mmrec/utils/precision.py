"""What is computed in single precision although a model runs in half."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor


def at_least_single(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors in their common type, or in float32 where that is narrower.

    Products of sparse matrices on CPU, and sums over a catalogue, have no half precision.

    Args:
        tensors: One tensor or more, of floating types.

    Example:
        >>> half, single = torch.ones(2, dtype=torch.bfloat16), torch.ones(2)
        >>> [x.dtype for x in at_least_single(half, single)]
        [torch.float32, torch.float32]
    """
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)
    return tuple(tensor.to(dtype) for tensor in tensors)
