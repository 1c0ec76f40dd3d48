from __future__ import annotations

import sys
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pyg_mmrec.utils.knn import knn, usable_rows

Array = npt.NDArray[np.float64]


def wide_from(channels: int) -> Any:
    """Within it, features of so many channels count as wide."""
    return mock.patch.object(sys.modules["pyg_mmrec.utils.knn"], "_WIDE", channels)


def brute_cosines(x: Tensor, usable: list[bool]) -> Array:
    """Cosine of every pair of usable rows, -inf for the others."""
    rows = x.double().numpy()
    cosines = np.full((len(rows), len(rows)), -np.inf)
    for i in range(len(rows)):
        for j in range(len(rows)):
            if usable[i] and usable[j]:
                cosines[i, j] = rows[i] @ rows[j] / (np.linalg.norm(rows[i]) * np.linalg.norm(rows[j]))
    return cosines


def check_against_brute(x: Tensor, k: int, usable: list[bool], include_self: bool, **kwargs: Any) -> None:
    cosines = brute_cosines(x, usable)
    index, similarity = knn(x, k, include_self=include_self, **kwargs)
    assert index.dtype == torch.long
    assert similarity.dtype == torch.float32
    for i in range(x.size(0)):
        others = [j for j in range(x.size(0)) if usable[i] and usable[j] and j != i]
        best = sorted((cosines[i, j] for j in others), reverse=True)
        expected = [1.0, *best[: k - 1]] if include_self and usable[i] else best[:k]
        found = [j for j in index[i].tolist() if j >= 0]
        assert len(set(found)) == len(found) == len(expected)
        assert set(found) <= {*others, *([i] if include_self and usable[i] else [])}
        if include_self and usable[i]:
            assert found[0] == i
        np.testing.assert_allclose(similarity[i, : len(found)], expected, atol=1e-6)
        np.testing.assert_allclose(cosines[i, found], expected, atol=1e-6)
        assert index[i, len(found) :].tolist() == [-1] * (k - len(found))
        assert similarity[i, len(found) :].tolist() == [-np.inf] * (k - len(found))


ROWS = ["good", "good", "good", "zero", "nan", "inf", "masked"]


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_equals_brute_force(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(ROWS), min_size=1, max_size=40))
    k = data.draw(st.integers(1, len(kinds)))
    x = torch.randn(len(kinds), 6, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    for row, kind in enumerate(kinds):
        if kind == "zero":
            x[row] = 0.0
        elif kind in ("nan", "inf"):
            x[row, 2] = float(kind)
    mask = torch.tensor([kind != "masked" for kind in kinds])
    usable = [kind == "good" for kind in kinds]
    block_size = data.draw(st.sampled_from([None, 1, 3, 100]))
    with wide_from(data.draw(st.sampled_from([1, 7]))):
        check_against_brute(x, k, usable, data.draw(st.booleans()), mask=mask, block_size=block_size)


@pytest.mark.parametrize("wide", [1, 9])
def test_many_rows_and_few_neighbors(wide: int) -> None:
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    for k in (1, 2, 10):
        with wide_from(wide):
            check_against_brute(x, k, [True] * 300, include_self=False, block_size=128)


def test_wide_features_find_the_same() -> None:
    x = torch.randn(2500, 1024, generator=torch.Generator().manual_seed(0))
    index, similarity = knn(x, 10)
    with wide_from(1025):
        expected = knn(x, 10)
    assert torch.equal(index, expected[0])
    torch.testing.assert_close(similarity, expected[1])


@pytest.mark.parametrize("wide", [1, 5])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("block_size", [None, 1, 7, 64, 500])
def test_equal_similarities_fall_to_the_lower_index(include_self: bool, block_size: int | None, wide: int) -> None:
    generator = torch.Generator().manual_seed(1)
    axis, scale = torch.randint(4, (97,), generator=generator), 2.0 ** torch.randint(-3, 4, (97,), generator=generator)
    x = torch.nn.functional.one_hot(axis, 4) * scale[:, None]  # all cosines are exactly 0 or 1
    with wide_from(wide):
        index, _ = knn(x, 40, include_self=include_self, block_size=block_size)
    for row in range(97):
        own = [row] if include_self else []
        rest = [j for j in range(97) if j != row]
        expected = own + [j for j in rest if axis[j] == axis[row]] + [j for j in rest if axis[j] != axis[row]]
        assert index[row].tolist() == expected[:40]


def test_constant_rows_keep_themselves_first() -> None:
    index, similarity = knn(torch.ones(50, 3), 4)
    assert index[:, 0].tolist() == list(range(50))
    assert index[49].tolist() == [49, 0, 1, 2]
    torch.testing.assert_close(similarity, torch.ones(50, 4))


def test_a_zero_row_links_to_nothing() -> None:
    x = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    x[123] = 0
    index, similarity = knn(x, 10)
    assert (index == 123).sum() == 0
    assert index[123].tolist() == [-1] * 10
    assert similarity[123].tolist() == [-np.inf] * 10
    rest = torch.arange(500) != 123
    assert (index[rest] >= 0).all()
    assert similarity[rest].isfinite().all()


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("num_usable", [0, 1, 2])
def test_fewer_usable_rows_than_neighbors(num_usable: int, include_self: bool) -> None:
    x = torch.zeros(4, 2)
    x[:num_usable] = torch.tensor([1.0, 2.0])
    check_against_brute(x, 3, [row < num_usable for row in range(4)], include_self)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_compared_in_single(dtype: torch.dtype) -> None:
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    check_against_brute(x, 4, [True] * 30, include_self=True)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30, 3e38])
def test_extreme_scales_do_not_overflow(scale: float) -> None:
    x = torch.rand(20, 5, generator=torch.Generator().manual_seed(0)) - 0.5
    index, similarity = knn(x * scale, 5)
    expected = knn(x, 5)
    assert torch.equal(index, expected[0])
    torch.testing.assert_close(similarity, expected[1], rtol=0, atol=1e-4)


def test_doubles_beyond_single_precision() -> None:
    x = torch.rand(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.5
    assert torch.equal(knn(x * 1e200, 5)[0], knn(x, 5)[0])


def test_inputs_are_unchanged_and_nothing_is_differentiated() -> None:
    x = torch.randn(20, 4, requires_grad=True)
    before, mask = x.detach().clone(), torch.ones(20, dtype=torch.bool)
    _, similarity = knn(x, 3, mask=mask)
    assert torch.equal(x, before)
    assert mask.all()
    assert not similarity.requires_grad


def test_usable_rows() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 0.0], [torch.nan, 1.0], [1.0, -torch.inf], [0.0, -2.0]])
    assert usable_rows(x).tolist() == [True, False, False, False, True]
    assert usable_rows(x, torch.tensor([False, True, True, True, True])).tolist() == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, r"'k' must lie in 1\.\.5, the number of rows \(got 0\)"),
        ({"k": 6}, r"'k' must lie in 1\.\.5, the number of rows \(got 6\)"),
        ({"x": torch.ones(5)}, r"'x' must be a \[num_nodes, channels\] float tensor \(got \(5,\)"),
        ({"x": torch.ones(5, 0)}, "'x' must be"),
        ({"x": torch.ones(5, 2, dtype=torch.long)}, r"'x' must be .*torch\.int64"),
        ({"x": torch.ones(0, 2)}, "'k' must lie"),
        ({"mask": torch.ones(4, dtype=torch.bool)}, r"'mask' must be bool of shape \(5,\)"),
        ({"mask": torch.ones(5)}, r"'mask' must be bool .*torch\.float32"),
        ({"block_size": 0}, r"'block_size' must be positive \(got 0\)"),
        ({"backend": "annoy"}, r"'backend' must be 'torch' or 'faiss' \(got 'annoy'\)"),
    ],
)
def test_errors_are_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        knn(**{"x": torch.ones(5, 2), "k": 2, **arguments})
    assert "\n" not in str(error.value)


def test_faiss_that_is_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pyg-mmrec\[ann\]"):
        knn(torch.zeros(5, 2), 2, backend="faiss")


@pytest.mark.parametrize("include_self", [True, False])
def test_faiss_finds_the_same(include_self: bool) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed (extra 'ann')")
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    x[7], x[20:40] = 0, x[20]
    usable = [row != 7 for row in range(60)]
    for k in (1, 5, 60):
        check_against_brute(x, k, usable, include_self, backend="faiss")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu() -> None:
    x = torch.randn(3000, 64, generator=torch.Generator().manual_seed(0))
    x[5] = 0
    index, similarity = knn(x.cuda(), 10, block_size=777)
    assert index.is_cuda
    expected = knn(x, 10)
    assert (index.cpu() == expected[0]).float().mean() > 0.999
    torch.testing.assert_close(similarity.cpu(), expected[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("reduced", [{"precision": "bfloat16"}, {"projection": 64}, {"projection": 10_000}])
@pytest.mark.parametrize("include_self", [True, False])
def test_a_reduced_search_ends_with_exact_similarities(reduced: dict[str, Any], include_self: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    centre = torch.randn(40, 256, generator=generator)
    x = centre.repeat(10, 1) + 0.5 * torch.randn(400, 256, generator=generator)
    mask = torch.arange(400) % 7 > 0
    expected = knn(x, 5, mask=mask, include_self=include_self)
    index, similarity = knn(x, 5, mask=mask, include_self=include_self, block_size=64, **reduced)
    recall = (index.unsqueeze(2) == expected[0].unsqueeze(1)).any(2)[mask].float().mean()
    assert recall > 0.97
    same = index == expected[0]
    torch.testing.assert_close(similarity[same], expected[1][same])
    unit = torch.nn.functional.normalize(x)
    cosine = (unit.unsqueeze(1) * unit[index.clamp_min(0)]).sum(2)
    torch.testing.assert_close(similarity[mask], cosine[mask])
    assert (index[~mask] == -1).all()
    assert (similarity[mask].diff() <= 1e-6).all()


def test_few_rows_are_all_candidates() -> None:
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    for reduced in ({"precision": "bfloat16"}, {"projection": 1}):
        index, similarity = knn(x, 4, **reduced)
        expected = knn(x, 4)
        assert torch.equal(index, expected[0])
        torch.testing.assert_close(similarity, expected[1])


def test_faiss_searches_exactly() -> None:
    with pytest.raises((ValueError, ImportError), match=r"are for backend='torch'|needs faiss"):
        knn(torch.randn(4, 2), 2, backend="faiss", projection=1)
