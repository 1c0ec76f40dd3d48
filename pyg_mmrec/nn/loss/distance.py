"""Distances that are maximised."""

from __future__ import annotations

from torch import Tensor

from pyg_mmrec.utils import unit_rows


def negative_distance(generic: Tensor, unique: Tensor, normalized: bool = True) -> Tensor:
    r"""Minus the mean squared distance between the generic and the unique part of each item.

    From `"It is Never Too Late to Mend: Separate Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_ (Eq. 30, the cheap stand-in for :class:`~pyg_mmrec.nn.loss.CLUB`):

    .. math::
        \mathcal{L} = -\frac{1}{|\mathcal{I}|} \sum_i \lVert \mathbf{g}_i - \mathbf{u}_i \rVert_2^2

    On vectors of length one the term lies in [-4, 0]. On raw vectors, as printed, it has no lower bound, and training
    drives it there.

    Args:
        generic: ``[num_items, channels]``.
        unique: ``[num_items, channels]``.
        normalized: Whether rows are brought to length one (default: True).

    Example:
        >>> import torch
        >>> negative_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 5.0]]))
        tensor(-2.)
    """
    if normalized:
        generic, unique = unit_rows(generic), unit_rows(unique)
    return -(generic - unique).square().sum(-1).mean()
