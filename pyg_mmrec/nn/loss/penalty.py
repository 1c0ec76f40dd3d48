"""Penalties on the critics of adversarial tasks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    r"""Keeps a critic's slope near one between real and generated rows.

    From `"Improved Training of Wasserstein GANs" <https://arxiv.org/abs/1704.00028>`_ (Eq. 3), with
    :math:`\epsilon` uniform for each pair of rows:

    .. math::
        \frac{1}{N} \sum_n \big( \lVert \nabla_{\mathbf{x}} D(\hat{\mathbf{x}}_n) \rVert_2 - 1 \big)^2, \quad
        \hat{\mathbf{x}} = \epsilon \mathbf{x} + (1 - \epsilon) \tilde{\mathbf{x}}

    Gradients reach the critic's weights; to both kinds of rows none passes.

    Args:
        critic: D, from ``[..., channels]`` rows to their values.
        real: ``[..., channels]`` rows :math:`\mathbf{x}`.
        fake: Rows :math:`\tilde{\mathbf{x}}`, to whose shape ``real`` is broadcast.

    Example:
        >>> gradient_penalty(lambda x: 3 * x[..., 0], torch.zeros(5, 2), torch.ones(5, 2))
        tensor(4.)
    """
    real, fake = real.detach(), fake.detach()
    share = torch.rand_like(fake[..., :1])
    between = (share * real + (1 - share) * fake).requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (torch.linalg.vector_norm(slope, dim=-1) - 1).square().mean()
    return penalty
