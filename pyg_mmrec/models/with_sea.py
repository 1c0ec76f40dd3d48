"""SEA's separate learning, added to another model."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Representations
from pyg_mmrec.models.plug_in import PlugIn
from pyg_mmrec.nn import SeparateLearning
from pyg_mmrec.nn.separate import Alignment, Distancing
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import modality_masks


class WithSEA(PlugIn):
    r"""Another model, with SEA's separate learning on what it makes of each modality: VBPR + SEA, FREEDOM + SEA.

    From `"It is Never Too Late to Mend: Separate Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_ (Section 5.5, Table 3).

    .. math::
        \mathcal{L} = \mathcal{L}_{base} + \alpha \mathcal{L}_{align} + \frac{\beta}{M} \sum_m \mathcal{L}_{distance, m}

    The base model ranks as before. Its representation of the items in each modality (``modal_items``) is split in a
    generic and a unique half (:class:`~pyg_mmrec.nn.SeparateLearning`).

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        base: Name of the base model's class, any that has ``modal_items`` (default: ``'VBPR'``).
        base_args: The other arguments of its constructor.
        alignment: Loss that aligns generic parts, ``'solosim'`` (default) or ``'infonce'``; None for none. See
            :class:`~pyg_mmrec.nn.SeparateLearning` for this and all arguments that follow.
        distancing: Loss that keeps the two parts apart, ``'club'`` (default) or ``'negative'``; None for none.
        align_weight: :math:`\alpha` (default: 0.1, the authors' for VBPR).
        distance_weight: :math:`\beta` (default: 0.1; none is published).
        temperature: :math:`\tau` (default: 0.1, the authors' for VBPR).
        align_items: Items among which the alignment is taken for each batch (default: all).
        estimator_lr: Learning rate of the CLUB estimators (default: 1e-3, the authors' learning rate for VBPR).
        estimator_steps: Steps of the CLUB estimators for each batch (default: 50, the authors').
        estimator_items: Items that the CLUB estimators are fitted on for each batch (default: all).

    Raises:
        ValueError: If ``base`` is no model, or one without modal item representations, or ``base_args`` do not fit it.

    Example:
        >>> model = WithSEA(5, 4, {'image': 6, 'text': 3}, base='VBPR', base_args={'hidden_channels': 8})
        >>> model.base_model.modal_channels
        {'image': 8, 'text': 8}
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        base: str = "VBPR",
        base_args: dict[str, Any] | None = None,
        alignment: Alignment | None = "solosim",
        distancing: Distancing | None = "club",
        align_weight: float = 0.1,
        distance_weight: float = 0.1,
        temperature: float = 0.1,
        align_items: int | None = None,
        estimator_lr: float = 1e-3,
        estimator_steps: int = 50,
        estimator_items: int | None = None,
    ) -> None:
        super().__init__(num_users, num_items, in_channels, base, base_args)
        self.alignment, self.distancing = alignment, distancing
        self.align_weight, self.distance_weight = align_weight, distance_weight
        self.temperature, self.align_items = temperature, align_items
        self.estimator_lr, self.estimator_steps = estimator_lr, estimator_steps
        self.estimator_items = estimator_items
        if not self.base_model.modal_channels:
            raise ValueError(f"'base' must have representations of single modalities, 'modal_items' ({base} has none)")
        self.separate = SeparateLearning(
            self.base_model.modal_channels,
            alignment=alignment,
            distancing=distancing,
            align_weight=align_weight,
            distance_weight=distance_weight,
            temperature=temperature,
            align_items=align_items,
            estimator_lr=estimator_lr,
            estimator_steps=estimator_steps,
            estimator_items=estimator_items,
        )

    def forward(self, data: HeteroData) -> Representations:
        """What the base model gives, in eval mode with the heads of generic and unique parts."""
        out = super().forward(data)
        if self.training:  # batch normalisation in the heads would count this call
            return out
        first = self.separate.first_outputs(self.base_model.modal_items(data))
        generic, unique = self.separate.heads(first, modality_masks(data, list(self.in_channels)))
        return out._replace(generic=generic, unique=unique)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """The base model's terms, alignment and distancing."""
        modal, masks = self.base_model.modal_items(data), modality_masks(data, list(self.in_channels))
        return {**self.base_model.loss(data, batch), **self.separate(modal, masks)}
