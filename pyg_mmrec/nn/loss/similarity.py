"""Similarities that are held to targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

#: Added under the root, whose gradient at zero is infinite.
EPSILON = 1e-12


def similarity_loss(x: Tensor, target: Tensor, normalized: bool = True) -> Tensor:
    r"""Root mean square error of the similarities within a batch against given ones.

    The similarity-supervised signal of "DRepMRec: A Dual Representation Learning Framework for Multimodal
    Recommendation" (one half of Eq. 12):

    .. math::
        \mathcal{L} = \Big( \frac{1}{n^2} \sum_{b, c} \big( \cos(\mathbf{x}_b, \mathbf{x}_c) - \mathrm{sg}(t_{bc})
        \big)^2 \Big)^{1/2}

    The norm of the paper is divided by n, so that a weight does not depend on the size of the batch.

    Args:
        x: ``[n, channels]``.
        target: ``[n, n]`` similarities, a symmetric matrix; carry no gradient.
        normalized: Whether similarities are cosines or, as printed, inner products, which push the norm of every row
            to one (default: True).

    Raises:
        ValueError: If the shapes do not fit, or there are no rows.

    Example:
        >>> similarity_loss(torch.eye(2), torch.ones(2, 2))
        tensor(0.7071)
    """
    if target.shape != (x.size(0), x.size(0)) or not x.size(0):
        raise ValueError(f"'target' must hold one number for each pair of {x.size(0)} rows (got {list(target.shape)})")
    if x.dtype in (torch.bfloat16, torch.float16):
        x = x.float()
    with torch.autocast(x.device.type, enabled=False):
        if normalized:
            x = F.normalize(x, dim=-1)
        loss: Tensor = _GramError.apply(x, target.detach().to(x.dtype))
        return loss


class _GramError(torch.autograd.Function):
    """Root mean square of ``x @ x.t() - target`` for a symmetric target, whose gradient is found on the way."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, target: Tensor) -> Tensor:
        error = torch.addmm(target, x, x.t(), beta=-1)
        loss: Tensor = (torch.linalg.vector_norm(error).square() / error.numel() + EPSILON).sqrt()
        ctx.save_for_backward((error @ x).mul_(2 / (error.numel() * loss)))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (grad_x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad * grad_x, None
