"""Items for users of whom nothing is known."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils.checks import check_choice
from pyg_mmrec.utils.hetero import interactions, num_users_items

#: What users without interactions get.
Fallback = Literal["popular", "recent"]

#: Share of all interactions, the latest, that ``'recent'`` counts.
_RECENT = 0.1


def popular_items(data: HeteroData, k: int = 10, by: Fallback = "popular") -> tuple[Tensor, Tensor]:
    """The k items with the most interactions, of all or of the latest tenth.

    Among items with equal numbers of recent interactions the one with more in all comes first, then the one with the
    lower number.

    Args:
        data: The graph, such as the train view of a split.
        k: How many items (default: 10).
        by: ``'popular'`` (default) counts all interactions, ``'recent'`` the latest tenth by
            ``data['user', 'interacts', 'item'].time``, those at the same time as the first of them included.

    Returns:
        ``[k]`` numbers of interactions, as floats, and ``[k]`` items.

    Raises:
        ValueError: If an argument is out of range, or the data has no times to tell what is recent.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 3, 4
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 1, 2], [2, 2, 0]])
        >>> popular_items(data, k=2)
        (tensor([2., 1.]), tensor([2, 0]))
    """
    check_choice(get_args(Fallback), by=by)
    num_items = num_users_items(data)[1]
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= num_items:
        raise ValueError(f"'k' must lie in 1..{num_items}, the number of items (got {k})")
    item = interactions(data)[1]
    total = torch.bincount(item, minlength=num_items)
    count = total if by == "popular" else torch.bincount(item[_latest(data)], minlength=num_items)
    rank = count.double() + total.double() / (item.numel() + 1)
    order = rank.sort(descending=True, stable=True).indices[:k]
    return count[order].float(), order


def _latest(data: HeteroData) -> Tensor:
    """Which interactions are among the latest tenth."""
    time = data[INTERACTS].get("time")
    num_edges = interactions(data).size(1)
    if not isinstance(time, Tensor) or time.shape != (num_edges,) or not num_edges:
        raise ValueError(
            f"data{list(INTERACTS)}.time must have one entry for each of the {num_edges} interactions to tell what is "
            "recent: give the times, or take 'popular'"
        )
    return time >= time.sort(descending=True).values[max(round(num_edges * _RECENT), 1) - 1]
