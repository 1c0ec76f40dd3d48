"""User-user graph of common items."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_mmrec.typing import COOCCURS, INTERACTS
from pyg_mmrec.utils import num_users_items
from pyg_mmrec.utils.checks import check_int
from pyg_mmrec.utils.hetero import checked_edges

#: Products of interactions that are counted at a time; they bound the memory.
_BLOCK_PRODUCTS = 2**21


class UserCooccurrence(BaseTransform):
    r"""Links every user to the k users with the most items in common.

    The user co-occurrence graph of `"DualGNN: Dual Graph Neural Network for Multimedia Recommendation"
    <https://doi.org/10.1109/TMM.2021.3138298>`_. Edges ``('user', 'cooccurs', 'user')`` lead from a neighbour (row 0)
    to the user whose neighbour it is (row 1), most common items first and equal ones by their number. ``count`` holds
    the numbers of common items :math:`c_{uv}`, ``edge_weight`` their softmax over a user's neighbours:

    .. math::
        w_{uv} = \frac{\exp(c_{uv})}{\sum_{v' \in \mathcal{N}_u} \exp(c_{uv'})}

    Users without a common item with anyone get no edges. Counted are the items in ``edge_index``: apply it to a view of
    a split, where these are the train items, and not before, where held-out items would count. A graph that the data
    already has is replaced.

    Args:
        k: Most neighbours of each user (default: 40).

    Raises:
        ValueError: If ``k`` is out of range; when applied, if the data has no interactions.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 3, 3
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 0, 1, 1]])
        >>> graph = UserCooccurrence(k=2)(data)['user', 'cooccurs', 'user']
        >>> graph.edge_index
        tensor([[1, 2, 0, 2, 0, 1],
                [0, 0, 1, 1, 2, 2]])
        >>> graph.count
        tensor([2, 1, 2, 1, 1, 1])
        >>> graph.edge_weight
        tensor([0.7311, 0.2689, 0.7311, 0.2689, 0.5000, 0.5000])
    """

    def __init__(self, k: int = 40) -> None:
        check_int(1, k=k)
        self.k = k

    def forward(self, data: HeteroData) -> HeteroData:
        """Counts and links."""
        edges = checked_edges(data, INTERACTS).cpu().numpy()
        num_users, num_items = num_users_items(data)
        items = sp.csr_matrix((np.ones(edges.shape[1], np.int64), tuple(edges)), (num_users, num_items))
        items.data[:] = 1  # repeated interactions count once
        if COOCCURS in data.edge_types:
            del data[COOCCURS]
        device = data[INTERACTS].edge_index.device
        for key, value in zip(("edge_index", "count", "edge_weight"), _link(items, self.k), strict=True):
            data[COOCCURS][key] = torch.from_numpy(value).to(device)
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(k={self.k})"


def _link(items: sp.csr_matrix, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Edges, counts and weights, by blocks of users."""
    users = items.T.tocsr()
    products = items @ np.diff(users.indptr)  # by user
    block = np.cumsum(products) // _BLOCK_PRODUCTS
    starts = np.flatnonzero(np.diff(block, prepend=-1)).tolist()
    parts = [
        _nearest(items, users, start, stop, k) for start, stop in zip(starts, [*starts[1:], len(block)], strict=True)
    ]
    neighbor, user, count = np.concatenate(parts, axis=1)
    first = np.flatnonzero(np.diff(user, prepend=-1))  # the largest count of each user
    size = np.diff(first, append=len(user))
    weight = np.exp((count - np.repeat(count[first], size)).astype(np.float32))
    total = np.add.reduceat(weight, first) if len(first) else weight
    return np.stack([neighbor, user]), count, weight / np.repeat(total, size)


def _nearest(items: sp.csr_matrix, users: sp.csr_matrix, start: int, stop: int, k: int) -> NDArray[np.int64]:
    """Neighbours, users and counts of the users from ``start`` to ``stop``, sorted."""
    common = (items[start:stop] @ users).tocoo()
    other = common.row + start != common.col
    user, neighbor, count = (part[other].astype(np.int64) for part in (common.row, common.col, common.data))
    # One number for each pair, in the order that is wanted: by user, by falling count, by neighbour.
    num_users, num_counts = users.shape[1], items.shape[1] + 1
    key = np.sort((user * num_counts + num_counts - 1 - count) * num_users + neighbor)
    size = np.bincount(user, minlength=stop - start)
    place = np.arange(len(key)) - np.repeat(np.cumsum(size) - size, size)
    rest, neighbor = np.divmod(key[place < k], num_users)
    user, short = np.divmod(rest, num_counts)
    found: NDArray[np.int64] = np.stack([neighbor, user + start, num_counts - 1 - short])
    return found
