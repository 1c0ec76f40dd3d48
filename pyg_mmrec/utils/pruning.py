"""Leaving out user-item edges."""

from __future__ import annotations

import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.utils.hetero import interactions, num_users_items
from pyg_mmrec.utils.operators import with_interactions


def degree_sensitive_pruning(data: HeteroData, pruning: float, generator: torch.Generator) -> HeteroData:
    r"""A view of the data without a share of its user-item edges, popular ends first; the rest is normalised anew.

    The edges that are kept are a weighted draw without replacement, :math:`p(u, i) \propto
    1 / \sqrt{|\mathcal{N}_u| |\mathcal{N}_i|}`.

    Args:
        data: The graph.
        pruning: Share of the edges that is left out, from 0 to below 1.
        generator: Source of all randomness, on the CPU.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 2
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]])
        >>> view = degree_sensitive_pruning(data, 0.25, torch.Generator().manual_seed(0))
        >>> view['user', 'interacts', 'item'].edge_index.size(1)
        3
    """
    edge_index = interactions(data)
    num_kept = int(round(edge_index.size(1) * (1 - pruning), 6))  # 200 * (1 - 0.8) is 39.99...
    num_users, num_items = num_users_items(data)
    user, item = edge_index
    degree_user = torch.bincount(user, minlength=num_users)[user]
    degree_item = torch.bincount(item, minlength=num_items)[item]
    # Exponential times over their rates: the smallest are a weighted draw without replacement.
    time = torch.empty(edge_index.size(1)).exponential_(generator=generator).to(edge_index.device)
    kept = (time * (degree_user * degree_item).sqrt()).topk(num_kept, largest=False).indices.sort().values
    return with_interactions(data, edge_index[:, kept])
