"""Losses of intents."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from pyg_mmrec.utils import unit_rows


def intent_kl(assignment: Tensor, of: Literal["users", "batch"] = "users") -> Tensor:
    r"""Kullback-Leibler divergence of intent assignments from the uniform distribution.

    From "Multimodal-aware Multi-intention Learning for Recommendation" (Eq. 16; Eq. 17 leaves the constant out), with
    :math:`s_j^k` the probability of intent k for user j:

    .. math::
        D_{KL} = \frac{1}{N} \sum_{j=1}^N \sum_{k=1}^K s_j^k (\log s_j^k + \log K)

    It is 0 where all intents are equally likely and :math:`\log K` where each user has one.

    Args:
        assignment: ``[num_users, num_intents]``, rows that sum to one.
        of: ``'users'`` as above (default), or ``'batch'``, the divergence of the users' mean, which balances the
            intents without flattening each user's.

    Example:
        >>> intent_kl(torch.full((3, 4), 0.25)), intent_kl(torch.eye(4)) / math.log(4)
        (tensor(0.), tensor(1.))
    """
    if of == "batch":
        assignment = assignment.mean(0, keepdim=True)
    log = assignment.clamp_min(torch.finfo(assignment.dtype).tiny).log()  # 0 log 0 = 0, with a finite gradient
    return math.log(assignment.size(-1)) + (assignment * log).sum(-1).mean()


def intent_overlap(intent: Tensor, form: Literal["squared", "printed"] = "squared") -> Tensor:
    r"""How much intents overlap, the constraint that keeps them apart.

    From "Multimodal-aware Multi-intention Learning for Recommendation" (Eq. 6):

    .. math::
        \mathcal{L}_c = \sum_{m=1}^K \sum_{n=m+1}^K \cos(\mathbf{i}_m, \mathbf{i}_n)^2

    Args:
        intent: ``[num_intents, channels]``.
        form: ``'squared'`` as above (default), which is 0 where all are orthogonal, or ``'printed'``, the sum of inner
            products, which has no lower bound.

    Example:
        >>> intent_overlap(torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]))
        tensor(1.)
    """
    if form == "printed":
        total, each = intent.sum(0).square().sum(), intent.square().sum()
    else:
        intent = unit_rows(intent)
        total, each = (intent @ intent.t()).square().sum(), intent.square().sum(-1).square().sum()
    return (total - each) / 2


def intent_contrast(one: Tensor, other: Tensor, temperature: float = 0.5) -> Tensor:
    r"""Contrast of a user's intents between two views of its history.

    From "Multimodal-aware Multi-intention Learning for Recommendation" (Eq. 13). For each intent the same intent of the
    other view is the positive, and the :math:`K - 1` other intents of each view are the :math:`2K - 2` negatives; other
    users are none:

    .. math::
        \mathcal{L}_{cl} = -\sum_k \ln \frac{\exp(\cos(\mathbf{h}'_k, \mathbf{h}''_k) / \tau)}
        {\exp(\cos(\mathbf{h}'_k, \mathbf{h}''_k) / \tau) + \sum_{j \neq k} \big(
        \exp(\cos(\mathbf{h}'_k, \mathbf{h}''_j) / \tau) + \exp(\cos(\mathbf{h}'_k, \mathbf{h}'_j) / \tau) \big)}

    and the same with the views exchanged, averaged over the users; 0 without any.

    Args:
        one: ``[num_users, num_intents, channels]``.
        other: Likewise, of the other view.
        temperature: :math:`\tau` (default: 0.5, of those that the paper searches).

    Example:
        >>> view = torch.eye(2).unsqueeze(0)
        >>> round(float(intent_contrast(view, view, 1.0)), 4)  # 2 intents, 2 directions, 2 negatives of cosine 0
        2.2058
    """
    one, other = unit_rows(one) / temperature**0.5, unit_rows(other) / temperature**0.5
    across = one @ other.mT  # [num_users, K, K]
    same = torch.eye(across.size(-1), dtype=torch.bool, device=across.device)
    positive = across.diagonal(dim1=1, dim2=2)
    total = across.new_zeros(across.size(0))
    for view, between in ((one, across), (other, across.mT)):
        within = (view @ view.mT).masked_fill(same, -torch.inf)
        total = total + (torch.cat([between, within], dim=-1).logsumexp(-1) - positive).sum(-1)
    return total.sum() / max(1, total.numel())
