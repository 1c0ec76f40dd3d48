"""What models share that read items' content into parts, and users as the histories of such items."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import AspectBranch, Code, Contributions, DeepInterest, FeatureVAE, ImageVAE
from pyg_mmrec.nn.loss import bce_loss, orthogonality_loss
from pyg_mmrec.nn.projection import check_modality_names
from pyg_mmrec.typing import ITEM, WORD, Triplets
from pyg_mmrec.utils import (
    csr_entries,
    interaction_operator,
    item_features,
    kept_entries,
    modality_masks,
    segment_rows,
    word_vectors,
)
from pyg_mmrec.utils.checks import check_channels, check_flag, check_int, check_not_negative, check_positive
from pyg_mmrec.utils.modes import evaluating

#: The modalities that raw content belongs to: ``data['item'].image`` and ``data['item'].tokens``.
IMAGE, TEXT = "image", "text"

#: Items that are read at a time, and numbers that scoring candidates of single users may hold.
ITEMS_AT_ONCE, NUMBERS_AT_ONCE = 1024, 2**24


class Encoded(NamedTuple):
    """Some items, read."""

    item: Tensor  #: ``[num_items, channels]`` representations
    code: dict[str, Code]  #: by modality
    part: dict[str, Tensor]  #: by modality, the fused parts that it is rebuilt from
    x: dict[str, Tensor]  #: by modality, what was read
    has: dict[str, Tensor]  #: by modality, ``[num_items]`` bool, which items have it


class ContentDIN(Recommender):
    r"""Base class: items are read into parts by a branch for each modality, users are their items.

    A branch is a :class:`~pyg_mmrec.nn.FeatureVAE`, an :class:`~pyg_mmrec.nn.ImageVAE` or an
    :class:`~pyg_mmrec.nn.AspectBranch`; :meth:`fuse` makes representations of their parts, which are rebuilt to what
    was read. :class:`~pyg_mmrec.nn.DeepInterest` scores a candidate for a history. The objective is the cross entropy
    of a positive and a negative item, whose history is without the positive in both cases, and the branches' losses,
    means over the distinct items of a batch, each read once.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        aspects: Modalities that are read as aspects; others by a variational autoencoder.
        num_parts: By modality, the number of parts; its keys are all modalities.
        part_channels: Dimensions of each part.
        item_channels: Width of the items' representations.
        image_shape: Channels, height and width of the raw images that stand in for the features of ``'image'``.
        num_words: Number of words of the raw texts that stand in for the features of ``'text'``.
        word_channels: Width of word vectors.
        train_words: Whether they are learned.
        kl_weight: :math:`\beta`.
        prediction_weight: :math:`\gamma`.
        max_history: Items of a history that are read.
        rebuilt_items: Items of a batch, drawn at random, that the branches rebuild; None for all.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        aspects: Collection[str],
        num_parts: Mapping[str, int],
        part_channels: int,
        item_channels: int,
        image_shape: list[int] | None = None,
        num_words: int | None = None,
        word_channels: int = 64,
        train_words: bool = False,
        kl_weight: float = 1.0,
        prediction_weight: float,
        max_history: int,
        rebuilt_items: int | None,
    ) -> None:
        super().__init__(num_users, num_items)
        check_int(1, word_channels=word_channels, max_history=max_history)
        check_flag(train_words=train_words)
        if rebuilt_items is not None:
            check_int(1, rebuilt_items=rebuilt_items)
        check_not_negative(kl_weight=kl_weight)
        check_positive(prediction_weight=prediction_weight)
        self.in_channels = dict(in_channels)
        self.image_shape, self.num_words = image_shape, num_words
        self.word_channels, self.train_words = word_channels, train_words
        self.part_channels = part_channels
        self.kl_weight, self.prediction_weight = kl_weight, prediction_weight
        self.max_history, self.rebuilt_items = max_history, rebuilt_items
        branches: dict[str, torch.nn.Module] = {}
        for name, number in num_parts.items():
            if name == IMAGE and image_shape is not None and name not in aspects:
                colours, height, width = image_shape
                branches[name] = ImageVAE((colours, height, width), number, part_channels)
            elif name in aspects:
                words = num_words if name == TEXT else None
                width = in_channels[name] if words is None else word_channels
                branches[name] = AspectBranch(
                    width, number, part_channels, num_words=words, train_words=train_words and words is not None
                )
            else:
                branches[name] = FeatureVAE(in_channels[name], number, part_channels)
        self.branch: Any = torch.nn.ModuleDict(branches)
        self.interest = DeepInterest(item_channels)

    @classmethod
    def from_data(cls, data: HeteroData, **kwargs: Any) -> ContentDIN:
        """Builds the model; raw images and texts that the data holds are read in place of features.

        Pass ``image_shape=None`` or ``num_words=None`` to read the features of these modalities instead.
        """
        read, words = inspect.signature(cls).parameters, data[WORD] if WORD in data.node_types else {}
        if "image" in data[ITEM] and "image_shape" in read and "image_shape" not in kwargs:
            kwargs["image_shape"] = list(_raw(data, "image").shape[1:])
        if "tokens" in data[ITEM] and "num_words" in read:
            if "num_words" not in kwargs:
                tokens = _raw(data, "tokens")
                largest = int(tokens.max()) if tokens.numel() else 0
                kwargs["num_words"] = int(words["num_nodes"]) if words else largest + 1
            if kwargs["num_words"] is not None and words.get("x") is not None:
                kwargs.setdefault("word_channels", words["x"].size(1))
        model: ContentDIN = super().from_data(data, **kwargs)
        return model

    @torch.no_grad()
    def start_from(self, data: HeteroData) -> None:
        """Sets word vectors, aspects and by what features are standardised.

        Word vectors are ``data['word'].x`` where the data has them, else :func:`~pyg_mmrec.utils.word_vectors` of the
        texts of all its items.
        """
        masks = modality_masks(data, list(self.in_channels))
        for name, branch in self.branch.items():
            if isinstance(branch, ImageVAE):
                continue
            if isinstance(branch, AspectBranch) and branch.word is not None:
                branch.start_from(data[ITEM].tokens, self._word_vectors(data))
            else:
                x = item_features(data, name, self.in_channels[name])
                branch.start_from(x[masks[name]] if name in masks else x)

    def _word_vectors(self, data: HeteroData) -> Tensor:
        found = data[WORD].get("x") if WORD in data.node_types else None
        if found is None:
            try:
                return word_vectors(_raw(data, "tokens"), cast("int", self.num_words), self.word_channels)
            except ValueError as error:
                raise ValueError(str(error).replace("'channels'", "'word_channels'")) from None
        if found.shape != (self.num_words, self.word_channels):
            raise ValueError(
                f"data['word'].x must have shape [{self.num_words}, {self.word_channels}], as the model was built for "
                f"(got {list(found.shape)}): set 'word_channels' to {found.size(-1)}"
            )
        return cast("Tensor", found)

    def reset_parameters(self) -> None:
        """Draws all layers anew, word vectors and aspects included; build the model anew to have these set."""
        for branch in self.branch.values():
            branch.reset_parameters()
        self.interest.reset_parameters()

    @abstractmethod
    def fuse(self, parts: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Representations of items, and the parts that each modality is rebuilt from.

        Args:
            parts: By modality ``[num_items, num_parts, channels]``.

        Returns:
            ``[num_items, channels]``, and by modality ``[num_items, num_parts, channels]``.
        """

    def encode(self, data: HeteroData, item: Tensor) -> Encoded:
        """Reads some items; a modality that an item lacks gives zeros.

        Args:
            data: The graph.
            item: ``[n]`` items.
        """
        codes, xs, has = {}, {}, {}
        for name, branch in self.branch.items():
            raw, has[name] = self._content(data, name, item)
            xs[name] = branch.read(raw)
            codes[name] = branch(xs[name])
        parts = {name: code.part * has[name][:, None, None] for name, code in codes.items()}
        fused, rebuilt = self.fuse(parts)
        return Encoded(fused, codes, rebuilt, xs, has)

    def forward(self, data: HeteroData) -> Representations:
        """Representations of all items; users have none without a candidate."""
        return Representations(None, torch.cat([out.item for out in self._encode_all(data)]))

    def _encode_all(self, data: HeteroData) -> Iterator[Encoded]:
        """All items, in blocks."""
        every = torch.arange(self.num_items, device=self.interest.attention.weight.device)
        return (self.encode(data, part) for part in every.split(ITEMS_AT_ONCE))

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """Cross entropy (Eq. 21) and the branches' terms."""
        history, ptr = self._histories(data, batch.user, batch.pos_item)
        candidate = torch.stack([batch.pos_item, batch.neg_item], dim=1)  # [B, 2]
        item, place = torch.cat([candidate.flatten(), history]).unique(return_inverse=True)
        out = self.encode(data, item)
        of_candidate, of_history = place.split([candidate.numel(), history.numel()])
        score = self.interest(out.item, of_candidate.view_as(candidate), of_history, ptr)
        return {"bce": self.prediction_weight * bce_loss(*score.unbind(1)), **self.content_losses(data, item, out)}

    def content_losses(self, data: HeteroData, item: Tensor, out: Encoded) -> dict[str, Tensor]:
        """The branches' terms, summed over modalities: means over the items that have a modality."""
        losses: dict[str, Tensor] = {}
        for name, branch in self.branch.items():
            kept = out.has[name].nonzero().flatten()
            if self.rebuilt_items is not None and kept.numel() > self.rebuilt_items:
                kept = kept[torch.randperm(kept.numel(), device=kept.device)[: self.rebuilt_items]]
            terms = branch.losses(out.x[name][kept], out.code[name].of(kept), out.part[name][kept])
            if isinstance(branch, AspectBranch):
                terms["orthogonality"] = orthogonality_loss(branch.aspect)
            for term, value in terms.items():
                weight = self.kl_weight if term == "kl" else 1.0
                losses[term] = losses.get(term, 0) + weight * value.sum() / max(1, value.numel())
        return losses

    def score(
        self, data: HeteroData, representations: Representations, user: Tensor, item: Tensor | None = None
    ) -> Tensor:
        """Scores of candidates for the users' histories, in blocks of users where candidates are theirs alone."""
        table = representations.item
        if item is None:
            item = torch.arange(self.num_items, device=table.device)
        if item.dim() == 1:
            return self.interest.score_all(table, item, *self._histories(data, user))
        block = max(1, NUMBERS_AT_ONCE // max(1, self.max_history * item.size(1) * table.size(1)))
        scores = [
            self.interest(table, candidate, *self._histories(data, part))
            for part, candidate in zip(user.split(block), item.split(block), strict=True)
        ]
        return torch.cat(scores) if scores else table.new_empty(item.shape)

    @torch.no_grad()
    def _contributions(self, data: HeteroData, user: int, item: int) -> tuple[Tensor, Contributions]:
        """A user's history and what it and an item gave to the item's score."""
        self.check_data(data)
        check_int(0, user=user, item=item)
        for name, value, size in (("user", user, self.num_users), ("item", item, self.num_items)):
            if value >= size:
                raise ValueError(f"'{name}' must lie in 0..{size - 1} (got {value})")
        with evaluating(self):
            history, _ = self._histories(data, torch.tensor([user], device=self.interest.attention.weight.device))
            table = self.encode(data, torch.cat([history.new_tensor([item]), history])).item
            return history, self.interest.contributions(table[0], table[1:])

    def _content(self, data: HeteroData, name: str, item: Tensor) -> tuple[Tensor, Tensor]:
        """What some items have of a modality, and which of them have it."""
        branch = self.branch[name]
        if isinstance(branch, AspectBranch) and branch.word is not None:
            tokens, last = _raw(data, "tokens")[item], branch.word.size(0) - 1
            if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) <= last:
                raise ValueError(
                    f"data['item'].tokens must lie in 0..{last}, as the model was built for (got {int(tokens.min())}.."
                    f"{int(tokens.max())})"
                )
            return tokens, (tokens > 0).any(1)
        if isinstance(branch, ImageVAE):
            x = _raw(data, "image")
            if list(x.shape[1:]) != self.image_shape:
                raise ValueError(
                    f"data['item'].image must hold pictures of {self.image_shape}, as the model was built for (got "
                    f"{list(x.shape[1:])})"
                )
        else:
            x = item_features(data, name, self.in_channels[name])
        mask = modality_masks(data, [name]).get(name)
        has = torch.ones_like(item, dtype=torch.bool) if mask is None else mask[item]
        return x[item], has

    def _histories(self, data: HeteroData, user: Tensor, left_out: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Items of the users' histories without the one that is left out, and where each history starts.

        Of those longer than ``max_history``, a random part in training mode, else one that is spread evenly.
        """
        graph = interaction_operator(data)
        _, entry = csr_entries(graph.rowptr_t.long(), user)
        item = graph.col_t[entry].long()
        ptr = F.pad(graph.rowptr_t.diff().long()[user].cumsum(0), (1, 0))
        if left_out is not None:
            item, ptr = kept_entries(item, ptr, item != left_out[segment_rows(ptr)])
        row, length = segment_rows(ptr), ptr.diff()
        if not bool((length > self.max_history).any()):
            return item, ptr
        if self.training:  # shuffle within the rows
            order = (row + torch.rand(row.numel(), device=row.device, dtype=torch.float64)).argsort()
            item = item[order]
        place, share = torch.arange(row.numel(), device=row.device) - ptr[row], length[row].clamp_min(1)
        kept = (place + 1) * self.max_history // share > place * self.max_history // share
        return kept_entries(item, ptr, kept)


def side_by_side(parts: dict[str, Tensor]) -> Tensor:
    """``[num_items, channels]``, all parts of all modalities."""
    return torch.cat([part.flatten(1) for part in parts.values()], dim=-1)


def modality_names(in_channels: dict[str, int], image_shape: list[int] | None, num_words: int | None) -> list[str]:
    """Modalities that are read as features or raw.

    Raises:
        ValueError: If there is none, or a size is out of range.
    """
    check_channels(in_channels)
    if image_shape is not None:
        if not isinstance(image_shape, list | tuple) or len(image_shape) != 3:
            raise ValueError(f"'image_shape' must be channels, height and width (got {image_shape!r})")
        for size in image_shape:
            check_int(1, image_shape=size)
    if num_words is not None:
        check_int(2, num_words=num_words)
    raw = {IMAGE: image_shape is not None, TEXT: num_words is not None}
    names = sorted({*in_channels, *(name for name, is_there in raw.items() if is_there)})
    if not names:
        raise ValueError(
            "'in_channels' names no modality: the model needs item features x_<modality>, images or tokens"
        )
    check_modality_names(names)
    return names


def _raw(data: HeteroData, key: str) -> Tensor:
    """Raw content of all items.

    Raises:
        ValueError: If the data lacks it, or it is not a row for each item.
    """
    x, num_items = data[ITEM].get(key), data[ITEM].num_nodes
    wanted, shape = {
        "image": (torch.uint8, "[num_items, colours, height, width]"),
        "tokens": (torch.int64, "[num_items, T]"),
    }[key]
    if not isinstance(x, Tensor) or (x.dtype, x.dim()) != (wanted, len(shape.split())) or len(x) != num_items:
        found = f"{x.dtype}, {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"data['item'].{key} must be a {wanted} tensor of shape {shape} (got {found})")
    return x
