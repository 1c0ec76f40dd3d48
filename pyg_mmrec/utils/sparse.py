"""Constant sparse operators with a stored transpose: the hot loop of every graph model."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch_geometric.utils import cumsum

from pyg_mmrec.typing import Normalization
from pyg_mmrec.utils.precision import at_least_single

with warnings.catch_warnings():  # torch announces once a process that its CSR tensors are in beta
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(torch.zeros(1, dtype=torch.long), torch.empty(0, dtype=torch.long), torch.empty(0), (0, 0))


def normalized_weight(
    edge_index: Tensor,
    num_src: int,
    num_dst: int,
    edge_weight: Tensor | None = None,
    normalization: Normalization = "sym",
) -> Tensor:
    r"""Normalises the weights of a graph that may be rectangular.

    ``'sym'`` gives :math:`w_{ji} / \sqrt{d_j d_i}` (LightGCN, Eq. 3), ``'row'`` gives :math:`w_{ji} / d_i`, so that
    the weights that reach a node sum to one, ``'none'`` returns the weights as they are. Degrees are sums of weights:
    :math:`d_j` over the edges that leave source j, :math:`d_i` over those that reach target i.

    Args:
        edge_index: ``[2, num_edges]``, row 0 sources, row 1 targets.
        num_src: Number of source nodes.
        num_dst: Number of target nodes.
        edge_weight: ``[num_edges]``; all ones by default.
        normalization: ``'sym'``, ``'row'`` or ``'none'``.

    Returns:
        ``[num_edges]`` weights; edges of a node with degree zero get weight zero.

    Raises:
        ValueError: If ``normalization`` is none of the three.

    Example:
        >>> normalized_weight(torch.tensor([[0, 0, 1], [0, 1, 1]]), 2, 2, normalization='row')
        tensor([1.0000, 0.5000, 0.5000])
    """
    src, dst = edge_index[0], edge_index[1]
    weight = torch.ones(src.numel(), device=src.device) if edge_weight is None else edge_weight
    if normalization == "none":
        return weight
    in_degree = weight.new_zeros(num_dst).index_add_(0, dst, weight)[dst]
    if normalization == "row":
        return torch.where(in_degree > 0, weight / in_degree, 0.0)
    if normalization == "sym":
        out_degree = weight.new_zeros(num_src).index_add_(0, src, weight)[src]
        return torch.where(in_degree * out_degree > 0, weight * (in_degree * out_degree).rsqrt(), 0.0)
    raise ValueError(f"'normalization' must be 'sym', 'row' or 'none' (got {normalization!r})")


def _compress(row: Tensor, col: Tensor, weight: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """COO to CSR with sorted columns; 32-bit indices wherever they fit."""
    perm = (row * shape[1] + col).argsort()
    dtype = torch.int32 if max(*shape, row.numel()) < 2**31 else torch.int64
    rowptr = cumsum(torch.bincount(row, minlength=shape[0]))
    return rowptr.to(dtype), col[perm].to(dtype), weight[perm]


@dataclass(frozen=True, eq=False)
class SparseOperator:
    """A constant sparse matrix, kept beside its transpose.

    Weights carry no gradient, so the backward pass of ``A @ x`` is the product of the stored transpose with the
    incoming gradient: nothing is transposed, sorted or scattered while training. Products run in at least single
    precision (CSR products have no bf16 or fp16 form on CPU). The operator is not a tensor, a module or a buffer: it
    is held on a data view (:func:`with_operators`) and never enters a checkpoint.

    Attributes:
        rowptr: ``[num_dst + 1]`` CSR row pointers; rows are the edges' targets.
        col: ``[num_edges]`` CSR columns; columns are the edges' sources.
        value: ``[num_edges]`` weights.
        rowptr_t: ``[num_src + 1]`` row pointers of the transpose.
        col_t: ``[num_edges]`` columns of the transpose.
        value_t: ``[num_edges]`` weights of the transpose.
        shape: ``(num_dst, num_src)``.

    Example:
        >>> edge_index = torch.tensor([[0, 1, 1], [0, 0, 2]])  # three edges from two sources to three targets
        >>> operator = SparseOperator.from_edge_index(edge_index, num_src=2, num_dst=3)
        >>> operator @ torch.tensor([[1.0], [10.0]])
        tensor([[11.],
                [ 0.],
                [10.]])
    """

    rowptr: Tensor
    col: Tensor
    value: Tensor
    rowptr_t: Tensor
    col_t: Tensor
    value_t: Tensor
    shape: tuple[int, int]

    @classmethod
    def from_edge_index(
        cls, edge_index: Tensor, edge_weight: Tensor | None = None, *, num_src: int, num_dst: int
    ) -> SparseOperator:
        """Builds the operator that sends source features to targets along the edges.

        Args:
            edge_index: ``[2, num_edges]``, row 0 sources, row 1 targets. Repeated edges add up.
            edge_weight: ``[num_edges]``; all ones by default. Detached.
            num_src: Number of source nodes.
            num_dst: Number of target nodes.

        Raises:
            ValueError: If ``edge_index`` names a node outside the sizes, or the weights do not fit the edges.
        """
        src, dst = edge_index[0].long(), edge_index[1].long()
        for name, node, size in (("row 0", src, num_src), ("row 1", dst, num_dst)):
            if node.numel() and (int(node.min()) < 0 or int(node.max()) >= size):
                raise ValueError(
                    f"'edge_index' {name} must lie in 0..{size - 1} (got {int(node.min())}..{int(node.max())})"
                )
        weight = torch.ones(src.numel(), device=src.device) if edge_weight is None else edge_weight.detach()
        if weight.shape != src.shape:
            raise ValueError(f"'edge_weight' must have shape {tuple(src.shape)} (got {tuple(weight.shape)})")
        shape = (num_dst, num_src)
        return cls(*_compress(dst, src, weight, shape), *_compress(src, dst, weight, shape[::-1]), shape)

    def t(self) -> SparseOperator:
        """The transposed operator, always the same one; shares all tensors."""
        return self._transposed

    @cached_property
    def _transposed(self) -> SparseOperator:
        return SparseOperator(
            self.rowptr_t, self.col_t, self.value_t, self.rowptr, self.col, self.value, self.shape[::-1]
        )

    @cached_property
    def targets(self) -> Tensor:
        """``[num_edges]`` int64 target of each weight."""
        row = torch.arange(self.shape[0], device=self.device)
        return row.repeat_interleave(self.rowptr.diff(), output_size=self.num_edges)

    @cached_property
    def transposition(self) -> Tensor:
        """``[num_edges]`` int64 places of the transpose's edges among the operator's.

        Example:
            >>> operator = SparseOperator.from_edge_index(torch.tensor([[0, 1, 0], [0, 0, 1]]), num_src=2, num_dst=2)
            >>> operator.col, operator.transposition, operator.t().col
            (tensor([0, 1, 0], dtype=torch.int32), tensor([0, 2, 1]), tensor([0, 1, 0], dtype=torch.int32))
        """
        return self.col.argsort(stable=True)

    def mean(self) -> SparseOperator:
        """The operator that averages the sources of each target, always the same one; shares the structure.

        Targets without sources get zeros.

        Example:
            >>> edge_index = torch.tensor([[0, 1], [0, 0]])
            >>> operator = SparseOperator.from_edge_index(edge_index, num_src=2, num_dst=1)
            >>> operator.mean() @ torch.tensor([[1.0], [10.0]])
            tensor([[5.5000]])
        """
        return self._mean

    @cached_property
    def _mean(self) -> SparseOperator:
        share = 1 / self.rowptr.diff().to(self.value.dtype)  # infinite where nothing reads it
        value = share.repeat_interleave(self.rowptr.diff(), output_size=self.num_edges)
        return SparseOperator(
            self.rowptr, self.col, value, self.rowptr_t, self.col_t, share[self.col_t.long()], self.shape
        )

    def without(self, src: Tensor, dst: Tensor) -> SparseOperator:
        """The operator over which some edges carry nothing; all others keep their weights.

        Args:
            src: ``[n]`` sources of these edges.
            dst: ``[n]`` their targets; pairs that are no edges are passed over.

        Example:
            >>> edge_index = torch.tensor([[0, 1], [0, 0]])
            >>> operator = SparseOperator.from_edge_index(edge_index, num_src=2, num_dst=1)
            >>> operator.without(torch.tensor([1]), torch.tensor([0])).to_dense()
            tensor([[1., 0.]])
        """

        def kept(rowptr: Tensor, col: Tensor, value: Tensor, gone: Tensor, num_cols: int) -> Tensor:
            row = torch.arange(rowptr.numel() - 1, device=col.device).repeat_interleave(
                rowptr.diff(), output_size=col.numel()
            )
            gone = gone.sort().values
            key = row * num_cols + col
            place = torch.searchsorted(gone, key).clamp_max(gone.numel() - 1)
            return value.masked_fill(gone[place] == key, 0)

        if src.numel() == 0:
            return self
        num_dst, num_src = self.shape
        value = kept(self.rowptr, self.col, self.value, dst * num_src + src, num_src)
        value_t = kept(self.rowptr_t, self.col_t, self.value_t, src * num_dst + dst, num_dst)
        return SparseOperator(self.rowptr, self.col, value, self.rowptr_t, self.col_t, value_t, self.shape)

    def to(self, *args: Any, **kwargs: Any) -> SparseOperator:
        """Moves the operator; the arguments are those of :meth:`torch.Tensor.to`. A dtype changes the weights only."""
        moved = {}
        for field in fields(self):
            part = getattr(self, field.name)
            if isinstance(part, Tensor):
                target = part.to(*args, **kwargs)
                moved[field.name] = target if part.is_floating_point() else part.to(target.device)
        return SparseOperator(**moved, shape=self.shape)

    def to_dense(self) -> Tensor:
        """The ``[num_dst, num_src]`` matrix, for tests and small graphs."""
        matrix = torch.sparse_csr_tensor(self.rowptr, self.col, self.value, self.shape, check_invariants=False)
        return matrix.to_dense()

    @property
    def num_edges(self) -> int:
        """Number of stored weights."""
        return self.col.numel()

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.value.device

    def __matmul__(self, x: Tensor) -> Tensor:
        """Product with ``[num_src, channels]`` features, ``[num_dst, channels]``."""
        if x.size(0) != self.shape[1]:
            raise ValueError(f"the operator of shape {self.shape} needs {self.shape[1]} rows (got {x.size(0)})")
        if x.dtype in (torch.bfloat16, torch.float16):
            x = x.float()
        with torch.autocast(x.device.type, enabled=False):  # it would turn the operands into bf16
            product: Tensor = _StoredTransposeProduct.apply(x, self)
        return product

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape}, num_edges={self.num_edges})"


def weighted_sums(operator: SparseOperator, weight: Tensor, x: Tensor) -> Tensor:
    """The product of a matrix in the places of an operator with dense features, without gradients.

    On a CPU the sums are those of an embedding bag, which is faster than a CSR product (``benchmarks/speed.py``) and,
    like this, the same for any number of threads.

    Args:
        operator: Where the weights are; its own are not read.
        weight: ``[num_edges]``, in the order of ``operator.col``.
        x: ``[num_src, channels]`` or ``[num_src]``.

    Returns:
        ``[num_dst, channels]`` or ``[num_dst]``.
    """
    weight = weight.to(x.dtype)
    if x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 2:
        return F.embedding_bag(
            operator.col,
            x.contiguous(),
            operator.rowptr,
            mode="sum",
            per_sample_weights=weight,
            include_last_offset=True,
        )
    matrix = torch.sparse_csr_tensor(operator.rowptr, operator.col, weight, operator.shape, check_invariants=False)
    return matrix @ x


class _StoredTransposeProduct(torch.autograd.Function):
    """``A @ x`` whose backward pass is ``A.t() @ grad``."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, operator: SparseOperator) -> Tensor:
        ctx.operator = operator  # type: ignore[attr-defined]
        return weighted_sums(operator, operator.value, x)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.operator.t() @ grads[0].contiguous(), None  # type: ignore[attr-defined]


def masked_mean(operator: SparseOperator, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Means over the sources of each target, of those that a mask marks.

    Args:
        operator: What :meth:`SparseOperator.mean` gave.
        x: ``[num_src, channels]`` source features.
        mask: ``[num_src]`` bool (default: all are marked).

    Returns:
        ``[num_dst, channels]``, zeros for targets without such a source.

    Example:
        >>> edge_index = torch.tensor([[0, 1, 2], [0, 0, 1]])
        >>> operator = SparseOperator.from_edge_index(edge_index, num_src=3, num_dst=2).mean()
        >>> masked_mean(operator, torch.tensor([[1.0], [10.0], [5.0]]), torch.tensor([True, False, False]))
        tensor([[1.],
                [0.]])
    """
    if mask is None:
        return operator @ x
    has = mask.to(x.dtype).unsqueeze(1)
    return (operator @ (x * has)) / (operator @ has).clamp_min(torch.finfo(x.dtype).tiny)


def layer_mean(
    operator: SparseOperator, src: Tensor, dst: Tensor, num_layers: int, back: SparseOperator | None = None
) -> tuple[Tensor, Tensor]:
    r"""Mean of layers 0 to L of propagation back and forth over a bipartite graph, in one differentiable step.

    With :math:`\mathbf{A}` the block matrix of the operator and the one that leads back, evaluates
    :math:`\frac{1}{L+1} \sum_{l=0}^{L} \mathbf{A}^l \mathbf{x}` by Horner's rule, each layer one product to which the
    scaled input is added. The backward pass is the same function of the incoming gradients with the transposed matrix,
    which is the matrix itself where ``back`` is the operator's transpose.

    Args:
        operator: ``[num_dst, num_src]`` graph.
        src: ``[num_src, channels]`` source features.
        dst: ``[num_dst, channels]`` target features.
        num_layers: L.
        back: ``[num_src, num_dst]`` graph that leads back (default: the operator's transpose).

    Returns:
        ``[num_src, channels]`` and ``[num_dst, channels]``.
    """
    if src.size(0) != operator.shape[1] or dst.size(0) != operator.shape[0]:
        raise ValueError(f"the operator of shape {operator.shape} cannot join {src.size(0)} to {dst.size(0)} nodes")
    src, dst = at_least_single(src, dst)
    with torch.autocast(src.device.type, enabled=False):
        mean: tuple[Tensor, Tensor] = _LayerMean.apply(src, dst, operator, back or operator.t(), num_layers)
    return mean


class _LayerMean(torch.autograd.Function):
    """The mean of layers; linear, so that its derivative is the mean of the transposed."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, src: Tensor, dst: Tensor, operator: SparseOperator, back: SparseOperator, num_layers: int
    ) -> tuple[Tensor, Tensor]:
        ctx.graphs, ctx.num_layers = (operator, back), num_layers  # type: ignore[attr-defined]
        src, dst = src / (num_layers + 1), dst / (num_layers + 1)
        src_sum, dst_sum = src, dst
        for _ in range(num_layers):
            src_sum, dst_sum = (
                weighted_sums(back, back.value, dst_sum).add_(src),
                weighted_sums(operator, operator.value, src_sum).add_(dst),
            )
        return src_sum, dst_sum

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        src, dst = (grad.contiguous() for grad in grads)
        operator, back = ctx.graphs  # type: ignore[attr-defined]
        mean = layer_mean(back.t(), src, dst, ctx.num_layers, back=operator.t())  # type: ignore[attr-defined]
        return *mean, None, None, None
