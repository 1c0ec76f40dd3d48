"""Contrast between two views."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from pyg_mmrec.utils import csr_entries, unit_rows
from pyg_mmrec.utils.precision import at_least_single

#: Similarities held at a time; a few megabytes stay in the processor's cache.
ENTRIES_AT_ONCE = 2**20

#: Cosines over the temperature are at most this, or their row's maximum is taken off before they are exponentiated.
SAFE_LOGIT = 40.0


def info_nce(
    anchor: Tensor,
    positive: Tensor,
    temperature: float = 0.2,
    index: Tensor | None = None,
    negative: Tensor | None = None,
) -> Tensor:
    r"""InfoNCE with in-batch negatives on cosine similarities, averaged over the anchors.

    From `"Representation Learning with Contrastive Predictive Coding" <https://arxiv.org/abs/1807.03748>`_ (Eq. 4):

    .. math::
        \mathcal{L} = -\frac{1}{B} \sum_b \ln
        \frac{\exp(\cos(\mathbf{a}_b, \mathbf{p}_b) / \tau)}{\sum_{c} \exp(\cos(\mathbf{a}_b, \mathbf{p}_c) / \tau)}

    Rows that show the same user or item (``index``) are not each other's negatives. The ``[batch_size, batch_size]``
    similarities are computed block by block together with their gradients and never kept, so the batch may be a whole
    catalogue.

    Args:
        anchor: ``[batch_size, channels]``.
        positive: ``[batch_size, channels]``, row b belongs to anchor b.
        temperature: :math:`\tau` (default: 0.2, the value of SEA and DRepMRec).
        index: ``[batch_size]`` which user or item each row shows; all different by default. Where rows show several
            things, such as the user and the item of an interaction, ``[num_things, batch_size]``: rows that share one
            of them are not each other's negatives.
        negative: ``[batch_size, num_negatives, channels]`` further negatives, each of one anchor alone (default: none).

    Raises:
        ValueError: If the shapes differ, there are no rows or the temperature is not positive.

    Example:
        >>> x = torch.eye(2)
        >>> info_nce(x, x, temperature=1.0)
        tensor(0.3133)
        >>> info_nce(x, x, temperature=1.0, index=torch.tensor([7, 7]))
        tensor(0.)
    """
    if anchor.shape != positive.shape:
        raise ValueError(f"'positive' must have the anchor's shape {tuple(anchor.shape)} (got {tuple(positive.shape)})")
    if anchor.size(0) == 0:
        raise ValueError("'anchor' has no rows to contrast")
    if temperature <= 0:
        raise ValueError(f"'temperature' must be positive (got {temperature})")
    if negative is None:
        negative = anchor.new_empty(anchor.size(0), 0, anchor.size(1))
    elif negative.dim() != 3 or (negative.size(0), negative.size(2)) != anchor.shape:
        expected = f"({anchor.size(0)}, num_negatives, {anchor.size(1)})"
        raise ValueError(f"'negative' must have the shape {expected} (got {tuple(negative.shape)})")
    anchor, positive, negative = at_least_single(anchor, positive, negative)
    with torch.autocast(anchor.device.type, enabled=False):  # sums over a catalogue want single precision
        anchor, positive, negative = (unit_rows(x) for x in (anchor, positive, negative))
        groups = [] if index is None else [_Groups.of(part) for part in index.view(-1, anchor.size(0))]
        loss: Tensor = _BlockedContrast.apply(anchor, positive, temperature, groups, negative)
    return loss


def symmetric_info_nce(one: Tensor, other: Tensor, temperature: float = 0.2, index: Tensor | None = None) -> Tensor:
    r""":func:`info_nce` with either view as the anchor, averaged.

    SEA's variants c and d align modalities with it, and DRepMRec its two lines.

    Args:
        one: ``[batch_size, channels]``.
        other: ``[batch_size, channels]``.
        temperature: :math:`\tau` (default: 0.2).
        index: As for :func:`info_nce`.

    Example:
        >>> one, other = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> symmetric_info_nce(one, other) == symmetric_info_nce(other, one)
        tensor(True)
    """
    return (info_nce(one, other, temperature, index) + info_nce(other, one, temperature, index)) / 2


def grace_loss(one: Tensor, other: Tensor, temperature: float = 0.5) -> Tensor:
    r"""Contrast of two views with negatives from both, in either direction, averaged.

    From `"Deep Graph Contrastive Representation Learning" <https://arxiv.org/abs/2006.04131>`_ (Eq. 1 and 2):

    .. math::
        \ell(\mathbf{u}_b, \mathbf{v}_b) = -\ln \frac{e^{\cos(\mathbf{u}_b, \mathbf{v}_b) / \tau}}{
        \sum_{c} e^{\cos(\mathbf{u}_b, \mathbf{v}_c) / \tau}
        + \sum_{c \neq b} e^{\cos(\mathbf{u}_b, \mathbf{u}_c) / \tau}}, \qquad
        \mathcal{L} = \frac{1}{2B} \sum_b \big( \ell(\mathbf{u}_b, \mathbf{v}_b)
        + \ell(\mathbf{v}_b, \mathbf{u}_b) \big)

    It is :func:`info_nce` of both views stacked, where the two rows of a thing are not each other's negatives.

    Args:
        one: ``[batch_size, channels]``.
        other: ``[batch_size, channels]``, row b shows the same thing as row b of ``one``.
        temperature: :math:`\tau` (default: 0.5, MICRO's).

    Raises:
        ValueError: As :func:`info_nce`.

    Example:
        >>> grace_loss(torch.eye(2), torch.eye(2), temperature=1.0)
        tensor(0.5514)
    """
    thing = torch.arange(one.size(0), device=one.device).repeat(2)
    return info_nce(torch.cat([one, other]), torch.cat([other, one]), temperature, thing)


def solosim_loss(anchor: Tensor, positive: Tensor, temperature: float = 0.2) -> Tensor:
    r"""SoloSimLoss: aligns two modalities of the same items, in one direction.

    From `"It is Never Too Late to Mend: Separate Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_ (Eq. 16):

    .. math::
        \mathcal{L}_{align} = -\frac{1}{|\mathcal{I}|} \sum_i \ln \big(\mathrm{softmax}_j
        (\langle \mathbf{t}_i, \mathbf{v}_j \rangle / \tau)\big)_i

    The printed form is :func:`info_nce` with the text as the anchor, over all items and without its second direction.

    Args:
        anchor: ``[num_items, channels]``, the text's generic part; normalised here.
        positive: ``[num_items, channels]``, the image's.
        temperature: :math:`\tau` (default: 0.2, the authors').

    Raises:
        ValueError: As :func:`info_nce`.

    Example:
        >>> solosim_loss(torch.eye(3), torch.eye(3), temperature=1.0)
        tensor(0.5514)
    """
    return info_nce(anchor, positive, temperature)


class _BlockedContrast(torch.autograd.Function):
    """Mean cross-entropy of the rows' similarities, whose gradient is found on the way."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        anchor: Tensor,
        positive: Tensor,
        temperature: float,
        groups: list[_Groups],
        negative: Tensor,
    ) -> Tensor:
        num_rows = anchor.size(0)
        grad_anchor, grad_positive = -positive, -anchor  # of the pairs themselves
        grad_negative = torch.empty_like(negative)
        total = anchor.new_zeros(())
        size = max(ENTRIES_AT_ONCE // num_rows, 1)
        for start in range(0, num_rows, size):
            rows = slice(start, min(start + size, num_rows))
            logits = (anchor[rows] / temperature) @ positive.t()  # [block, num_rows]
            pairs = logits[:, rows].diagonal().clone()
            for group in groups:
                logits.view(-1).index_fill_(0, group.repeats(rows), -torch.inf)
            logits[:, rows].diagonal().copy_(pairs)
            further = torch.einsum("bc,bnc->bn", anchor[rows] / temperature, negative[rows])
            if 1 / temperature > SAFE_LOGIT:
                peak = torch.cat([logits.amax(1, keepdim=True), further], dim=1).amax(1, keepdim=True)
                logits -= peak
                further -= peak
            own = logits[:, rows].diagonal().clone()
            weight, further = logits.exp_(), further.exp_()
            norm = weight.sum(1, keepdim=True) + further.sum(1, keepdim=True)
            total += norm.log().sum() - own.sum()
            grad_anchor[rows] += (weight @ positive + torch.einsum("bn,bnc->bc", further, negative[rows])) / norm
            grad_positive.addmm_(weight.t(), anchor[rows] / norm)
            grad_negative[rows] = torch.einsum("bn,bc->bnc", further, anchor[rows] / norm)
        scale = 1 / (num_rows * temperature)
        ctx.save_for_backward(grad_anchor * scale, grad_positive * scale, grad_negative * scale)
        return total / num_rows

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None, None, Tensor]:
        grad_anchor, grad_positive, grad_negative = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad * grad_anchor, grad * grad_positive, None, None, grad * grad_negative


class _Groups(NamedTuple):
    """Which rows show the same user or item."""

    number: Tensor  #: ``[num_rows]`` what a row shows
    ptr: Tensor  #: ``[num_things + 1]`` where the rows of each thing start
    member: Tensor  #: ``[num_rows]`` the rows by thing

    @staticmethod
    def of(index: Tensor) -> _Groups:
        """The groups of equal numbers."""
        _, number, count = index.unique(return_inverse=True, return_counts=True)
        return _Groups(number, F.pad(count.cumsum(0), (1, 0)), number.argsort())

    def repeats(self, rows: slice) -> Tensor:
        """Places in a block of ``[block, num_rows]`` similarities, read row by row, of rows that show the same."""
        row, entry = csr_entries(self.ptr, self.number[rows])
        return row * self.number.numel() + self.member[entry]
