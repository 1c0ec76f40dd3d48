"""Area under the ROC curve within groups, such as the impressions of a user."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import cumsum


def group_auc(score: Tensor, label: Tensor, group: Tensor) -> float:
    r"""The AUC within each group, weighted by the group's number of impressions.

    From `"Deep Interest Network for Click-Through Rate Prediction" <https://arxiv.org/abs/1706.06978>`_ (Section 6.3).
    How well a model orders what one user is shown, whatever it thinks of other users:

    .. math::
        \mathrm{GAUC} = \frac{\sum_g n_g \, \mathrm{AUC}_g}{\sum_g n_g}, \qquad
        \mathrm{AUC}_g = \frac{1}{P_g N_g} \sum_{i \in P_g} \sum_{j \in N_g}
        \mathbb{1}[s_i > s_j] + \tfrac{1}{2} \mathbb{1}[s_i = s_j]

    over the groups g with :math:`n_g` impressions that have both positive and negative ones. A sort gives the mean
    ranks of all groups at once; ranks and means are in double precision.

    Args:
        score: ``[n]`` scores of the impressions.
        label: ``[n]``, bool or int, 1 for a positive impression and 0 for a negative one.
        group: ``[n]`` int64, the group of each impression, in any order.

    Raises:
        ValueError: If the shapes do not fit, a score is NaN, a label is neither 0 nor 1, or no group has both.

    Example:
        >>> score, label = torch.tensor([0.9, 0.1, 0.5, 0.3, 0.4]), torch.tensor([1, 0, 0, 1, 0])
        >>> group_auc(score, label, torch.tensor([7, 7, 2, 2, 2]))
        0.4
    """
    if score.dim() != 1 or label.shape != score.shape or group.shape != score.shape:
        raise ValueError(
            f"'score', 'label' and 'group' must be of one shape [n] (got {list(score.shape)}, {list(label.shape)} and "
            f"{list(group.shape)})"
        )
    if group.dtype != torch.int64:
        raise ValueError(f"'group' must be int64 (got {group.dtype})")
    if score.isnan().any():
        raise ValueError(f"'score' is NaN for {int(score.isnan().sum())} impressions: the model has diverged")
    if not ((label == 0) | (label == 1)).all():
        raise ValueError("'label' must be 1 for positive impressions and 0 for negative ones")
    auc, weight = auc_by_group(score, label, group)
    if not auc.numel():
        raise ValueError("no group of 'group' has both a positive and a negative impression")
    return float((auc * weight).sum() / weight.sum())


def auc_by_group(score: Tensor, label: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """The parts of :func:`group_auc`.

    Args:
        score: ``[n]`` scores, none of which is NaN.
        label: ``[n]`` zeros and ones.
        group: ``[n]`` int64.

    Returns:
        ``[num_groups]`` float64 AUC and number of impressions of the groups that have both classes.
    """
    score, perm = score.sort()
    group, by_group = group[perm].sort(stable=True)  # by group, then by score
    score, label = score[by_group], label[perm][by_group].double()
    _, size = group.unique_consecutive(return_counts=True)
    row = torch.arange(size.numel(), device=group.device).repeat_interleave(size)
    place = torch.arange(1, row.numel() + 1, device=group.device, dtype=torch.double)
    new = torch.ones_like(row, dtype=torch.bool)
    new[1:] = (score[1:] != score[:-1]) | (row[1:] != row[:-1])
    tie = new.cumsum(0) - 1  # which run of equal scores of a group
    width = torch.bincount(tie)
    rank = (place[new] + (width - 1) / 2.0)[tie] - cumsum(size)[row]  # mean rank of a run, counted from the group
    positive = torch.bincount(row, label)
    negative = size - positive
    above = torch.bincount(row, label * rank) - positive * (positive + 1) / 2  # pairs in order, ties counted half
    both = (positive > 0) & (negative > 0)
    return (above / (positive * negative))[both], size[both].double()
