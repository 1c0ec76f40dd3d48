"""Known items that are like new ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import ITEM, feature_key, similar
from pyg_mmrec.utils.hetero import modalities, modality_masks, similar_modalities
from pyg_mmrec.utils.knn import usable_rows
from pyg_mmrec.utils.sparse import SparseOperator, normalized_weight

#: New items compared with all others at a time.
_BLOCK = 1024


def mean_of_nearest(data: HeteroData, is_new: Tensor, k: int) -> SparseOperator:
    """From known to new items, both numbered among their own: the mean over the nearest known items of each modality.

    Args:
        data: The graph.
        is_new: ``[num_items]`` bool.
        k: Known items for each new one and modality.

    Raises:
        ValueError: If the data has neither features nor item graphs.
    """
    names = modalities(data)
    graphs = similar_modalities(data)
    if names:
        edges = [_nearest(data, name, is_new, k) for name in names]
    elif graphs:
        edges = [_linked(data, name, is_new) for name in graphs]
    else:
        raise ValueError(
            "the data has no features x_<modality> and no item graphs to find items like the new ones: add some, or "
            "extend a model with rows='mean' or rows='zero'"
        )
    edge_index = torch.cat(edges, dim=1)
    num_known, num_new = int((~is_new).sum()), int(is_new.sum())
    weight = normalized_weight(edge_index, num_known, num_new, normalization="row")
    return SparseOperator.from_edge_index(edge_index, weight, num_src=num_known, num_dst=num_new)


def _nearest(data: HeteroData, name: str, is_new: Tensor, k: int) -> Tensor:
    """Edges from the k known items with the most similar features to each new one, both numbered among their own."""
    x = data[ITEM][feature_key(name)]
    usable = usable_rows(x, modality_masks(data, [name]).get(name))
    is_new = is_new.to(x.device)
    known = (usable[~is_new]).nonzero().view(-1)
    new = (usable[is_new]).nonzero().view(-1)
    k = min(k, known.numel())
    if not k or not new.numel():
        return torch.empty(2, 0, dtype=torch.int64, device=x.device)
    unit = F.normalize(x[~is_new][known].float(), dim=-1)
    found = [
        known[(F.normalize(block.float(), dim=-1) @ unit.t()).topk(k).indices] for block in x[is_new][new].split(_BLOCK)
    ]
    return torch.stack([torch.cat(found).flatten(), new.repeat_interleave(k)])


def _linked(data: HeteroData, name: str, is_new: Tensor) -> Tensor:
    """The edges of an item graph from known to new items, both numbered among their own."""
    source, target = data[similar(ITEM, name)].edge_index
    is_new = is_new.to(source.device)
    place = torch.where(is_new, is_new.cumsum(0), (~is_new).cumsum(0)) - 1
    kept = ~is_new[source] & is_new[target]
    return torch.stack([place[source[kept]], place[target[kept]]])
