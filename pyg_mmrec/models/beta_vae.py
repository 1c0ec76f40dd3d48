"""beta-VAE."""

from __future__ import annotations

from torch import Tensor

from pyg_mmrec.models.content_din import ContentDIN, modality_names, side_by_side
from pyg_mmrec.utils.checks import check_int


class BetaVAE(ContentDIN):
    r""":math:`\beta`-VAE, scored by a deep interest network: the visual half of MDR without names and labels.

    From `"beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework"
    <https://openreview.net/forum?id=Sy2fzU9gl>`_, as a baseline of "Multimodal Disentangled Representation for
    Recommendation" (Table 2). Each modality has a variational autoencoder whose divergence is weighted by
    :math:`\beta`; an item is its latent parts. See :class:`~pyg_mmrec.models.MDR` for the terms.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        image_shape: Channels, height and width of raw images, None where there are none or features are read.
        num_parts: Latent parts of each modality (default: 7).
        part_channels: Dimensions of each (default: 8).
        kl_weight: :math:`\beta` (default: 4, a value of its authors).
        prediction_weight: Weight of the cross entropy (default: 1).
        max_history: Items of a history that are read (default: 50).
        rebuilt_items: Items of a batch, drawn at random, that are rebuilt from their parts, for speed (default: all).

    Raises:
        ValueError: If there is no modality, or an argument is out of range.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        image_shape: list[int] | None = None,
        num_parts: int = 7,
        part_channels: int = 8,
        kl_weight: float = 4.0,
        prediction_weight: float = 1.0,
        max_history: int = 50,
        rebuilt_items: int | None = None,
    ) -> None:
        names = modality_names(in_channels, image_shape, None)
        check_int(1, num_parts=num_parts, part_channels=part_channels)
        super().__init__(
            num_users,
            num_items,
            in_channels,
            aspects=(),
            num_parts=dict.fromkeys(names, num_parts),
            image_shape=image_shape,
            num_words=None,
            part_channels=part_channels,
            item_channels=len(names) * num_parts * part_channels,
            kl_weight=kl_weight,
            prediction_weight=prediction_weight,
            max_history=max_history,
            rebuilt_items=rebuilt_items,
        )
        self.num_parts = num_parts

    def fuse(self, parts: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """All parts side by side; each modality is rebuilt from its own."""
        return side_by_side(parts), parts
