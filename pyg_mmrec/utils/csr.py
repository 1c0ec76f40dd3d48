"""Compressed sparse rows: pointers and sorted columns."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import cumsum


def to_csr(row: Tensor, col: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """Sorts the entries of a sparse matrix by row, then by column.

    Args:
        row: ``[nnz]`` rows, in any order.
        col: ``[nnz]`` columns; repeats are kept.
        num_rows: Number of rows.

    Returns:
        ``[num_rows + 1]`` int64 pointers and ``[nnz]`` columns: those of row r are ``col[ptr[r] : ptr[r + 1]]``.

    Raises:
        ValueError: If a row lies outside ``0..num_rows - 1``.

    Example:
        >>> to_csr(torch.tensor([2, 0, 2]), torch.tensor([5, 1, 3]), num_rows=3)
        (tensor([0, 1, 1, 3]), tensor([1, 3, 5]))
    """
    if row.numel() and (int(row.min()) < 0 or int(row.max()) >= num_rows):
        raise ValueError(f"'row' must lie in 0..{num_rows - 1} (got {int(row.min())}..{int(row.max())})")
    by_col = col.argsort()
    perm = by_col[row[by_col].argsort(stable=True)]
    return cumsum(torch.bincount(row, minlength=num_rows)), col[perm]
