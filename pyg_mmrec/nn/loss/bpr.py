"""Bayesian personalised ranking."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bpr_loss(pos_score: Tensor, neg_score: Tensor) -> Tensor:
    r"""Bayesian personalised ranking loss, averaged over the pairs.

    From `"BPR: Bayesian Personalized Ranking from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ (BPR-Opt,
    Section 4.1):

    .. math::
        \mathcal{L} = -\frac{1}{B} \sum_{(u, i, j)} \ln \sigma(\hat{x}_{ui} - \hat{x}_{uj})

    Args:
        pos_score: ``[batch_size]`` scores of observed items.
        neg_score: ``[batch_size]`` scores of unobserved items.

    Example:
        >>> import torch
        >>> bpr_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]))
        tensor(0.6931)
    """
    return -F.logsigmoid(pos_score - neg_score).mean()
