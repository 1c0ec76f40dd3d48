"""Ranking by popularity."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import interactions


class Popularity(Recommender):
    """Recommends the items with the most train interactions to everybody: the floor for every other model.

    There is nothing to train.

    Args:
        num_users: Number of users.
        num_items: Number of items.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 3
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 1, 1], [2, 2, 0]])
        >>> Popularity.from_data(data).recommend(data, torch.tensor([0]), k=1)[1]
        tensor([[0]])
    """

    def forward(self, data: HeteroData) -> Representations:
        """Ones for users, numbers of interactions for items."""
        item = interactions(data)[1]
        count = torch.bincount(item, minlength=self.num_items).float().unsqueeze(-1)
        return Representations(count.new_ones(self.num_users, 1), count)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """No terms."""
        return {}
