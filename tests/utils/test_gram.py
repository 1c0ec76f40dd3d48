from __future__ import annotations

import pytest
import torch

from pyg_mmrec.utils import gram


@pytest.mark.parametrize("num_rows", [0, 1, 4, 7])
def test_gram_in_blocks(num_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram, "ROWS_AT_ONCE", 3)
    x = torch.randn(num_rows, 5, generator=torch.Generator().manual_seed(0))
    found = gram.gram(x)
    torch.testing.assert_close(found, x @ x.t())
