"""ABAE."""

from __future__ import annotations

from torch import Tensor

from pyg_mmrec.models.content_din import ContentDIN, modality_names, side_by_side
from pyg_mmrec.utils.checks import check_int


class ABAE(ContentDIN):
    r"""ABAE, scored by a deep interest network: the textual half of MDR without names.

    From `"An Unsupervised Neural Attention Model for Aspect Extraction" <https://aclanthology.org/P17-1036>`_, as a
    baseline of "Multimodal Disentangled Representation for Recommendation" (Table 2). A text is read as parts, one for
    each aspect, and rebuilt as a mixture of aspects; an item is its parts. Features of other modalities stand in for
    the text's vector in the same way: pass ``in_channels={'text': ...}`` to read texts alone. See
    :class:`~pyg_mmrec.models.MDR` for the terms.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        num_words: Number of words of raw texts, with 0 for padding; None where there are none or features are read.
        word_channels: Width of word vectors (default: 64).
        train_words: Whether word vectors are learned (default: False).
        num_parts: Aspects (default: 7; its authors have 14 for restaurants).
        part_channels: Dimensions of each part (default: 8).
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
        num_words: int | None = None,
        word_channels: int = 64,
        train_words: bool = False,
        num_parts: int = 7,
        part_channels: int = 8,
        prediction_weight: float = 1.0,
        max_history: int = 50,
        rebuilt_items: int | None = None,
    ) -> None:
        names = modality_names(in_channels, None, num_words)
        check_int(1, num_parts=num_parts, part_channels=part_channels)
        super().__init__(
            num_users,
            num_items,
            in_channels,
            aspects=names,
            num_parts=dict.fromkeys(names, num_parts),
            num_words=num_words,
            word_channels=word_channels,
            train_words=train_words,
            part_channels=part_channels,
            item_channels=len(names) * num_parts * part_channels,
            prediction_weight=prediction_weight,
            max_history=max_history,
            rebuilt_items=rebuilt_items,
        )
        self.num_parts = num_parts

    def fuse(self, parts: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """All parts side by side; each modality is rebuilt from its own."""
        return side_by_side(parts), parts
