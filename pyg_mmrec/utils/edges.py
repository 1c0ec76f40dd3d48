"""Learned weights on the edges of a graph: scores of edges, their softmax, and sums that they weigh."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pyg_mmrec.utils.precision import at_least_single
from pyg_mmrec.utils.sparse import SparseOperator, weighted_sums


def edge_scores(graph: SparseOperator, dst: Tensor, src: Tensor) -> Tensor:
    r"""Inner products of the two ends of each edge, :math:`s_{ij} = \langle \mathbf{x}_i, \mathbf{y}_j \rangle`.

    Nothing of size ``[num_edges, channels]`` is built, neither here nor in the backward pass.

    Args:
        graph: The edges; its weights are not read.
        dst: ``[num_dst, channels]`` target features.
        src: ``[num_src, channels]`` source features.

    Returns:
        ``[num_edges]`` in the order of ``graph.col``: by target, then by source.

    Example:
        >>> edge_index = torch.tensor([[0, 1, 1], [0, 0, 2]])
        >>> graph = SparseOperator.from_edge_index(edge_index, num_src=2, num_dst=3)
        >>> edge_scores(graph, torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [10.0]]))
        tensor([ 1., 10., 30.])
    """
    with torch.autocast(dst.device.type, enabled=False):
        out: Tensor = _EdgeScores.apply(*at_least_single(dst, src), graph)
    return out


def edge_softmax(graph: SparseOperator, score: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax of the scores over the edges that reach the same target.

    Args:
        graph: The edges.
        score: ``[num_edges]`` in the order of ``graph.col``.
        mask: ``[num_edges]`` bool, false for edges that get weight zero (default: none does).

    Returns:
        ``[num_edges]``, one in sum for each target with an edge that counts.

    Example:
        >>> edge_index = torch.tensor([[0, 1, 1], [0, 0, 2]])
        >>> graph = SparseOperator.from_edge_index(edge_index, num_src=2, num_dst=3)
        >>> edge_softmax(graph, torch.tensor([0.0, 0.0, 5.0]))
        tensor([0.5000, 0.5000, 1.0000])
    """
    target = graph.targets
    if mask is not None:
        score = score.masked_fill(~mask, -torch.inf)
    peak = score.new_full((graph.shape[0],), -torch.inf).scatter_reduce(0, target, score.detach(), "amax")
    weight = (score - peak.masked_fill(peak == -torch.inf, 0)[target]).exp()
    total = score.new_zeros(graph.shape[0]).index_add(0, target, weight)
    return weight / total.clamp_min(torch.finfo(weight.dtype).tiny).index_select(0, target)


def edge_sum(graph: SparseOperator, weight: Tensor, src: Tensor) -> Tensor:
    r"""Sums over the sources of each target by learned weights, :math:`\sum_j w_{ij} \mathbf{y}_j`.

    Args:
        graph: The edges; its weights are not read.
        weight: ``[num_edges]`` in the order of ``graph.col``.
        src: ``[num_src, channels]`` source features.

    Returns:
        ``[num_dst, channels]``.

    Example:
        >>> edge_index = torch.tensor([[0, 1, 1], [0, 0, 2]])
        >>> graph = SparseOperator.from_edge_index(edge_index, num_src=2, num_dst=3)
        >>> edge_sum(graph, torch.tensor([0.5, 0.5, 2.0]), torch.tensor([[1.0], [10.0]])).flatten()
        tensor([ 5.5000,  0.0000, 20.0000])
    """
    with torch.autocast(src.device.type, enabled=False):
        out: Tensor = _EdgeSum.apply(*at_least_single(weight, src), graph)
    return out


def _scores(graph: SparseOperator, dst: Tensor, src: Tensor) -> Tensor:
    pattern = torch.sparse_csr_tensor(
        graph.rowptr, graph.col, dst.new_zeros(graph.num_edges), graph.shape, check_invariants=False
    )
    out: Tensor = torch.sparse.sampled_addmm(pattern, dst.contiguous(), src.t(), beta=0.0).values()
    return out


class _EdgeScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, dst: Tensor, src: Tensor, graph: SparseOperator) -> Tensor:
        ctx.save_for_backward(dst, src)
        ctx.graph = graph  # type: ignore[attr-defined]
        return _scores(graph, dst, src)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (dst, src), graph = ctx.saved_tensors, ctx.graph  # type: ignore[attr-defined]
        grad, (to_dst, to_src, _) = grads[0].contiguous(), ctx.needs_input_grad  # type: ignore[attr-defined]
        return (
            weighted_sums(graph, grad, src) if to_dst else None,
            weighted_sums(graph.t(), grad[graph.transposition], dst) if to_src else None,
            None,
        )


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, src: Tensor, graph: SparseOperator) -> Tensor:
        ctx.save_for_backward(weight, src)
        ctx.graph = graph  # type: ignore[attr-defined]
        return weighted_sums(graph, weight, src)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (weight, src), graph = ctx.saved_tensors, ctx.graph  # type: ignore[attr-defined]
        grad, (to_weight, to_src, _) = grads[0].contiguous(), ctx.needs_input_grad  # type: ignore[attr-defined]
        return (
            _scores(graph, grad, src) if to_weight else None,
            weighted_sums(graph.t(), weight[graph.transposition], grad) if to_src else None,
            None,
        )
