from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import take_rows, triplet_scores, unit_rows


@pytest.mark.parametrize("shape", [(5,), (2, 5), (2, 0), (3, 2, 2)])
@pytest.mark.parametrize("x", [torch.randn(7), torch.randn(7, 3), torch.randn(7, 3, 2)], ids=lambda x: str(x.dim()))
def test_equals_indexing_with_its_gradient(x: Tensor, shape: tuple[int, ...]) -> None:
    index = torch.randint(7, shape, generator=torch.Generator().manual_seed(0))
    x = x.double().requires_grad_()
    out, expected = take_rows(x, index), x[index]
    assert torch.equal(out, expected)
    weight = torch.randn(expected.shape, dtype=torch.float64)
    (grad,) = torch.autograd.grad((out * weight).sum(), x)
    (expected_grad,) = torch.autograd.grad((expected * weight).sum(), x)
    torch.testing.assert_close(grad, expected_grad)


def test_gradients_are_equal_to_the_last_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 64, generator=generator, requires_grad=True)
    index = torch.randint(100, (20_000,), generator=generator)
    weight = torch.randn(20_000, 64, generator=generator)
    grads = [torch.autograd.grad((take_rows(x, index) * weight).sum(), x)[0] for _ in range(10)]
    assert all(torch.equal(grad, grads[0]) for grad in grads)


def test_triplet_scores_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    user, item = torch.randn(4, 3, generator=generator), torch.randn(5, 3, generator=generator)
    batch = Triplets(torch.tensor([3, 0, 3]), torch.tensor([1, 1, 4]), torch.tensor([0, 2, 1]))
    scores = triplet_scores(user, item, batch)
    for row, items in enumerate((batch.pos_item, batch.neg_item)):
        for column in range(3):
            expected = user[batch.user[column]] @ item[items[column]]
            torch.testing.assert_close(scores[row, column], expected)


@pytest.mark.parametrize("shape", [(7,), (5, 7), (2, 3, 7), (0, 7)])
def test_unit_rows_equal_normalize_with_its_gradient(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(shape, dtype=torch.float64, generator=generator)
    out, expected = unit_rows(x), F.normalize(x, dim=-1)
    torch.testing.assert_close(out, expected)
    grads = [torch.autograd.grad((part * weight).sum(), x)[0] for part in (out, expected)]
    torch.testing.assert_close(*grads)


def test_unit_rows_of_zeros_are_zeros() -> None:
    x = torch.zeros(2, 3, requires_grad=True)
    unit_rows(x).sum().backward()
    assert torch.equal(unit_rows(x), torch.zeros(2, 3))
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_unit_rows_in_half_precision() -> None:
    """The length is taken in single precision; type and gradient's type stay."""
    x = torch.randn(50, 300, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    out = unit_rows(x)
    out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16 == x.grad.dtype  # type: ignore[union-attr]
    torch.testing.assert_close(out, F.normalize(x.float(), dim=-1).bfloat16(), rtol=0.01, atol=0)


def test_unit_rows_gradient_by_differences() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(unit_rows, x)
