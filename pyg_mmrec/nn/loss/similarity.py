"""Similarities that are held to targets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pyg_mmrec.utils import unit_rows
from pyg_mmrec.utils.gram import gram
from pyg_mmrec.utils.precision import at_least_single

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
    return _root_mean_square(_error, x, target, normalized)


def feature_similarity_loss(x: Tensor, feature: Tensor, normalized: bool = True) -> Tensor:
    r""":func:`similarity_loss` against the inner products of given features, of which the matrix is never made.

    With :math:`\mathbf{T} = \mathbf{F} \mathbf{F}^\top`, the squared norm of Eq. 12 is

    .. math::
        \lVert \mathbf{X} \mathbf{X}^\top - \mathbf{F} \mathbf{F}^\top \rVert^2 =
        \lVert \mathbf{X}^\top \mathbf{X} \rVert^2 - 2 \lVert \mathbf{F}^\top \mathbf{X} \rVert^2
        + \lVert \mathbf{F}^\top \mathbf{F} \rVert^2

    which takes time linear in the rows: it is the faster form where there are more rows than channels. Where ``x``
    comes near its targets, a difference of large numbers is left: below about 3e-4 of the root mean square of the
    targets, single precision says no more.

    Args:
        x: ``[n, channels]``.
        feature: ``[n, feature_channels]``; carries no gradient.
        normalized: As for :func:`similarity_loss`.

    Raises:
        ValueError: If the shapes do not fit, or there are no rows.

    Example:
        >>> feature_similarity_loss(torch.eye(2), torch.ones(2, 1))
        tensor(0.7071)
    """
    if feature.dim() != 2 or feature.size(0) != x.size(0) or not x.size(0):
        raise ValueError(f"'feature' must hold one vector for each of {x.size(0)} rows (got {list(feature.shape)})")
    return _root_mean_square(_feature_error, x, feature, normalized)


def _root_mean_square(
    error: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], x: Tensor, target: Tensor, normalized: bool
) -> Tensor:
    (x,) = at_least_single(x)
    with torch.autocast(x.device.type, enabled=False):
        if normalized:
            x = unit_rows(x)
        with torch.no_grad():
            square, grad = error(x, target.to(x.dtype))
            loss = (square / x.size(0) ** 2 + EPSILON).sqrt()
        known: Tensor = _WithGradient.apply(x, loss, grad.mul_(2 / (x.size(0) ** 2 * loss)))
        return known


def _error(x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Squared norm of ``x @ x.t() - target`` and, but for a factor of 4, its gradient."""
    error = torch.addmm(target, x, x.t(), beta=-1)
    square = torch.linalg.vector_norm(error, dim=1).square().sum()  # one norm of millions of numbers is less exact
    return square, error @ x


def _feature_error(x: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
    """The same of ``x @ x.t() - feature @ feature.t()``."""
    own, cross = x.t() @ x, feature.t() @ x
    square = own.square().sum() - 2 * cross.square().sum() + gram(feature.t()).square().sum()
    return square.clamp_min(0), (x @ own).addmm_(feature, cross, alpha=-1)


class _WithGradient(torch.autograd.Function):
    """A number whose gradient is known."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, loss: Tensor, grad: Tensor) -> Tensor:
        ctx.save_for_backward(grad)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None]:
        (grad_x,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad * grad_x, None, None
