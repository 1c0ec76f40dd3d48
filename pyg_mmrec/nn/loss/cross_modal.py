"""Contrast between modalities."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor

from pyg_mmrec.nn.loss.contrast import info_nce


def cross_modal_contrast(
    views: Mapping[str, Tensor], temperature: float = 0.2, masks: Mapping[str, Tensor] | None = None
) -> Tensor:
    r"""Mean of :func:`info_nce` over all pairs of modalities, the first of each pair as the anchor.

    .. math::
        \mathcal{L} = \binom{M}{2}^{-1} \sum_{m < n} \mathcal{L}_{NCE}(\mathbf{X}_m, \mathbf{X}_n)

    Rows that lack one modality of a pair are left out of it; a pair without rows counts as zero.

    Args:
        views: By modality ``[batch_size, channels]``, row b of each shows the same node.
        temperature: :math:`\tau` (default: 0.2).
        masks: ``[batch_size]`` bool for modalities that some rows lack (default: none does).

    Raises:
        ValueError: If there are fewer than two modalities, or as :func:`info_nce`.

    Example:
        >>> x = torch.eye(2)
        >>> cross_modal_contrast({'image': x, 'text': x, 'audio': x}, temperature=1.0)
        tensor(0.3133)
    """
    if len(views) < 2:
        raise ValueError(f"'views' must hold two modalities or more (got {', '.join(views) or 'none'})")
    losses = []
    for one, other in combinations(views, 2):
        anchor, positive = views[one], views[other]
        held = [masks[name] for name in (one, other) if masks is not None and name in masks]
        if held:
            rows = torch.stack(held).all(0)
            anchor, positive = anchor[rows], positive[rows]
        losses.append(info_nce(anchor, positive, temperature) if anchor.size(0) else anchor.new_zeros(()))
    return torch.stack(losses).mean()
