from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pyg_mmrec.utils import SparseOperator, edge_scores, edge_softmax, edge_sum
from tests.utils.test_sparse import GRAPHS, draw


def build(name: str) -> tuple[SparseOperator, list[tuple[int, int]]]:
    """An operator and its edges, target first, in its own order."""
    edge_index, weight, num_src, num_dst = draw(name)
    graph = SparseOperator.from_edge_index(edge_index, weight, num_src=num_src, num_dst=num_dst)
    return graph, sorted((i, j) for j, i in edge_index.t().tolist())


def features(graph: SparseOperator, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Targets' and sources' features, and weights."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((graph.shape[0], 3), (graph.shape[1], 3), (graph.num_edges,))
    dst, src, weight = (torch.randn(size, generator=generator, dtype=dtype) for size in sizes)
    return dst, src, weight


@pytest.mark.parametrize("name", GRAPHS)
def test_edges_in_the_order_of_the_transpose(name: str) -> None:
    graph, edges = build(name)
    assert graph.targets.tolist() == [i for i, _ in edges]
    assert graph.col.tolist() == [j for _, j in edges]
    assert [edges[place][::-1] for place in graph.transposition.tolist()] == sorted((j, i) for i, j in edges)
    assert graph.t() is graph.t()
    assert torch.equal(graph.t().targets, graph.col[graph.transposition].long())


@pytest.mark.parametrize("name", GRAPHS)
def test_they_equal_a_loop(name: str) -> None:
    graph, edges = build(name)
    dst, src, weight = features(graph)
    scores = edge_scores(graph, dst, src)
    expected = torch.tensor([float(dst[i] @ src[j]) for i, j in edges], dtype=torch.float64)
    torch.testing.assert_close(scores, expected)
    total = torch.zeros_like(dst)
    for (i, j), w in zip(edges, weight, strict=True):
        total[i] += w * src[j]
    torch.testing.assert_close(edge_sum(graph, weight, src), total)
    for mask in (None, torch.arange(len(edges)) % 3 > 0):
        counts = [True] * len(edges) if mask is None else mask.tolist()
        shares = []
        for (i, _), score, has in zip(edges, scores.tolist(), counts, strict=True):
            row = [s for (k, _), s, h in zip(edges, scores.tolist(), counts, strict=True) if k == i and h]
            over = torch.tensor(row, dtype=torch.float64).sub(score).exp().sum()
            shares.append(1 / float(over) if has else 0.0)
        torch.testing.assert_close(edge_softmax(graph, scores, mask), torch.tensor(shares, dtype=torch.float64))


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients(name: str) -> None:
    graph, _ = build(name)
    dst, src, weight = (part.requires_grad_() for part in features(graph))
    if not graph.num_edges:
        edge_sum(graph, weight, src).sum().backward()
        assert src.grad.abs().sum() == 0
        return
    assert torch.autograd.gradcheck(lambda x, y: edge_scores(graph, x, y), (dst, src))
    assert torch.autograd.gradcheck(lambda w, y: edge_sum(graph, w, y), (weight, src))
    assert torch.autograd.gradcheck(lambda w: edge_softmax(graph, w), (weight,))
    mask = torch.arange(graph.num_edges) % 2 > 0
    assert torch.autograd.gradcheck(lambda w: edge_softmax(graph, w, mask), (weight,))


def test_large_scores_do_not_overflow() -> None:
    graph, _ = build("rectangular")
    share = edge_softmax(graph, torch.tensor([1e4, -1e4, 5e3, 1e4, 1e4]))
    assert share.tolist() == [1, 1, 1, 0.5, 0.5]


@pytest.mark.parametrize("call", [edge_scores, edge_sum], ids=lambda call: call.__name__)
def test_half_precision_is_computed_in_single(call: Callable[..., Tensor]) -> None:
    graph, _ = build("square")
    dst, src, weight = (part.bfloat16() for part in features(graph))
    first = dst if call is edge_scores else weight
    out = call(graph, first, src)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, call(graph, first.float(), src.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(call(graph, first.float(), src.float()), out)
