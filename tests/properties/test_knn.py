from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pyg_mmrec.utils.knn import knn
from tests.properties.strategies import PROPERTY, generator

Case = tuple[Tensor, Tensor, int]


@st.composite
def rows(draw: st.DrawFn) -> Case:
    """Features whose cosines are multiples of 1/4 and come out exactly, a mask, and k.

    Directions have four entries of +1 or -1, so many are equal, opposite or tie; some rows are zero or not finite.
    """
    random, num_rows = generator(draw), draw(st.integers(1, 40))
    x = torch.randint(2, (num_rows, 4), generator=random) * 2.0 - 1
    x *= 2.0 ** torch.randint(-3, 4, (num_rows, 1), generator=random)
    kind = torch.rand(num_rows, generator=random)
    x[kind < 0.1] = 0
    x[kind > 0.97, 1] = torch.nan
    mask = torch.rand(num_rows, generator=random) > draw(st.sampled_from([-1.0, 0.2, 0.9]))
    return x, mask, draw(st.integers(1, num_rows))


def brute_force(x: Tensor, mask: Tensor, k: int, include_self: bool) -> list[list[tuple[int, float]]]:
    """The neighbours of each row with their cosines, equal ones by index, padded."""
    found = []
    for i, row in enumerate(x.tolist()):
        there = [j for j, other in enumerate(x.tolist()) if mask[j] and any(other) and other[1] == other[1]]
        best: list[tuple[int, float]] = []
        if i in there:
            signs = [[1 if value > 0 else -1 for value in x[j].tolist()] for j in range(len(x))]
            cosines = {j: sum(a * b for a, b in zip(signs[i], signs[j], strict=True)) / 4 for j in there if j != i}
            best = [(i, 1.0)] * include_self + sorted(cosines.items(), key=lambda pair: (-pair[1], pair[0]))
        assert len(row) == 4
        found.append((best + [(-1, -torch.inf)] * k)[:k])
    return found


@PROPERTY
@given(rows(), st.booleans(), st.integers(1, 50))
def test_equals_brute_force_in_any_blocks(case: Case, include_self: bool, block_size: int) -> None:
    x, mask, k = case
    before = x.clone()
    index, similarity = knn(x, k, mask=mask, include_self=include_self)
    expected = brute_force(x, mask, k, include_self)
    assert index.tolist() == [[j for j, _ in row] for row in expected]
    assert similarity.tolist() == [[cosine for _, cosine in row] for row in expected]
    assert torch.equal(x, before) or x.isnan().any()
    blocked = knn(x, k, mask=mask, include_self=include_self, block_size=block_size)
    assert torch.equal(blocked[0], index)
    assert torch.equal(blocked[1], similarity)


@PROPERTY
@given(rows(), st.integers(0, 2**31))
def test_neighbors_do_not_depend_on_scale_or_order(case: Case, seed: int) -> None:
    x, mask, k = case
    _, similarity = knn(x, k, mask=mask)
    perm = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    assert torch.equal(knn(x[perm], k, mask=mask[perm])[1], similarity[perm])
    assert torch.equal(knn(x * 4, k, mask=mask)[1], similarity)
