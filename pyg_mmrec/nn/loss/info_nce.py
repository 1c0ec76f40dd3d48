"""Contrast between two views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(anchor: Tensor, positive: Tensor, temperature: float = 0.2, index: Tensor | None = None) -> Tensor:
    r"""InfoNCE with in-batch negatives on cosine similarities, averaged over the anchors.

    From `"Representation Learning with Contrastive Predictive Coding" <https://arxiv.org/abs/1807.03748>`_ (Eq. 4):

    .. math::
        \mathcal{L} = -\frac{1}{B} \sum_b \ln
        \frac{\exp(\cos(\mathbf{a}_b, \mathbf{p}_b) / \tau)}{\sum_{c} \exp(\cos(\mathbf{a}_b, \mathbf{p}_c) / \tau)}

    Rows that show the same user or item (``index``) are not each other's negatives.

    Args:
        anchor: ``[batch_size, channels]``.
        positive: ``[batch_size, channels]``, row b belongs to anchor b.
        temperature: :math:`\tau` (default: 0.2, the value of SEA and DRepMRec).
        index: ``[batch_size]`` which user or item each row shows; all different by default.

    Raises:
        ValueError: If the shapes differ or the temperature is not positive.

    Example:
        >>> x = torch.eye(2)
        >>> info_nce(x, x, temperature=1.0)
        tensor(0.3133)
        >>> info_nce(x, x, temperature=1.0, index=torch.tensor([7, 7]))
        tensor(0.)
    """
    if anchor.shape != positive.shape:
        raise ValueError(f"'positive' must have the anchor's shape {tuple(anchor.shape)} (got {tuple(positive.shape)})")
    if temperature <= 0:
        raise ValueError(f"'temperature' must be positive (got {temperature})")
    logits = F.normalize(anchor, dim=-1) @ F.normalize(positive, dim=-1).t() / temperature  # [batch_size, batch_size]
    if index is not None:
        repeated = index.unsqueeze(0) == index.unsqueeze(1)
        repeated.fill_diagonal_(False)
        logits = logits.masked_fill(repeated, -torch.inf)
    return (logits.logsumexp(dim=-1) - logits.diagonal()).mean()
