"""Inner products of all rows with each other."""

from __future__ import annotations

import torch
from torch import Tensor

#: Rows that are multiplied with all that follow them.
ROWS_AT_ONCE = 256


def gram(x: Tensor) -> Tensor:
    """``x @ x.t()``; the half above the diagonal is computed, the other copied.

    Args:
        x: ``[n, channels]``.

    Example:
        >>> gram(torch.tensor([[1.0, 0.0], [3.0, 4.0]]))
        tensor([[ 1.,  3.],
                [ 3., 25.]])
    """
    out = torch.empty(x.size(0), x.size(0), dtype=x.dtype, device=x.device)
    for start in range(0, x.size(0), ROWS_AT_ONCE):
        stop = start + ROWS_AT_ONCE
        out[start:stop, start:] = x[start:stop] @ x[start:].t()
        out[stop:, start:stop] = out[start:stop, stop:].t()
    return out
