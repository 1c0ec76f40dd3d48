"""Losses that are added to another model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations, UserItem, find_model
from pyg_mmrec.typing import ITEM, Triplets
from pyg_mmrec.utils.checks import check_channels


class PlugIn(Recommender):
    """Base class of models that train another one, ``base_model``, with more losses; it ranks as before.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        base: Name of the base model's class.
        base_args: The other arguments of its constructor.

    Raises:
        ValueError: If ``base`` is no model, or ``base_args`` do not fit it.
    """

    modal_graphs: ClassVar[tuple[str, ...]] = (ITEM,)  # some bases read them

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        base: str,
        base_args: dict[str, Any] | None,
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels)
        if not isinstance(base_args, dict | None):
            raise ValueError(f"'base_args' must be a dictionary of arguments (got {base_args!r})")
        self.in_channels = dict(in_channels)
        self.base, self.base_args = base, base_args
        try:
            cls = find_model(base)
        except ValueError as error:
            raise ValueError(f"'base': {error}") from None
        try:
            self.base_model = cls(**cls.sizes(num_users, num_items, self.in_channels), **(base_args or {}))
        except TypeError as error:
            raise ValueError(f"'base_args' do not fit {base}: {error}") from None
        self.two_lines = self.base_model.two_lines

    def start_from(self, data: HeteroData) -> None:
        """What the base model sets."""
        self.base_model.start_from(data)

    def forward(self, data: HeteroData) -> Representations:
        """What the base model gives."""
        out: Representations = self.base_model(data)
        return out

    def score(
        self, data: HeteroData, representations: Representations, user: Tensor, item: Tensor | None = None
    ) -> Tensor:
        """The base model's scores."""
        return self.base_model.score(data, representations, user, item)

    def score_vectors(self, representations: Representations) -> UserItem | None:
        """The base model's."""
        return self.base_model.score_vectors(representations)

    def resample(self, data: HeteroData, generator: torch.Generator) -> HeteroData:
        """The base model's graph of an epoch."""
        return self.base_model.resample(data, generator)

    def start_epoch(self, data: HeteroData, epoch: int, generator: torch.Generator) -> None:
        """What the base model changes."""
        self.base_model.start_epoch(data, epoch, generator)

    def auxiliary_parameters(self) -> Iterator[torch.nn.Parameter]:
        """The base model's."""
        return self.base_model.auxiliary_parameters()

    def auxiliary_loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """The base model's."""
        return self.base_model.auxiliary_loss(data, batch)
