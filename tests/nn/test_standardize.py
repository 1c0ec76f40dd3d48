from __future__ import annotations

import pytest
import torch

from pyg_mmrec.nn import Standardize


def test_columns_are_standardised() -> None:
    x = torch.randn(500, 3) * torch.tensor([1.0, 20.0, 0.0]) + 5
    standardize = Standardize(3)
    assert torch.equal(standardize(x), x)
    standardize.start_from(x)
    z = standardize(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    twin = Standardize(3)
    twin.load_state_dict(standardize.state_dict())
    assert torch.equal(twin(x), z)


def test_bad_width() -> None:
    with pytest.raises(ValueError, match=r"^'channels' must be positive \(got 0\)$"):
        Standardize(0)
