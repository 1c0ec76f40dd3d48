from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_mmrec.utils import NeighborPattern

NEIGHBORS = {
    "ragged": [[2, 0, 1], [1, -1, -1], [-1, -1, -1], [4, 2, -1], [0, 3, 4]],
    "of one": [[0, -1, -1]],
    "none": [[-1, -1]] * 4,
}


def drawn(index: list[list[int]], dtype: torch.dtype = torch.float64) -> tuple[NeighborPattern, Tensor, Tensor, Tensor]:
    """A pattern, weights of its edges and two matrices."""
    pattern = NeighborPattern.from_neighbors(torch.tensor(index))
    generator = torch.Generator().manual_seed(0)
    size = (len(index), 3)
    parts = [torch.randn(*shape, generator=generator, dtype=dtype) for shape in ((pattern.num_edges,), size, size)]
    return pattern, *parts


def pairs(index: list[list[int]]) -> list[tuple[int, int]]:
    return [(node, other) for node, row in enumerate(index) for other in sorted(row) if other >= 0]


@pytest.mark.parametrize("index", NEIGHBORS.values(), ids=NEIGHBORS)
def test_products_equal_loops(index: list[list[int]]) -> None:
    pattern, weight, x, y = drawn(index)
    assert pattern.num_edges == len(pairs(index))
    expected = [float(x[node] @ y[other]) for node, other in pairs(index)]
    np.testing.assert_allclose(pattern.inner_products(x, y).numpy(), expected)
    sums = np.zeros((len(index), 3))
    for (node, other), w in zip(pairs(index), weight, strict=True):
        sums[node] += (w * y[other]).numpy()
    np.testing.assert_allclose(pattern.weighted_sums(weight, y).numpy(), sums)


@pytest.mark.parametrize("index", [NEIGHBORS["ragged"], NEIGHBORS["of one"]], ids=["ragged", "of one"])
def test_gradients(index: list[list[int]]) -> None:
    pattern, *parts = drawn(index)
    weight, x, y = (part.requires_grad_() for part in parts)
    assert torch.autograd.gradcheck(pattern.inner_products, (x, y))
    assert torch.autograd.gradcheck(lambda x: pattern.inner_products(x, x), (x,))
    assert torch.autograd.gradcheck(pattern.weighted_sums, (weight, x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    pattern, weight, x, y = drawn(NEIGHBORS["ragged"], torch.float32)
    x, y = x.to(dtype).requires_grad_(), y.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        products, sums = pattern.inner_products(x, y), pattern.weighted_sums(weight, x)
    torch.testing.assert_close(products, pattern.inner_products(x.float(), y.float()))
    torch.testing.assert_close(sums, pattern.weighted_sums(weight, x.float()))
    (products.sum() + sums.sum()).backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype


def test_any_layout_of_rows() -> None:
    pattern, weight, x, y = drawn(NEIGHBORS["ragged"])
    turned = [part.t().contiguous().t() for part in (x, y)]
    assert torch.equal(pattern.inner_products(*turned), pattern.inner_products(x, y))
    assert torch.equal(pattern.weighted_sums(weight, turned[0]), pattern.weighted_sums(weight, x))
