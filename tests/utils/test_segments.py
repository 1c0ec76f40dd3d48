from __future__ import annotations

import pytest
import torch

from pyg_mmrec.utils import kept_entries, segment_mean, segment_rows, segment_sum

PTR = torch.tensor([0, 2, 2, 5, 6])


def test_sums_equal_a_loop() -> None:
    weight, x = torch.randn(6, 3), torch.randn(6, 4)
    out = segment_sum(weight, x, PTR)
    assert out.shape == (4, 3, 4)
    for segment in range(4):
        for k in range(3):
            entries = range(PTR[segment], PTR[segment + 1])
            expected = sum((weight[e, k] * x[e] for e in entries), torch.zeros(4))
            torch.testing.assert_close(out[segment, k], expected)


def test_gradients() -> None:
    weight, x = (torch.randn(6, width, dtype=torch.float64, requires_grad=True) for width in (3, 4))
    assert torch.autograd.gradcheck(lambda w, y: segment_sum(w, y, PTR), (weight, x))
    assert torch.autograd.gradcheck(lambda y: segment_mean(y, PTR), (x,))


def test_no_entries() -> None:
    weight, x, ptr = torch.zeros(0, 2, requires_grad=True), torch.zeros(0, 3, requires_grad=True), torch.zeros(3).long()
    out = segment_sum(weight, x, ptr)
    out.sum().backward()
    assert torch.equal(out, torch.zeros(2, 2, 3))
    assert x.grad.shape == (0, 3)


def test_means() -> None:
    x = torch.randn(6, 4)
    expected = torch.stack([x[:2].mean(0), torch.zeros(4), x[2:5].mean(0), x[5]])
    torch.testing.assert_close(segment_mean(x, PTR), expected)


@pytest.mark.parametrize("kept", [[], [0, 3, 4], list(range(6))])
def test_kept_entries(kept: list[int]) -> None:
    keep = torch.zeros(6, dtype=torch.bool)
    keep[kept] = True
    entry, ptr = kept_entries(torch.arange(10, 16), PTR, keep)
    assert entry.tolist() == [10 + e for e in kept]
    assert segment_rows(ptr).tolist() == [segment_rows(PTR).tolist()[e] for e in kept]
