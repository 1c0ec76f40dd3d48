"""Messages to and from items without interactions."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import interactions, num_users_items, with_interactions
from pyg_mmrec.utils.checks import check_int
from pyg_mmrec.utils.new_items import mean_of_nearest
from pyg_mmrec.utils.operators import OPERATOR


class LinkColdItems(BaseTransform):
    """Lets messages pass between an item without interactions and the users who like items with similar features.

    Where items are what their users' messages make them, one without interactions stays so small that it is ranked
    below all others. Here it is linked to the ``num_links`` users with the most interactions with its nearest items,
    those of its k nearest items by cosine in each modality that have some. Only the operator that models propagate
    over changes: ``edge_index``, what was seen, and so what is excluded, graded or counted as popular, stays as it is.

    For a trained model that ranks items which came after training (:meth:`~pyg_mmrec.models.Recommender.extend`), not
    for training. Models that do not propagate over interactions are not changed by it.

    Args:
        num_links: Users for each such item; more of them rank it higher, at the cost of others (default: 20).
        k: Similar items for each of them and modality (default: 10).

    Raises:
        ValueError: If an argument is out of range; when applied, if the data has no features, or no interactions.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 3
        >>> data['item'].x_text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 1], [0, 1]])
        >>> from pyg_mmrec.utils import interaction_operator
        >>> interaction_operator(LinkColdItems(num_links=1, k=1)(data)).to_dense()[2] > 0
        tensor([ True, False])
    """

    def __init__(self, num_links: int = 20, k: int = 10) -> None:
        check_int(1, num_links=num_links, k=k)
        self.num_links = num_links
        self.k = k

    def forward(self, data: HeteroData) -> HeteroData:
        """Holds the operator with the links on the data."""
        edges = interactions(data)
        is_cold = torch.bincount(edges[1], minlength=num_users_items(data)[1]) == 0
        if is_cold.any():
            linked = with_interactions(data, torch.cat([edges, self._links(data, is_cold)], dim=1))
            data[INTERACTS][OPERATOR] = linked[INTERACTS][OPERATOR]
        return data

    def _links(self, data: HeteroData, is_cold: Tensor) -> Tensor:
        """The edges from users to items without interactions."""
        user, item = (part.cpu().numpy() for part in interactions(data))
        num_users, num_items = num_users_items(data)
        cold, known = (mask.nonzero().view(-1).cpu().numpy() for mask in (is_cold, ~is_cold))
        mean = mean_of_nearest(data, is_cold, self.k)
        from_known = scipy.sparse.csr_matrix(
            (mean.value.cpu().numpy(), mean.col.cpu().numpy(), mean.rowptr.cpu().numpy()), shape=(len(cold), len(known))
        )
        liked = scipy.sparse.csr_matrix((np.ones(len(user), np.float32), (item, user)), shape=(num_items, num_users))
        weight = scipy.sparse.csr_matrix(from_known @ liked[known]).tocoo()
        order = np.lexsort((weight.col, -weight.data, weight.row))  # ties by the user's number
        row, users = weight.row[order], weight.col[order]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        kept = place < self.num_links
        found = np.stack([users[kept].astype(np.int64), cold[row[kept]]])
        return torch.from_numpy(found).to(is_cold.device)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_links={self.num_links}, k={self.k})"
