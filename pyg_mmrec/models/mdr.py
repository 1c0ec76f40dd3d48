"""MDR."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear
from torch_geometric.data import HeteroData

from pyg_mmrec.models.content_din import ITEMS_AT_ONCE, TEXT, ContentDIN, Encoded, modality_names
from pyg_mmrec.nn import AttributeLayout, DisentangledFusion
from pyg_mmrec.nn.loss import leakage_loss
from pyg_mmrec.typing import ITEM
from pyg_mmrec.utils.checks import check_int, check_not_negative, check_share
from pyg_mmrec.utils.modes import evaluating


class ScoreExplanation(NamedTuple):
    """What a score is made of: ``bias``, and everything in ``candidate`` and ``history`` added up."""

    score: float  #: of the item for the user
    bias: float  #: of the piece of the predictor, linear there, that the pair falls into; other pairs may have another
    candidate: dict[str, float]  #: what the item's own attributes gave, the black box last
    item: Tensor  #: ``[n]`` the items of the user's history that were read
    history: dict[str, Tensor]  #: ``[n]`` by attribute, what it gave in each of them


class MDR(ContentDIN):
    r"""MDR: items as named attributes, read from images and texts with a few labels.

    From "Multimodal Disentangled Representation for Recommendation" (MDR, ICME 2021). An image is encoded by a
    variational autoencoder (Eq. 1), a text by attention and extractors of attributes (Eq. 2 and 3), each to a part for
    each attribute that it shows. The parts are fused attribute by attribute (Algorithm 1,
    :class:`~pyg_mmrec.nn.DisentangledFusion`) to :math:`\mathbf{r}_i`, from which image and text are rebuilt. An item's
    representation is :math:`\mathbf{r}_i`, a user that of its history as a candidate sees it
    (:class:`~pyg_mmrec.nn.DeepInterest`, Eq. 16 to 20). The objective is Eq. 22,

    .. math::
        \mathcal{L} = \gamma \mathcal{L}_{pred} + \frac{1}{|M|} \sum_{k \in M} \big( \mathcal{L}_{rec, k} +
        \beta \mathcal{L}_{KL, k} + \mathcal{L}_{text, k} + \mu \mathcal{L}_{ws, k} \big) + \eta \mathcal{L}_{reg}

    over the distinct items M of a batch: binary cross entropy (Eq. 21),
    :func:`~pyg_mmrec.nn.loss.reconstruction_loss` (Eq. 9), :func:`~pyg_mmrec.nn.loss.gaussian_kl` (Eq. 10),
    :func:`~pyg_mmrec.nn.loss.aspect_loss` and :func:`~pyg_mmrec.nn.loss.orthogonality_loss` (Eq. 15), cross entropy of
    the labels that are there (Eq. 13, a mean over these, so that :math:`\mu` means the same for few as for many),
    predicted from the part of an attribute in the modality that dominates it, and the norm of what fuses the black box
    (Eq. 4). ``information_weight=0`` is the paper's ablation, w/o IC.

    No term of the objective forbids other parts, such as that of an attribute without labels, to hold a labelled
    attribute as well. ``leakage_weight`` adds one, :func:`~pyg_mmrec.nn.loss.leakage_loss` of what the classifiers see
    in an item and all other parts as they are without sampling, the black box included.

    Any modalities will do: ``'text'`` is read as aspects, all others by a variational autoencoder. Raw images and words
    are read where the data holds them (``data['item'].image`` and ``.tokens``), features otherwise.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        layout: The attributes, an :class:`~pyg_mmrec.nn.AttributeLayout` or a dictionary of its arguments (default:
            :meth:`AttributeLayout.even`, nameless attributes).
        image_shape: Channels, height and width of raw images, None where there are none or features are read.
        num_words: Number of words of raw texts, with 0 for padding; None likewise.
        word_channels: Width of word vectors (default: 64).
        train_words: Whether word vectors are learned (default: False).
        part_channels: Dimensions c of each part (default: 8).
        alpha: :math:`\alpha`, what modalities that do not dominate an attribute count for it (default: 0.5).
        prediction_weight: :math:`\gamma` (default: 1; none of these weights is published).
        kl_weight: :math:`\beta` (default: 1).
        information_weight: :math:`\eta` (default: 0.01).
        label_weight: :math:`\mu` (default: 1).
        leakage_weight: Weight of the leakage of labelled attributes into other parts (default: 0, the paper's).
        max_history: Items of a history that are read (default: 50).
        rebuilt_items: Items of a batch, drawn at random, that are rebuilt from their parts, for speed (default: all).

    Raises:
        ValueError: If there is no modality, the layout names one that is not there or has no labelled attribute for
            ``leakage_weight``, or an argument is out of range; in ``forward`` and ``loss``, if the data lacks what the
            model was built for.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        layout: AttributeLayout | dict[str, Any] | None = None,
        image_shape: list[int] | None = None,
        num_words: int | None = None,
        word_channels: int = 64,
        train_words: bool = False,
        part_channels: int = 8,
        alpha: float = 0.5,
        prediction_weight: float = 1.0,
        kl_weight: float = 1.0,
        information_weight: float = 0.01,
        label_weight: float = 1.0,
        leakage_weight: float = 0.0,
        max_history: int = 50,
        rebuilt_items: int | None = None,
    ) -> None:
        names = modality_names(in_channels, image_shape, num_words)
        attributes = AttributeLayout.even(names) if layout is None else _layout(layout)
        unknown = {name for of in attributes.modalities.values() for name in of} - set(names)
        if unknown:
            raise ValueError(f"'layout' names the modalities {sorted(unknown)}, but the data has {names}")
        check_not_negative(
            information_weight=information_weight, label_weight=label_weight, leakage_weight=leakage_weight
        )
        if leakage_weight and not attributes.num_classes:
            raise ValueError("'leakage_weight' needs labelled attributes, which 'num_classes' of the layout names")
        check_share(alpha=alpha)
        check_int(1, part_channels=part_channels)
        super().__init__(
            num_users,
            num_items,
            in_channels,
            aspects={TEXT},
            num_parts={name: len(attributes.places(name)) for name in names if attributes.places(name)},
            image_shape=image_shape,
            num_words=num_words,
            word_channels=word_channels,
            train_words=train_words,
            part_channels=part_channels,
            item_channels=attributes.num_parts * part_channels,
            kl_weight=kl_weight,
            prediction_weight=prediction_weight,
            max_history=max_history,
            rebuilt_items=rebuilt_items,
        )
        self.layout = None if layout is None else attributes.to_dict()
        self.attributes = attributes
        self.alpha, self.information_weight = alpha, information_weight
        self.label_weight, self.leakage_weight = label_weight, leakage_weight
        self.fusion = DisentangledFusion(attributes, list(self.branch), part_channels, alpha)
        self.classifier = torch.nn.ModuleDict(
            {name: Linear(part_channels, number) for name, number in attributes.num_classes.items()}
        )

    def reset_parameters(self) -> None:
        """Draws all layers anew."""
        super().reset_parameters()
        self.fusion.reset_parameters()
        for module in self.classifier.values():
            module.reset_parameters()  # type: ignore[operator]

    def fuse(self, parts: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Algorithm 1: attributes, then the black box; a modality is rebuilt from those that it shows."""
        fused = self.fusion(parts)
        return fused.flatten(1), {name: fused[:, self.attributes.places(name)] for name in parts}

    def content_losses(self, data: HeteroData, item: Tensor, out: Encoded) -> dict[str, Tensor]:
        """The branches' terms, ``labels`` (Eq. 13), ``leakage`` and ``information`` (Eq. 4)."""
        losses = super().content_losses(data, item, out)
        seen = self._logits(out)
        if seen:
            losses["labels"] = self.label_weight * self._label_loss(data, item, out, seen)
        if self.leakage_weight > 0:
            losses["leakage"] = self.leakage_weight * self._leakage(out, seen)
        if self.information_weight > 0 and self.fusion.black_box is not None:
            losses["information"] = self.information_weight * self.fusion.information()
        return losses

    def _label_loss(self, data: HeteroData, item: Tensor, out: Encoded, seen: dict[str, Tensor]) -> Tensor:
        """Cross entropy of the labels that are there, a mean over these, summed over attributes (Eq. 12 and 13)."""
        total = out.item.new_zeros(())
        for attribute, logits in seen.items():
            has = out.has[self.attributes.modalities[attribute][0]]
            label = self._labels(data, attribute, item).masked_fill(~has, -1)  # nothing to tell it from
            entropy = F.cross_entropy(logits, label, ignore_index=-1, reduction="sum")
            total = total + entropy / (label >= 0).sum().clamp_min(1)
        return total

    def _leakage(self, out: Encoded, seen: dict[str, Tensor]) -> Tensor:
        """What other parts say of the labelled attributes, of items that show these."""
        means = {name: code.mean * out.has[name][:, None, None] for name, code in out.code.items()}
        fused: Tensor = self.fusion(means)
        places, total = list(self.attributes.modalities), fused.new_zeros(())
        for attribute, logits in seen.items():
            has = out.has[self.attributes.modalities[attribute][0]]
            others = [place for place in range(self.attributes.num_parts) if place != places.index(attribute)]
            total = total + leakage_loss(logits[has].softmax(1), fused[has][:, others].flatten(1))
        return total

    def _logits(self, out: Encoded) -> dict[str, Tensor]:
        """What the labelled attributes of items seem to be."""
        logits = {}
        for attribute, classify in self.classifier.items():
            first = self.attributes.modalities[attribute][0]
            row = self.attributes.places(first).index(list(self.attributes.modalities).index(attribute))
            logits[attribute] = classify(out.code[first].mean[:, row])
        return logits

    def _labels(self, data: HeteroData, attribute: str, item: Tensor) -> Tensor:
        """Labels of some items."""
        label = data[ITEM].get(f"attr_{attribute}")
        number = self.attributes.num_classes[attribute]
        if not isinstance(label, Tensor) or label.dtype != torch.int64 or label.shape != (self.num_items,):
            found = f"{label.dtype}, {list(label.shape)}" if isinstance(label, Tensor) else type(label).__name__
            raise ValueError(
                f"data['item'].attr_{attribute} must be an int64 tensor with a label for each item, -1 where there is "
                f"none (got {found})"
            )
        label = label[item]
        if label.numel() and not -1 <= int(label.min()) <= int(label.max()) < number:
            raise ValueError(
                f"data['item'].attr_{attribute} must lie in -1..{number - 1} (got {int(label.min())}.."
                f"{int(label.max())})"
            )
        return label

    @torch.no_grad()
    def labels(self, data: HeteroData) -> dict[str, Tensor]:
        """By labelled attribute, ``[num_items]`` what the items seem to be, -1 of those without the dominant modality.

        Args:
            data: The graph.
        """
        found: dict[str, list[Tensor]] = {name: [] for name in self.classifier}
        with evaluating(self):
            for out in self._encode_all(data):
                for name, logits in self._logits(out).items():
                    has = out.has[self.attributes.modalities[name][0]]
                    found[name].append(logits.argmax(1).masked_fill(~has, -1))
        return {name: torch.cat(label) for name, label in found.items()}

    @torch.no_grad()
    def parts(self, data: HeteroData, item: Tensor) -> dict[str, Tensor]:
        """The fused parts of items by attribute, ``[n, part_channels]`` each, and ``[n, ...]`` of the black box.

        Args:
            data: The graph.
            item: ``[n]`` items.
        """
        with evaluating(self):
            fused = torch.cat([self.encode(data, part).item for part in item.split(ITEMS_AT_ONCE)])
        return dict(zip(self.attributes.names, fused.split(self._widths(), dim=1), strict=True))

    def explain(self, data: HeteroData, user: int, item: int) -> ScoreExplanation:
        """What attributes of an item and of a user's history gave to the item's score; the numbers add up to it.

        The weights that the item gives to the history's items are taken as they are: what an attribute did to these
        is not told apart (:meth:`DeepInterest.contributions <pyg_mmrec.nn.DeepInterest.contributions>`).

        Args:
            data: The graph.
            user: Its index.
            item: The item's.

        Raises:
            ValueError: If there is no such user or item.
        """
        history, given = self._contributions(data, user, item)
        candidate = [float(part.sum()) for part in given.candidate.split(self._widths())]
        by_item = [part.sum(1) for part in given.history.split(self._widths(), dim=1)]
        names, bias = self.attributes.names, float(given.bias)
        score = bias + sum(candidate) + float(given.history.sum())
        return ScoreExplanation(
            score,
            bias,
            dict(zip(names, candidate, strict=True)),
            history,
            dict(zip(names, by_item, strict=True)),
        )

    def _widths(self) -> list[int]:
        """Dimensions of each attribute, and of the black box."""
        black_box = [self.attributes.num_black_box] if self.attributes.num_black_box else []
        return [self.part_channels * number for number in [1] * len(self.attributes.modalities) + black_box]


def _layout(layout: Any) -> AttributeLayout:
    if isinstance(layout, AttributeLayout):
        return layout
    try:
        return AttributeLayout(**layout)
    except TypeError:
        raise ValueError(
            f"'layout' must be an AttributeLayout or a dictionary of its arguments (got {layout!r})"
        ) from None
