"""Binary cross entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bce_loss(pos_logit: Tensor, neg_logit: Tensor) -> Tensor:
    r"""Binary cross entropy of observed and unobserved pairs, averaged over both.

    .. math::
        \mathcal{L} = -\frac{1}{2B} \sum_{(u, i, j)} \big( \ln \sigma(\hat{y}_{ui}) +
        \ln (1 - \sigma(\hat{y}_{uj})) \big)

    Args:
        pos_logit: ``[batch_size]`` logits of observed items.
        neg_logit: ``[batch_size]`` logits of unobserved items.

    Example:
        >>> import torch
        >>> bce_loss(torch.zeros(2), torch.zeros(2))
        tensor(0.6931)
    """
    return -(F.logsigmoid(pos_logit) + F.logsigmoid(-neg_logit)).mean() / 2
