"""Which attributes items have in which modalities, and how their parts are fused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import LeakyReLU, Linear, Sequential

from pyg_mmrec.nn.projection import check_modality_names
from pyg_mmrec.utils.checks import check_int, check_share

#: The name of what no attribute explains.
BLACK_BOX = "black_box"


@dataclass(frozen=True)
class AttributeLayout:
    """Which attributes items have, in which modalities each is seen, and which of them are labelled.

    Args:
        modalities: By attribute, the modalities that it is seen in, the dominant one first: of colour ``('image',
            'text')``, which the image shows best, of price ``('text',)``.
        num_classes: Of attributes that some items are labelled with (``data['item'].attr_<name>``, -1 where not known),
            the number of values.
        num_black_box: How many parts of each modality no attribute explains (default: 2).

    Raises:
        ValueError: If there is nothing in the layout, an attribute has no modality or one twice, or a labelled one is
            not in the layout.

    Example:
        >>> layout = AttributeLayout({'colour': ('image', 'text'), 'price': ('text',)}, {'colour': 8}, num_black_box=1)
        >>> layout.places('text'), layout.names
        ([0, 1, 2], ['colour', 'price', 'black_box'])
    """

    modalities: Mapping[str, Sequence[str]]
    num_classes: Mapping[str, int] = field(default_factory=dict)
    num_black_box: int = 2

    def __post_init__(self) -> None:
        check_int(0, num_black_box=self.num_black_box)
        for name, value in (("modalities", self.modalities), ("num_classes", self.num_classes)):
            if not isinstance(value, Mapping):
                raise ValueError(f"'{name}' must be a dictionary with attributes as keys (got {value!r})")
        check_modality_names(self.modalities)
        for attribute, names in self.modalities.items():
            if isinstance(names, str) or not names or len(set(names)) < len(names):
                raise ValueError(
                    f"attribute '{attribute}' must have a list of modalities, each once, the dominant one first (got "
                    f"{names!r})"
                )
        if BLACK_BOX in self.modalities:
            raise ValueError(f"an attribute cannot be called '{BLACK_BOX}', which is what no attribute explains")
        if not self.modalities and not self.num_black_box:
            raise ValueError("the layout is empty: name attributes, or give a 'num_black_box' above 0")
        for attribute, number in self.num_classes.items():
            if attribute not in self.modalities:
                raise ValueError(f"'num_classes' names '{attribute}', which is none of {sorted(self.modalities)}")
            check_int(2, **{f"num_classes['{attribute}']": number})

    @classmethod
    def even(cls, modalities: Sequence[str], num_own: int = 2, num_shared: int = 1) -> AttributeLayout:
        """Attributes without names: of each modality some that it has alone, and some that it shares with all others.

        Args:
            modalities: Names of the modalities.
            num_own: Attributes that a modality has alone (default: 2).
            num_shared: Attributes that it dominates and shares (default: 1; 0 where there is one modality).
        """
        own = {f"{name}_{place}": [name] for name in modalities for place in range(num_own)}
        shared = {
            f"{name}_shared_{place}": [name, *(other for other in modalities if other != name)]
            for name in (modalities if len(modalities) > 1 else [])
            for place in range(num_shared)
        }
        return cls({**own, **shared})

    @property
    def names(self) -> list[str]:
        """The attributes, then the black box where there is one."""
        return [*self.modalities, *([BLACK_BOX] if self.num_black_box else [])]

    @property
    def num_parts(self) -> int:
        """Parts of the fused representation: one for each attribute, and those of the black box."""
        return len(self.modalities) + self.num_black_box

    def places(self, modality: str) -> list[int]:
        """Which parts of the fused representation a modality has, in order."""
        own = [place for place, names in enumerate(self.modalities.values()) if modality in names]
        return own + list(range(len(self.modalities), self.num_parts))

    def to_dict(self) -> dict[str, Any]:
        """The layout as JSON can hold it."""
        return {
            "modalities": {attribute: list(names) for attribute, names in self.modalities.items()},
            "num_classes": dict(self.num_classes),
            "num_black_box": self.num_black_box,
        }


class DisentangledFusion(torch.nn.Module):
    r"""Fuses the parts of several modalities attribute by attribute.

    From "Multimodal Disentangled Representation for Recommendation" (Algorithm 1). With :math:`\mathbf{u}_j` the
    part of attribute j in the modality that dominates it and :math:`\mathbf{v}_j` those in the others,

    .. math::
        \mathbf{r}_j = \mathbf{u}_j + fc(fc([\mathbf{u}_j, \alpha \mathbf{v}_j])), \quad
        \mathbf{r}_j = \mathbf{u}_j \text{ where one modality has it}, \quad
        \mathbf{r}_{black} = fc(fc([\mathbf{s}_{black}, \mathbf{z}_{black}]))

    with a leaky rectifier between two fully connected layers.

    Args:
        layout: The attributes.
        modalities: Names of the modalities.
        channels: Dimensions c of each part.
        alpha: :math:`\alpha`, what modalities that do not dominate count (default: 0.5; the paper says from 0 to 1).

    Shapes:
        - **input:** by modality ``[num_items, len(layout.places(modality)), channels]``
        - **output:** ``[num_items, layout.num_parts, channels]``
    """

    def __init__(self, layout: AttributeLayout, modalities: Sequence[str], channels: int, alpha: float = 0.5) -> None:
        super().__init__()
        check_int(1, channels=channels)
        check_share(alpha=alpha)
        self.layout, self.names, self.channels, self.alpha = layout, list(modalities), channels, alpha
        self.fuse = torch.nn.ModuleDict(
            {
                attribute: _two_layers(len(names) * channels, channels)
                for attribute, names in layout.modalities.items()
                if len(names) > 1
            }
        )
        size = layout.num_black_box * channels
        self.black_box = _two_layers(len(self.names) * size, size) if size else None

    def reset_parameters(self) -> None:
        """Draws all layers anew."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.reset_parameters()

    def forward(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Fused parts of attributes, then of the black box."""
        place = {name: {j: row for row, j in enumerate(self.layout.places(name))} for name in self.names}
        fused = []
        for j, (attribute, names) in enumerate(self.layout.modalities.items()):
            first, *others = (parts[name][:, place[name][j]] for name in names)
            if others:
                weighed = torch.cat([first, *(self.alpha * other for other in others)], dim=-1)
                first = first + self.fuse[attribute](weighed)
            fused.append(first.unsqueeze(1))
        if self.black_box is not None:
            unexplained = [parts[name][:, -self.layout.num_black_box :].flatten(1) for name in self.names]
            fused.append(self.black_box(torch.cat(unexplained, dim=-1)).unflatten(1, (-1, self.channels)))
        return torch.cat(fused, dim=1)

    def information(self) -> Tensor:
        """Norm of all parameters that fuse the black box, the information constraint (Eq. 4)."""
        parameters = [] if self.black_box is None else list(self.black_box.parameters())
        if not parameters:
            return torch.zeros(())
        norm: Tensor = torch.linalg.vector_norm(torch.cat([parameter.flatten() for parameter in parameters]))
        return norm

    def extra_repr(self) -> str:  # noqa: D102
        return f"{self.layout.names}, channels={self.channels}, alpha={self.alpha}"


def _two_layers(in_channels: int, out_channels: int) -> Sequential:
    return Sequential(Linear(in_channels, in_channels), LeakyReLU(), Linear(in_channels, out_channels))
