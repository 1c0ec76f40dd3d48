from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyg_mmrec.utils.csr import to_csr


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=30))
def test_rows_hold_their_columns_sorted(pairs: list[tuple[int, int]]) -> None:
    entries = torch.tensor(pairs, dtype=torch.long).view(-1, 2)
    ptr, col = to_csr(entries[:, 0], entries[:, 1], num_rows=7)
    assert ptr.dtype == col.dtype == torch.long
    assert ptr.numel() == 8
    for row in range(7):
        assert col[ptr[row] : ptr[row + 1]].tolist() == sorted(c for r, c in pairs if r == row)


@pytest.mark.parametrize("row", [-1, 3])
def test_rows_outside_are_an_error(row: int) -> None:
    with pytest.raises(ValueError, match=r"'row' must lie in 0\.\.2"):
        to_csr(torch.tensor([0, row]), torch.tensor([0, 0]), num_rows=3)
