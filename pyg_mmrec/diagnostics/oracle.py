"""The ceiling on planted data."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models import Recommender, Representations
from pyg_mmrec.typing import ITEM, USER, Triplets


class PlantedOracle(Recommender):
    """Ranks items by the probabilities that the data were drawn from: no model can do better on average.

    Reads ``data['user'].preference`` and ``data['item'].affinity`` of :class:`~pyg_mmrec.datasets.AttributeShop`. There
    is nothing to train.

    Args:
        num_users: Number of users.
        num_items: Number of items.

    Raises:
        ValueError: In ``forward``, if the data carry no planted truth.
    """

    def forward(self, data: HeteroData) -> Representations:
        """The planted preferences and affinities; their inner product is the probability of an interaction."""
        if "preference" not in data[USER] or "affinity" not in data[ITEM]:
            raise ValueError("the data carry no planted truth, data['user'].preference and data['item'].affinity")
        return Representations(data[USER].preference, data[ITEM].affinity)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """No terms."""
        return {}
