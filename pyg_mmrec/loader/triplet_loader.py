"""Batches of (user, positive item, negative item)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.loader._shared import SharedBatches
from pyg_mmrec.typing import INTERACTS, Triplets
from pyg_mmrec.utils import num_users_items
from pyg_mmrec.utils.hetero import checked_edges
from pyg_mmrec.utils.negatives import NegativeSampler
from pyg_mmrec.utils.seeds import derive_seed


class TripletLoader(SharedBatches):
    """One pass over the train interactions in random order, with one negative for each, drawn anew every epoch.

    The order of the batches and the negatives follow from ``(seed, epoch)`` alone, so an interrupted epoch can be
    taken up at any batch. The last, partial batch is kept (published protocol).

    Args:
        data: The train view of a split: trains on ``edge_label_index`` where there is one, else on ``edge_index``;
            negatives are items of the train edges that the user has no train edge to.
        batch_size: Interactions in a batch over all processes (default: 2048, the published protocol's); ``'auto'`` for
            a 256th of them, but at least 2048, so that an epoch on the whole graph costs in proportion to its size.
        seed: Seed of order and negatives.
        rank: Which process this is.
        world_size: Number of processes; each gets every ``world_size``-th interaction of a batch.

    Raises:
        ValueError: If there is nothing to train on, an argument is out of range, the edges do not fit the nodes, or a
            user has interacted with every item.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 3
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 1], [0, 2, 1]])
        >>> loader = TripletLoader(data, batch_size=2)
        >>> len(loader), [batch.user.numel() for batch in loader.epoch(0)]
        (2, [2, 1])
    """

    def __init__(
        self,
        data: HeteroData,
        batch_size: int | Literal["auto"] = 2048,
        seed: int = 0,
        *,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(batch_size, seed, rank, world_size)
        edge_index = checked_edges(data, INTERACTS)
        labelled = "edge_label_index" in data[INTERACTS]
        self.user, self.item = checked_edges(data, INTERACTS, "edge_label_index") if labelled else edge_index
        self.num_examples = int(self.user.numel())
        if self.num_examples == 0:
            raise ValueError("the data has no train interactions: check the split's labels")
        num_users, num_items = num_users_items(data)
        self.negatives = NegativeSampler(edge_index, num_users, num_items)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Triplets]:
        """The batches of an epoch, from batch ``start`` on."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        perm = torch.randperm(self.user.numel(), generator=generator).to(self.user.device)
        user, pos_item = self.user[perm], self.item[perm]
        neg_item = self.negatives(user, generator)
        for part in self._parts(start):
            yield Triplets(user[part], pos_item[part], neg_item[part])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_examples} interactions, batch_size={self.batch_size})"
