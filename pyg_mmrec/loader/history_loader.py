"""Batches of users whose histories are split in what is shown and what is predicted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.loader._shared import SharedBatches
from pyg_mmrec.typing import INTERACTS, Histories
from pyg_mmrec.utils import NegativeSampler, csr_entries, num_users_items, to_csr
from pyg_mmrec.utils.checks import check_between, check_int
from pyg_mmrec.utils.hetero import checked_edges
from pyg_mmrec.utils.seeds import derive_seed


class HistoryLoader(SharedBatches):
    """Deals the users out to batches, anew in each epoch, each with its train items, of which some are hidden.

    What a model builds a user's vector from is what is shown, what it predicts is what is hidden: the item that is
    predicted is never in its own history. The order, the split and the negative items follow from ``(seed, epoch)``
    alone, whatever the batch size. Users without train items are left out; those with one item keep it. On several
    processes a mean over hidden items is weighed by users too, so that it is that of one process only where all users
    hide equally many.

    Args:
        data: The train view; histories are its ``edge_index``.
        batch_size: Users in a batch, over all processes (default: 2048); ``'auto'`` for a 256th of them, but at least
            2048.
        seed: Seed of order, split and negatives.
        hidden_share: Share of a history that is hidden, rounded, but at least one item and not all (default: 0.5).
        num_negatives: Negative items for each hidden one (default: 1).
        rank: Which process this is.
        world_size: Number of processes; each gets every ``world_size``-th user of a batch.

    Raises:
        ValueError: If no user has two train items, an argument is out of range, the edges do not fit the nodes, or a
            user has interacted with every item.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 4
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 1, 1], [0, 2, 1, 3]])
        >>> batch = next(HistoryLoader(data).epoch(0))
        >>> batch.item.view(2, 2)[batch.user.argsort()], batch.hidden.view(2, 2).sum(1)
        (tensor([[0, 2],
                [1, 3]]), tensor([1, 1]))
    """

    def __init__(
        self,
        data: HeteroData,
        batch_size: int | Literal["auto"] = 2048,
        seed: int = 0,
        *,
        hidden_share: float = 0.5,
        num_negatives: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(batch_size, seed, rank, world_size)
        check_int(1, num_negatives=num_negatives)
        check_between(hidden_share=hidden_share)
        edge_index = checked_edges(data, INTERACTS).unique(dim=1)
        num_users, num_items = num_users_items(data)
        self.ptr, self.item = to_csr(edge_index[0], edge_index[1], num_users)
        count = self.ptr.diff()
        if not (count > 1).any():
            raise ValueError("no user has two train items, one to show and one to predict: check the split's labels")
        self.row = torch.arange(num_users, device=count.device).repeat_interleave(count)
        self.num_hidden = (count * hidden_share).round().long().clamp_min(1).minimum(count - 1).clamp_min(0)
        self.user = count.nonzero().flatten()
        self.num_examples = int(self.user.numel())
        self.negatives = NegativeSampler(edge_index, num_users, num_items)
        self.hidden_share = hidden_share
        self.num_negatives = num_negatives

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Histories]:
        """The batches of an epoch, from batch ``start`` on."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
        user = self.user[torch.randperm(self.num_examples, generator=generator).to(self.user.device)]
        hidden = self._split(generator)
        negative = self.item.new_zeros(self.item.numel(), self.num_negatives)
        owner = self.row[hidden].repeat_interleave(self.num_negatives)
        negative[hidden] = self.negatives(owner, generator).view(-1, self.num_negatives)
        for part in self._parts(start):
            chosen = user[part]
            row, entry = csr_entries(self.ptr, chosen)
            ptr = torch.nn.functional.pad(torch.bincount(row, minlength=chosen.numel()).cumsum(0), (1, 0))
            shown = hidden[entry]
            yield Histories(chosen, ptr, self.item[entry], shown, negative[entry[shown]])

    def _split(self, generator: torch.Generator) -> Tensor:
        """``[num_entries]`` bool, which are hidden: of each user the first ones in a random order."""
        key = torch.rand(self.item.numel(), generator=generator, dtype=torch.float64).to(self.item.device)
        order = (self.row + key).argsort()  # by user, then at random
        place = torch.arange(order.numel(), device=order.device) - self.ptr[self.row]
        hidden = torch.empty_like(order, dtype=torch.bool)
        hidden[order] = place < self.num_hidden[self.row]
        return hidden

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.num_examples} users, batch_size={self.batch_size})"
