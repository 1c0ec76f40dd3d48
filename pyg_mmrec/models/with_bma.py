"""DRepMRec's behaviour-modal alignment, added to another model."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.plug_in import PlugIn
from pyg_mmrec.nn import BehaviorModalAlignment
from pyg_mmrec.nn.similarity import TargetMode
from pyg_mmrec.typing import Triplets


class WithBMA(PlugIn):
    r"""Another model, with DRepMRec's alignment of its behaviour and modal representations: VBPR + BMA, BM3 + BMA.

    From "DRepMRec: A Dual Representation Learning Framework for Multimodal Recommendation" (Section 4.7.1, Table 4).

    .. math::
        \mathcal{L} = \mathcal{L}_{base} + \alpha \mathcal{L}_{Intra} + \beta \mathcal{L}_{Inter} +
        \gamma \mathcal{L}_{SSS}

    The base model ranks as before. What it says of users and items from behaviour and from modalities (``behavior``
    and ``modal`` of its representations) is aligned by :class:`~pyg_mmrec.nn.BehaviorModalAlignment`.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        base: Name of the base model's class, any whose representations hold ``behavior`` and ``modal``
            (default: ``'VBPR'``).
        base_args: The other arguments of its constructor.
        intra_weight: :math:`\alpha` (default: 0.1; none is published). See
            :class:`~pyg_mmrec.nn.BehaviorModalAlignment` for this and all arguments that follow.
        inter_weight: :math:`\beta` (default: 0.1; none is published; the paper adds the intra-alignment alone to MGCN,
            which has an inter-alignment of its own: 0).
        sss_weight: :math:`\gamma` (default: 0.1; none is published; 0 for MGCN).
        temperature: :math:`\tau` (default: 0.2, the paper's).
        modality_weights: Weights of the modalities in the targets of the similarity-supervised signal.
        normalized_similarity: Whether modal similarities are cosines or inner products (default: True).
        targets: How targets are computed, ``'direct'`` (default), ``'gram'`` or ``'projected'``.
        target_channels: Width of projections for ``'projected'`` (default: 256).

    Raises:
        ValueError: If ``base`` is no model or one whose representations lack ``behavior`` and ``modal``, ``base_args``
            do not fit it or an argument is out of range.

    Example:
        >>> WithBMA(5, 4, {'image': 6}, base='VBPR', base_args={'hidden_channels': 8}).base_model.hidden_channels
        8
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        base: str = "VBPR",
        base_args: dict[str, Any] | None = None,
        intra_weight: float = 0.1,
        inter_weight: float = 0.1,
        sss_weight: float = 0.1,
        temperature: float = 0.2,
        modality_weights: dict[str, float] | None = None,
        normalized_similarity: bool = True,
        targets: TargetMode = "direct",
        target_channels: int = 256,
    ) -> None:
        super().__init__(num_users, num_items, in_channels, base, base_args)
        if not self.two_lines:
            raise ValueError(
                f"'base' must tell behaviour from modal representations ({base} does not: its 'two_lines' is False)"
            )
        self.intra_weight, self.inter_weight, self.sss_weight = intra_weight, inter_weight, sss_weight
        self.temperature = temperature
        self.modality_weights = modality_weights
        self.normalized_similarity = normalized_similarity
        self.targets, self.target_channels = targets, target_channels
        self.alignment = BehaviorModalAlignment(
            in_channels,
            intra_weight=intra_weight,
            inter_weight=inter_weight,
            sss_weight=sss_weight,
            temperature=temperature,
            modality_weights=modality_weights,
            normalized_similarity=normalized_similarity,
            targets=targets,
            target_channels=target_channels,
        )

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """The base model's terms and the alignment."""
        out = self.base_model(data)
        return {**self.base_model.loss(data, batch), **self.alignment(data, batch, out.behavior, out.modal)}
