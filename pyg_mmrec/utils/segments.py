"""Ragged segments, such as the histories of some users: entries in a row, and where each segment starts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable


def segment_rows(ptr: Tensor) -> Tensor:
    """Which segment each entry belongs to.

    Args:
        ptr: ``[num_segments + 1]`` where the segments start.

    Example:
        >>> segment_rows(torch.tensor([0, 2, 2, 3]))
        tensor([0, 0, 2])
    """
    return torch.arange(ptr.numel() - 1, device=ptr.device).repeat_interleave(ptr.diff())


def kept_entries(entry: Tensor, ptr: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """The entries that are kept, and where each segment starts among them.

    Args:
        entry: ``[num_entries]``.
        ptr: ``[num_segments + 1]`` where the segments start.
        keep: ``[num_entries]`` bool.

    Example:
        >>> kept_entries(torch.tensor([7, 8, 9]), torch.tensor([0, 2, 3]), torch.tensor([False, True, True]))
        (tensor([8, 9]), tensor([0, 1, 2]))
    """
    return entry[keep], F.pad(keep.cumsum(0), (1, 0))[ptr]


def segment_mean(x: Tensor, ptr: Tensor) -> Tensor:
    """Means over ragged segments; empty ones give zeros.

    Args:
        x: ``[num_entries, channels]``.
        ptr: ``[num_segments + 1]`` where the segments start.

    Returns:
        ``[num_segments, channels]``.

    Example:
        >>> segment_mean(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 2, 2, 3]))
        tensor([[2.],
                [0.],
                [5.]])
    """
    share = 1 / ptr.diff().to(x.dtype)  # infinite where nothing reads it
    weight = share.repeat_interleave(ptr.diff(), output_size=x.size(0))
    return segment_sum(weight.unsqueeze(1), x, ptr).squeeze(1)


def segment_sum(weight: Tensor, x: Tensor, ptr: Tensor) -> Tensor:
    r"""Weighted sums over ragged segments, K for each: :math:`\mathbf{o}_{bk} = \sum_{e \in b} w_{ek} \mathbf{x}_e`.

    Memory is linear in ``num_entries * num_sums``: nothing of size ``[num_entries, num_sums, channels]`` is built.

    Args:
        weight: ``[num_entries, num_sums]``.
        x: ``[num_entries, channels]``.
        ptr: ``[num_segments + 1]`` where the segments start; empty ones give zeros.

    Returns:
        ``[num_segments, num_sums, channels]``.

    Example:
        >>> weight, x = torch.tensor([[1.0, 0.0], [1.0, 2.0]]), torch.tensor([[1.0], [10.0]])
        >>> segment_sum(weight, x, torch.tensor([0, 2, 2])).squeeze(-1)
        tensor([[11., 20.],
                [ 0.,  0.]])
    """
    out: Tensor = _SegmentSum.apply(weight, x, ptr)
    return out


class _SegmentSum(torch.autograd.Function):
    """One sparse product for each of the sums, and one with all of their transposes."""

    @staticmethod
    def forward(ctx: FunctionCtx, weight: Tensor, x: Tensor, ptr: Tensor) -> Tensor:
        ctx.save_for_backward(weight, x, ptr)
        entry = torch.arange(x.size(0), device=x.device)
        columns = [
            torch.sparse_csr_tensor(ptr, entry, part, (ptr.numel() - 1, x.size(0)), check_invariants=False) @ x
            for part in weight.t().contiguous()
        ]
        return torch.stack(columns, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, x, ptr = ctx.saved_tensors  # type: ignore[attr-defined]
        grad, (num_entries, num_sums) = grads[0].contiguous(), weight.shape  # [num_segments, num_sums, channels]
        row = torch.arange(ptr.numel() - 1, device=ptr.device).repeat_interleave(ptr.diff())
        column = row.unsqueeze(1) * num_sums + torch.arange(num_sums, device=ptr.device)
        every = torch.arange(num_entries + 1, device=ptr.device) * num_sums
        size = (num_entries, grad.size(0) * num_sums)
        transposed = torch.sparse_csr_tensor(every, column.flatten(), weight.flatten(), size, check_invariants=False)
        of_weight = torch.stack([(grad[:, k][row] * x).sum(-1) for k in range(num_sums)], dim=1)
        return of_weight, transposed @ grad.flatten(0, 1), None
