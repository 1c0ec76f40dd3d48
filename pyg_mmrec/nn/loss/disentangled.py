"""Losses of disentangled representations: of a variational autoencoder and of aspects of texts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_mmrec.utils import unit_rows


def gaussian_kl(mean: Tensor, log_var: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of a diagonal Gaussian from the standard one, a latent dimension.

    From "Multimodal Disentangled Representation for Recommendation" (Eq. 10, whose brackets are misprinted), with N
    latent dimensions, mean f and logarithm of the variance :math:`\lambda`:

    .. math::
        \mathcal{L}_{KL} = -\frac{1}{2N} \sum_{k=1}^N \big( 1 + \lambda_k - f_k^2 - e^{\lambda_k} \big)

    Args:
        mean: ``[num_items, N]``.
        log_var: ``[num_items, N]``.

    Returns:
        ``[num_items]``.

    Example:
        >>> gaussian_kl(torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.zeros(2, 2))
        tensor([0., 1.])
    """
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).mean(-1)


def reconstruction_loss(x: Tensor, reconstructed: Tensor, num_latents: int) -> Tensor:
    r"""Squared error of reconstructions over twice the number of latent dimensions.

    From "Multimodal Disentangled Representation for Recommendation" (Eq. 9). With :func:`gaussian_kl` times one it is,
    but for a constant, the negative evidence bound of unit variance, a latent dimension:

    .. math::
        \mathcal{L}_{rec} = \frac{1}{2N} \lVert \mathbf{x} - \mathbf{x}' \rVert^2

    Args:
        x: ``[num_items, ...]`` images or features.
        reconstructed: The same shape.
        num_latents: N.

    Returns:
        ``[num_items]``.

    Example:
        >>> reconstruction_loss(torch.zeros(1, 3), torch.ones(1, 3), num_latents=2)
        tensor([0.7500])
    """
    return (x - reconstructed).square().flatten(1).sum(1) / (2 * num_latents)


def aspect_loss(reconstructed: Tensor, text: Tensor, negative: Tensor) -> Tensor:
    r"""Hinge that a reconstructed text is nearer to its own than to other texts.

    From "Multimodal Disentangled Representation for Recommendation" (first term of Eq. 15), read as in `"An
    Unsupervised Neural Attention Model for Aspect Extraction" <https://aclanthology.org/P17-1036>`_ (the former prints
    :math:`\mathbf{t}'^\top \mathbf{t}'`, which rewards length alone), with vectors of length one:

    .. math::
        \mathcal{L} = \sum_{j=1}^g \max(0, 1 - \mathbf{t}'^\top \mathbf{t} + \mathbf{t}'^\top \mathbf{n}_j)

    Args:
        reconstructed: ``[num_items, channels]``.
        text: ``[num_items, channels]``.
        negative: ``[num_items, g, channels]``, other texts.

    Returns:
        ``[num_items]``.

    Example:
        >>> text, other = torch.tensor([[3.0, 0.0]]), torch.tensor([[[0.0, 2.0], [1.0, 0.0]]])
        >>> aspect_loss(torch.tensor([[5.0, 0.0]]), text, other)
        tensor([1.])
    """
    reconstructed, text, negative = (unit_rows(part) for part in (reconstructed, text, negative))
    own = (reconstructed * text).sum(-1, keepdim=True)
    others = torch.einsum("nc,ngc->ng", reconstructed, negative)
    return (1 - own + others).clamp_min(0).sum(-1)


def leakage_loss(label: Tensor, part: Tensor) -> Tensor:
    r"""How much of labels can be read, linearly, from dimensions that are to be silent of them.

    With :math:`\rho_{lk}` the correlation, over the items, of the probability of class l with dimension k,

    .. math::
        \mathcal{L} = \sum_l \sum_k \rho_{lk}^2

    It is zero where a dimension has the same mean in all classes, so that classes cannot be told by their means, and no
    scaling of a dimension lowers it. No paper's: a closed form in place of an adversary that is trained beside.

    Args:
        label: ``[num_items, num_classes]`` one-hot labels or probabilities. They get no gradient: the dimensions are to
            change, not what is held to be true.
        part: ``[num_items, channels]``.

    Returns:
        A scalar from 0 to ``num_classes * channels``; 0 where there are no items.

    Example:
        >>> label = torch.eye(2).repeat(2, 1)
        >>> telling, silent = torch.tensor([[1.0], [3.0], [1.0], [3.0]]), torch.tensor([[1.0], [1.0], [3.0], [3.0]])
        >>> [round(leakage_loss(label, part).item(), 3) for part in (telling, silent)]
        [2.0, 0.0]
    """
    num_items = label.shape[:1]
    label, part = (F.layer_norm(x.t(), num_items) for x in (label.detach(), part))  # over the items
    correlation: Tensor = label @ part.t() / max(1, num_items.numel())
    return correlation.square().sum()


def orthogonality_loss(aspect: Tensor) -> Tensor:
    r"""How far vectors, brought to length one, are from orthogonal.

    From "Multimodal Disentangled Representation for Recommendation" (second term of Eq. 15):
    :math:`\lVert \mathbf{D} \mathbf{D}^\top - \mathbf{I} \rVert`, the Frobenius norm.

    Args:
        aspect: ``[num_aspects, channels]``, one in each row.

    Example:
        >>> orthogonality_loss(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))
        tensor(0.)
    """
    unit = unit_rows(aspect)
    gram = unit @ unit.t()
    norm: Tensor = torch.linalg.vector_norm(gram - torch.eye(gram.size(0), dtype=gram.dtype, device=gram.device))
    return norm
