"""Sparse matrices whose places are fixed and whose weights are learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pyg_mmrec.utils.sparse import compress


@dataclass(frozen=True, eq=False)
class NeighborPattern:
    """Who is whose neighbour, as the places of a square sparse matrix, kept beside those of its transpose.

    Beside :class:`SparseOperator`, whose weights are constant, the weights are an argument here, and all products pass
    gradients on to them. Nothing larger than the weights is ever built: no row of a neighbour is gathered.

    Attributes:
        rowptr: ``[num_nodes + 1]`` CSR row pointers; a row holds a node's neighbours.
        col: ``[num_edges]`` CSR columns, the neighbours.
        rowptr_t: ``[num_nodes + 1]`` row pointers of the transpose.
        col_t: ``[num_edges]`` columns of the transpose.
        edge_t: ``[num_edges]`` which entry of ``col`` each entry of the transpose is.

    Example:
        >>> pattern = NeighborPattern.from_neighbors(torch.tensor([[1, 2], [0, -1], [1, 0]]))
        >>> x = torch.tensor([[1.0], [2.0], [5.0]])
        >>> pattern.inner_products(x, x)  # 0 with 1 and 2, 1 with 0, 2 with 0 and 1
        tensor([ 2.,  5.,  2.,  5., 10.])
        >>> pattern.weighted_sums(torch.ones(5), x).flatten()
        tensor([7., 1., 3.])
    """

    rowptr: Tensor
    col: Tensor
    rowptr_t: Tensor
    col_t: Tensor
    edge_t: Tensor

    @classmethod
    def from_neighbors(cls, index: Tensor) -> NeighborPattern:
        """From ``[num_nodes, k]`` neighbours, -1 where a node has fewer, as :func:`knn` gives them; none twice."""
        row, place = (index >= 0).nonzero().unbind(1)
        col, shape = index[row, place], (index.size(0),) * 2
        edge = torch.arange(row.numel(), device=index.device)
        rowptr, sorted_col, order = compress(row, col, edge, shape)
        rowptr_t, col_t, edge_t = compress(col, row, order.argsort(), shape)
        return cls(rowptr, sorted_col, rowptr_t, col_t, edge_t)

    @property
    def num_edges(self) -> int:
        """Number of pairs of a node and a neighbour."""
        return self.col.numel()

    def inner_products(self, x: Tensor, y: Tensor) -> Tensor:
        """``[num_edges]`` inner products of each node's row of ``x`` with its neighbours' rows of ``y``.

        Args:
            x: ``[num_nodes, channels]``.
            y: ``[num_nodes, channels]``.
        """
        x, y = _at_least_single(x, y)
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = _InnerProducts.apply(x, y, self)
        return out

    def weighted_sums(self, weight: Tensor, x: Tensor) -> Tensor:
        """``[num_nodes, channels]`` weighted sums over each node's neighbours.

        Args:
            weight: ``[num_edges]``, in the order of ``col``.
            x: ``[num_nodes, channels]``.
        """
        weight, x = _at_least_single(weight, x)
        with torch.autocast(x.device.type, enabled=False):
            out: Tensor = _WeightedSums.apply(weight, x, self)
        return out

    def _csr(self, weight: Tensor) -> Tensor:
        size = (self.rowptr.numel() - 1,) * 2
        return torch.sparse_csr_tensor(self.rowptr, self.col, weight, size, check_invariants=False)

    def _csr_t(self, weight: Tensor) -> Tensor:
        size = (self.rowptr.numel() - 1,) * 2
        return torch.sparse_csr_tensor(
            self.rowptr_t, self.col_t, weight.index_select(0, self.edge_t), size, check_invariants=False
        )

    def _products(self, x: Tensor, y: Tensor) -> Tensor:
        places = self._csr(x.new_zeros(self.num_edges))
        out: Tensor = torch.sparse.sampled_addmm(places, x.contiguous(), y.contiguous().t(), beta=0.0).values()
        return out


def _at_least_single(*tensors: Tensor) -> list[Tensor]:
    """In one type; CSR products have no bf16 or fp16 form on CPU."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor.to(dtype) for tensor in tensors]


class _InnerProducts(torch.autograd.Function):
    """Sampled products, whose gradients are sparse products."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, y: Tensor, pattern: NeighborPattern) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.pattern = pattern  # type: ignore[attr-defined]
        return pattern._products(x, y)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, y = ctx.saved_tensors  # type: ignore[attr-defined]
        pattern = ctx.pattern  # type: ignore[attr-defined]
        return pattern._csr(grad) @ y, pattern._csr_t(grad) @ x, None


class _WeightedSums(torch.autograd.Function):
    """A sparse product, whose gradient for the weights is a sampled one."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, x: Tensor, pattern: NeighborPattern) -> Tensor:
        ctx.save_for_backward(weight, x)
        ctx.pattern = pattern  # type: ignore[attr-defined]
        return pattern._csr(weight) @ x

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, x = ctx.saved_tensors  # type: ignore[attr-defined]
        pattern = ctx.pattern  # type: ignore[attr-defined]
        grad = grad.contiguous()
        return pattern._products(grad, x), pattern._csr_t(weight) @ grad, None
