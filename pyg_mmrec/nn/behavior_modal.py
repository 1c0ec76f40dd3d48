"""Alignment of what behaviour says with what modalities say."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.nn.loss import feature_similarity_loss, info_nce, similarity_loss
from pyg_mmrec.nn.similarity import SimilarityTargets, TargetMode
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import take_rows
from pyg_mmrec.utils.checks import (
    check_by_name,
    check_choice,
    check_flag,
    check_int,
    check_not_negative,
    check_positive,
)


def default_modality_weights(names: list[str]) -> dict[str, float]:
    """DRepMRec's weights for images and texts, equal shares for other modalities.

    Args:
        names: The modalities.

    Example:
        >>> default_modality_weights(['image', 'text']), default_modality_weights(['audio', 'image'])
        ({'image': 0.3, 'text': 0.7}, {'audio': 0.5, 'image': 0.5})
    """
    if sorted(names) == ["image", "text"]:
        return {"image": 0.3, "text": 0.7}
    return dict.fromkeys(names, 1 / len(names))


class BehaviorModalAlignment(torch.nn.Module):
    r"""Aligns behaviour and modal representations of users and items, and keeps the modal ones near their features.

    From "DRepMRec: A Dual Representation Learning Framework for Multimodal Recommendation" (Section 3.4). With
    :func:`~pyg_mmrec.nn.loss.info_nce` on the B interactions :math:`(u, i)` of a batch, on its distinct users and
    items, and :func:`~pyg_mmrec.nn.loss.similarity_loss`,

    .. math::
        \mathcal{L}_{Intra} &= \mathcal{L}_{NCE}(\bar{\mathbf{e}}_B^u, \bar{\mathbf{e}}_B^i) +
        \mathcal{L}_{NCE}(\bar{\mathbf{e}}_M^u, \bar{\mathbf{e}}_M^i) \quad \text{(Eq. 8 to 10)} \\
        \mathcal{L}_{Inter} &= \mathcal{L}_{NCE}(\bar{\mathbf{e}}_B^u, \bar{\mathbf{e}}_M^u) +
        \mathcal{L}_{NCE}(\bar{\mathbf{e}}_B^i, \bar{\mathbf{e}}_M^i) \quad \text{(Eq. 11)} \\
        \mathcal{L}_{SSS} &= \mathcal{L}_{sim}(\bar{\mathbf{E}}_M^u) + \mathcal{L}_{sim}(\bar{\mathbf{E}}_M^i)
        \quad \text{(Eq. 12)}

    Embeddings are brought to length one before they are contrasted; interactions that share their user or their item
    are not each other's negatives. A term of weight zero is left out.

    Args:
        in_channels: Width of each modality's features, whose similarities are the targets of Eq. 12; unread if
            ``sss_weight`` is 0.
        intra_weight: :math:`\alpha` (default: 0.1; the paper has it in a figure only, search it).
        inter_weight: :math:`\beta` (default: 0.1; likewise).
        sss_weight: :math:`\gamma` (default: 0.1; likewise).
        temperature: :math:`\tau` (default: 0.2, the paper's).
        modality_weights: Weights of the modalities in the targets. By default 0.3 for images and 0.7 for texts where
            these are the two (the paper's), equal shares otherwise.
        normalized_similarity: Whether modal similarities are cosines, or inner products as printed (default: True).
        targets: How targets are computed, see :class:`~pyg_mmrec.nn.similarity.SimilarityTargets`: ``'direct'``
            (default), ``'gram'`` or ``'projected'``.
        target_channels: Width of projections for ``'projected'`` (default: 256).

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        *,
        intra_weight: float = 0.1,
        inter_weight: float = 0.1,
        sss_weight: float = 0.1,
        temperature: float = 0.2,
        modality_weights: dict[str, float] | None = None,
        normalized_similarity: bool = True,
        targets: TargetMode = "direct",
        target_channels: int = 256,
    ) -> None:
        super().__init__()
        check_not_negative(intra_weight=intra_weight, inter_weight=inter_weight, sss_weight=sss_weight)
        check_positive(temperature=temperature)
        check_flag(normalized_similarity=normalized_similarity)
        check_choice(("direct", "gram", "projected"), targets=targets)
        check_int(1, target_channels=target_channels)
        if sss_weight > 0 and not in_channels:
            raise ValueError("'in_channels' names no modality: give item features or set 'sss_weight' to 0")
        weights = _resolved_weights(modality_weights, in_channels) if in_channels else {}
        self.intra_weight, self.inter_weight, self.sss_weight = intra_weight, inter_weight, sss_weight
        self.temperature = temperature
        self.normalized_similarity = normalized_similarity
        self.targets = SimilarityTargets(weights, in_channels, targets, target_channels)

    def forward(
        self, data: HeteroData, batch: Triplets, behavior: tuple[Tensor, Tensor], modal: tuple[Tensor, Tensor]
    ) -> dict[str, Tensor]:
        """The weighted terms.

        Args:
            data: The graph, for the targets.
            batch: Users, positive items and negative items, of which the last are unread.
            behavior: ``[num_users, channels]`` and ``[num_items, channels]``.
            modal: Likewise, of the same width.
        """
        (user, user_of), (item, item_of) = (x.unique(return_inverse=True) for x in (batch.user, batch.pos_item))
        lines = {  # rows of the batch, each once: what is taken from a table has a gradient as large as the table
            "behavior": (take_rows(behavior[0], user), take_rows(behavior[1], item)),
            "modal": (take_rows(modal[0], user), take_rows(modal[1], item)),
        }
        losses = {}
        if self.intra_weight > 0:
            ids = torch.stack([user_of, item_of])
            for name, (users, items) in lines.items():
                pair = take_rows(users, user_of), take_rows(items, item_of)
                losses[f"intra_{name}"] = self.intra_weight * info_nce(*pair, self.temperature, ids)
        if self.inter_weight > 0:
            for name, one, other in zip(("user", "item"), *lines.values(), strict=True):
                losses[f"inter_{name}"] = self.inter_weight * info_nce(one, other, self.temperature)
        if self.sss_weight > 0:
            for name, index, x in zip(("user", "item"), (user, item), lines["modal"], strict=True):
                losses[f"sss_{name}"] = self.sss_weight * self._similarity_loss(data, name, index, x)
        return losses

    def _similarity_loss(self, data: HeteroData, name: str, index: Tensor, x: Tensor) -> Tensor:
        """Half of Eq. 12, without the matrix of targets where this is less work."""
        of_users, targets = name == "user", self.targets
        if targets.num_factors is not None and targets.num_factors < index.numel():
            factors = (targets.user_factors if of_users else targets.item_factors)(data, index)
            return feature_similarity_loss(x, factors, self.normalized_similarity)
        target = (targets.users if of_users else targets.items)(data, index)
        return similarity_loss(x, target, self.normalized_similarity)


def _resolved_weights(weights: dict[str, float] | None, names: Mapping[str, int]) -> dict[str, float]:
    """The given weights, or the default ones.

    Raises:
        ValueError: If they do not name the modalities.
    """
    if weights is None:
        return default_modality_weights(list(names))
    check_by_name(check_not_negative, modality_weights=weights)
    if set(weights) != set(names):
        raise ValueError(f"'modality_weights' must name the modalities {sorted(names)} (got {sorted(weights)})")
    return dict(weights)
