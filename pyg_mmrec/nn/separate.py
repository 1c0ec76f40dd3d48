"""Separate learning of what modalities share and of what one has alone."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch.nn import Linear

from pyg_mmrec.nn.loss import CLUB, info_nce, negative_distance, symmetric_info_nce
from pyg_mmrec.nn.projection import check_modality_names
from pyg_mmrec.utils import take_rows, unit_rows
from pyg_mmrec.utils.checks import check_flag, check_int, check_not_negative, check_positive

#: How generic parts of two modalities are aligned.
Alignment: TypeAlias = Literal["solosim", "infonce"]
#: How the generic and the unique part of a modality are kept apart.
Distancing: TypeAlias = Literal["club", "negative"]


class SeparateLearning(torch.nn.Module):
    r"""Splits every modality's item representation in halves, one aligned across modalities, the other kept apart.

    From `"It is Never Too Late to Mend: Separate Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_ (Section 4.2; Table 3 adds it to other models). The first half of a
    representation is its generic part :math:`\mathbf{g}_m`, the second its unique part :math:`\mathbf{u}_m`.

    .. math::
        \mathcal{L} = \alpha \, \mathcal{L}_{align} + \frac{\beta}{M} \sum_m \mathcal{L}_{distance, m}

    Alignment (Eq. 16) is SoloSimLoss or symmetric InfoNCE on projections of generic parts, averaged over the pairs of
    modalities; text is the anchor of its pairs. Distancing (Eq. 15 or 30) bounds the mutual information of
    :math:`\mathbf{g}_m` and :math:`\mathbf{u}_m`, or pushes them apart, on 32 wide heads of both.

    In training mode the CLUB estimators are fitted to the heads before they bound them. Heads are standardised over
    the items before CLUB, without affine weights: otherwise they may shrink, which lowers the bound and changes
    nothing in the representations.

    Args:
        in_channels: Width of each modality's representation, at least 2.
        alignment: ``'solosim'`` (default, SEA-a and -b), ``'infonce'`` (-c and -d) or None.
        distancing: ``'club'`` (default, SEA-a and -c), ``'negative'`` (-b and -d) or None.
        align_weight: :math:`\alpha` (default: 0.012, the authors' for Amazon Clothing).
        distance_weight: :math:`\beta` (default: 0.006, the authors' for Amazon Clothing).
        temperature: :math:`\tau` (default: 0.2, the authors').
        align_items: Among how many items, drawn anew for each batch, the alignment is taken. All by default, which
            costs time in proportion to the square of their number; with fewer, an item has fewer negatives.
        shared_estimator: Whether one CLUB estimator is fitted on the pairs of modalities, generic to generic and unique
            to unique, and then bounds generic to unique, as in the authors' code; what it gives bounds nothing.
            By default each modality has its own, fitted on what it bounds.
        raw_heads: Whether heads enter CLUB as they are, as in the authors' code, and the negative distance without
            being normalised, as printed; the latter is unbounded below, which is warned of (default: False).
        estimator_lr: Learning rate of the estimators (default: 1e-4, the authors').
        estimator_steps: Steps of the estimators for each batch (default: 50, the authors').
        estimator_items: How many items, drawn anew for each batch, the estimators are fitted on. All by default; fewer
            make the fit cheaper in proportion, and noisier. The bound always is over all items.

    Shapes:
        - **input:** by modality ``[num_items, in_channels]``, optionally masks ``[num_items]`` by modality
        - **output:** by term a weighted scalar: ``align``, ``distance_<modality>``

    Raises:
        ValueError: If there is one modality alone and ``alignment`` is not None, or an argument is out of range.

    Example:
        >>> separate = SeparateLearning({'image': 64, 'text': 64})
        >>> losses = separate({'image': torch.randn(100, 64), 'text': torch.randn(100, 64)})
        >>> list(losses)
        ['align', 'distance_image', 'distance_text']
    """

    #: Widths of the projection before the alignment and of the heads before the distancing, the authors'.
    PROJECTION, HEAD = 64, 32

    def __init__(
        self,
        in_channels: Mapping[str, int],
        *,
        alignment: Alignment | None = "solosim",
        distancing: Distancing | None = "club",
        align_weight: float = 0.012,
        distance_weight: float = 0.006,
        temperature: float = 0.2,
        align_items: int | None = None,
        shared_estimator: bool = False,
        raw_heads: bool = False,
        estimator_lr: float = 1e-4,
        estimator_steps: int = 50,
        estimator_items: int | None = None,
    ) -> None:
        super().__init__()
        check_modality_names(in_channels)
        self.in_channels = dict(in_channels)
        self._check(alignment, distancing, align_weight, distance_weight, temperature)
        if shared_estimator and distancing == "club" and len(in_channels) < 2:
            raise ValueError("'shared_estimator' is fitted on pairs of modalities and needs two or more (got one)")
        check_flag(shared_estimator=shared_estimator, raw_heads=raw_heads)
        check_positive(estimator_lr=estimator_lr)
        check_int(0, estimator_steps=estimator_steps)
        if align_items is not None:
            check_int(2, align_items=align_items)
        if estimator_items is not None:
            check_int(2, estimator_items=estimator_items)
        if raw_heads and distancing == "negative":
            warnings.warn("the negative distance of raw heads has no lower bound: training diverges", stacklevel=2)
        self.alignment, self.distancing = alignment, distancing
        self.align_weight, self.distance_weight = align_weight, distance_weight
        self.temperature, self.align_items = temperature, align_items
        self.shared_estimator, self.raw_heads = shared_estimator, raw_heads
        self.estimator_steps, self.estimator_items = estimator_steps, estimator_items
        generic = {name: width // 2 for name, width in self.in_channels.items()}
        unique = {name: width - width // 2 for name, width in self.in_channels.items()}
        self.align_in = self._linears(generic if alignment else {}, self.PROJECTION)
        self.align_out = torch.nn.ModuleDict({name: self._projection() for name in generic if alignment})
        self.generic_head = self._linears(generic if distancing else {}, self.HEAD)
        self.unique_head = self._linears(unique if distancing else {}, self.HEAD)
        num_pairs = 1 if shared_estimator else len(in_channels)
        self.club = CLUB(num_pairs, self.HEAD, self.HEAD, lr=estimator_lr) if distancing == "club" else None

    def _check(
        self,
        alignment: str | None,
        distancing: str | None,
        align_weight: float,
        distance_weight: float,
        temperature: float,
    ) -> None:
        for name, width in self.in_channels.items():
            if width < 2 and (alignment or distancing):
                raise ValueError(f"modality '{name}' has {width} channel(s) and cannot be split in two")
        if alignment not in ("solosim", "infonce", None):
            raise ValueError(f"'alignment' must be 'solosim', 'infonce' or None (got {alignment!r})")
        if distancing not in ("club", "negative", None):
            raise ValueError(f"'distancing' must be 'club', 'negative' or None (got {distancing!r})")
        if alignment is not None and len(self.in_channels) < 2:
            raise ValueError(
                f"alignment needs two modalities or more (got {', '.join(self.in_channels) or 'none'}): "
                "set 'alignment' to None"
            )
        check_not_negative(align_weight=align_weight, distance_weight=distance_weight)
        check_positive(temperature=temperature)

    def _check_masks(self, masks: Mapping[str, Tensor]) -> None:
        """There must be items to take means over."""
        masks = {name: mask for name, mask in masks.items() if name in self.in_channels}
        for name, mask in masks.items():
            if int(mask.sum()) < 2:
                raise ValueError(f"modality '{name}' must be there for two items or more (got {int(mask.sum())})")
        for one, other in itertools.combinations(masks, 2) if self.alignment is not None else ():
            if not (masks[one] & masks[other]).any():
                raise ValueError(f"no item has both '{one}' and '{other}', so they cannot be aligned")

    def reset_parameters(self) -> None:
        """Draws everything anew."""
        for module in self.modules():
            if isinstance(module, (Linear, torch.nn.BatchNorm1d, CLUB)):
                module.reset_parameters()

    def first_layers(self, name: str) -> dict[str, tuple[Linear, slice]]:
        """The linear maps that read a modality's representation, and the columns that each reads.

        A model whose representation is itself a linear map may apply them to what lies before it
        (:func:`~pyg_mmrec.nn.composed_linear`) and call :meth:`losses` with their outputs.
        """
        half = self.in_channels[name] // 2
        layers = {}
        if self.alignment is not None:
            layers["align"] = (cast("Linear", self.align_in[name]), slice(0, half))
        if self.distancing is not None:
            layers["generic"] = (cast("Linear", self.generic_head[name]), slice(0, half))
            layers["unique"] = (cast("Linear", self.unique_head[name]), slice(half, None))
        return layers

    def forward(
        self, representations: Mapping[str, Tensor], masks: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The weighted terms.

        Args:
            representations: By modality ``[num_items, in_channels]``.
            masks: By modality ``[num_items]`` bool, which items have it; modalities that are not named, all have.
        """
        return self.losses(self.first_outputs(representations), masks)

    def first_outputs(self, representations: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        """The outputs of :meth:`first_layers` by modality and name, for representations that exist."""
        return {
            name: {key: layer(x[:, part]) for key, (layer, part) in self.first_layers(name).items()}
            for name, x in representations.items()
        }

    def losses(
        self, first: Mapping[str, Mapping[str, Tensor]], masks: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """The weighted terms from the outputs of :meth:`first_layers`, by modality and name."""
        masks = masks or {}
        self._check_masks(masks)
        losses = {}
        if self.alignment is not None:
            losses["align"] = self.align_weight * self._align(self._projected(first, masks), masks)
        if self.distancing is not None:
            scale = self.distance_weight / len(self.in_channels)
            for name, distance in self._distances(first, masks).items():
                losses[f"distance_{name}"] = scale * distance
        return losses

    def heads(
        self, first: Mapping[str, Mapping[str, Tensor]], masks: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor] | None, dict[str, Tensor] | None]:
        """Generic and unique heads by modality, ``[num_items, 32]`` each, for those who read the parts.

        Generic heads are the aligned projections where there are any, else those that are distanced; None where a part
        has no head.
        """
        distanced = [
            {name: outputs[part] for name, outputs in first.items()} if self.distancing is not None else None
            for part in ("generic", "unique")
        ]
        aligned = self._projected(first, masks or {}) if self.alignment is not None else None
        return aligned or distanced[0], distanced[1]

    def _projected(self, first: Mapping[str, Mapping[str, Tensor]], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The projected generic parts that are aligned, rows of length one; zeros where an item lacks the modality."""
        out = {}
        for name, project in self.align_out.items():
            x, mask = first[name]["align"], masks.get(name)
            if mask is None:
                out[name] = unit_rows(project(x))
            else:  # the others must not enter the batch statistics
                out[name] = x.new_zeros(x.size(0), self.HEAD).index_put(
                    (mask,), unit_rows(project(x[mask])).to(x.dtype)
                )
        return out

    def _align(self, generic: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Tensor:
        """Mean over the pairs of modalities (Eq. 16)."""
        contrast = info_nce if self.alignment == "solosim" else symmetric_info_nce
        terms = []
        for anchor, positive in itertools.combinations(_text_first(generic), 2):
            pair = [generic[anchor], generic[positive]]
            both = [masks[name] for name in (anchor, positive) if name in masks]
            if both:
                rows = torch.stack(both).all(0)
                pair = [x[rows] for x in pair]
            if self.align_items is not None and self.align_items < pair[0].size(0):
                rows = torch.randperm(pair[0].size(0), device=pair[0].device)[: self.align_items]
                pair = [take_rows(x, rows) for x in pair]
            terms.append(contrast(pair[0], pair[1], self.temperature))
        return torch.stack(terms).mean()

    def _distances(self, first: Mapping[str, Mapping[str, Tensor]], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By modality, the bound (Eq. 15) or the negative distance (Eq. 30)."""
        names = list(self.in_channels)
        if self.club is None:
            return {name: self._negative(first[name], masks.get(name)) for name in names}
        mask = self._stacked(masks, names, first[names[0]]["generic"])
        generic, unique = (
            self._standardized(torch.stack([first[name][part] for name in names]), mask)
            for part in ("generic", "unique")
        )  # [num_modalities, num_items, 32]
        if self.training:
            self._fit(self.club, generic, unique, mask)
        if not self.shared_estimator:
            return dict(zip(names, self.club(generic, unique, mask), strict=True))
        single = [None] * len(names) if mask is None else mask.split(1)
        parts = zip(names, generic.split(1), unique.split(1), single, strict=True)
        return {name: self.club(g, u, m).squeeze(0) for name, g, u, m in parts}

    def _negative(self, heads: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        generic, unique = heads["generic"], heads["unique"]
        if mask is not None:
            generic, unique = generic[mask], unique[mask]
        return negative_distance(generic, unique, normalized=not self.raw_heads)

    def _fit(self, club: CLUB, generic: Tensor, unique: Tensor, mask: Tensor | None) -> None:
        """Fits the estimators, on what they bound or, if shared, on the pairs of modalities."""
        if self.estimator_items is not None and self.estimator_items < generic.size(1):
            draw = torch.Generator().manual_seed(int(club.step))  # the same on every process
            items = torch.randperm(generic.size(1), generator=draw)[: self.estimator_items].to(generic.device)
            generic, unique = generic[:, items], unique[:, items]
            mask = None if mask is None else mask[:, items]
        if self.shared_estimator:
            names = list(self.in_channels)
            order = torch.tensor([names.index(name) for name in _text_first(names)], device=generic.device)
            one, other = torch.combinations(order).unbind(1)
            if mask is not None:
                mask = (mask[one] & mask[other]).repeat(2, 1).flatten().unsqueeze(0)
            generic, unique = (
                torch.cat([generic[side], unique[side]]).flatten(0, 1).unsqueeze(0) for side in (one, other)
            )
        club.fit(generic, unique, mask, self.estimator_steps)

    def _standardized(self, heads: Tensor, mask: Tensor | None) -> Tensor:
        """Zero mean and unit variance of each channel over the items that have the modality."""
        if self.raw_heads:
            return heads
        if mask is None:
            centered = heads - heads.mean(1, keepdim=True)
            variance = centered.square().mean(1, keepdim=True)
        else:
            counts = mask.unsqueeze(-1).to(heads.dtype)  # [num_modalities, num_items, 1]
            number = counts.sum(1, keepdim=True).clamp_min(1)
            centered = (heads - (heads * counts).sum(1, keepdim=True) / number) * counts
            variance = centered.square().sum(1, keepdim=True) / number
        return centered * (variance + 1e-5).rsqrt()

    @staticmethod
    def _stacked(masks: Mapping[str, Tensor], names: list[str], like: Tensor) -> Tensor | None:
        """``[num_modalities, num_items]``, or None where every item has every modality."""
        if not any(name in masks for name in names):
            return None
        every = torch.ones(like.size(0), dtype=torch.bool, device=like.device)
        return torch.stack([masks.get(name, every) for name in names])

    @staticmethod
    def _linears(widths: Mapping[str, int], out_channels: int) -> torch.nn.ModuleDict:
        return torch.nn.ModuleDict({name: Linear(width, out_channels) for name, width in widths.items()})

    def _projection(self) -> torch.nn.Sequential:
        """What follows the first layer of the projection: two hidden layers of 64 with batch normalisation."""
        width = self.PROJECTION
        return torch.nn.Sequential(
            torch.nn.BatchNorm1d(width),
            torch.nn.ReLU(),
            Linear(width, width),
            torch.nn.BatchNorm1d(width),
            torch.nn.ReLU(),
            Linear(width, self.HEAD),
        )

    def extra_repr(self) -> str:  # noqa: D102
        return f"alignment={self.alignment!r}, distancing={self.distancing!r}"


def _text_first(names: Iterable[str]) -> list[str]:
    """Modalities in order, but text is the anchor of its pairs."""
    return sorted(names, key=lambda name: (name != "text", name))
