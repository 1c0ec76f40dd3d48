"""DIN++."""

from __future__ import annotations

from torch import Tensor

from pyg_mmrec.models.content_din import TEXT, ContentDIN, modality_names, side_by_side
from pyg_mmrec.utils.checks import check_int


class DINPlus(ContentDIN):
    r"""DIN++: :math:`\beta`-VAE of images and ABAE of texts, concatenated, scored by a deep interest network.

    A baseline of "Multimodal Disentangled Representation for Recommendation" (Table 2): what
    :class:`~pyg_mmrec.models.MDR` is without fusion, names and labels. ``'text'`` is read as aspects, all other
    modalities by a variational autoencoder.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        image_shape: Channels, height and width of raw images, None where there are none or features are read.
        num_words: Number of words of raw texts, with 0 for padding; None likewise.
        word_channels: Width of word vectors (default: 64).
        train_words: Whether word vectors are learned (default: False).
        num_parts: Parts of each modality (default: 7).
        part_channels: Dimensions of each (default: 8).
        kl_weight: :math:`\beta` (default: 4, as :class:`~pyg_mmrec.models.BetaVAE`).
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
        num_words: int | None = None,
        word_channels: int = 64,
        train_words: bool = False,
        num_parts: int = 7,
        part_channels: int = 8,
        kl_weight: float = 4.0,
        prediction_weight: float = 1.0,
        max_history: int = 50,
        rebuilt_items: int | None = None,
    ) -> None:
        names = modality_names(in_channels, image_shape, num_words)
        check_int(1, num_parts=num_parts, part_channels=part_channels)
        super().__init__(
            num_users,
            num_items,
            in_channels,
            aspects={TEXT},
            num_parts=dict.fromkeys(names, num_parts),
            image_shape=image_shape,
            num_words=num_words,
            word_channels=word_channels,
            train_words=train_words,
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
