"""Reading a :class:`~torch_geometric.data.HeteroData` by the package's key conventions."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS, ITEM, USER, EdgeType, NodeType, feature_key, mask_key


def modalities(data: HeteroData, node_type: str = ITEM) -> list[str]:
    """Names of the modalities whose features a node type carries, sorted.

    Args:
        data: The graph; features are the attributes ``x_<modality>``.
        node_type: ``'item'`` (default) or ``'user'``.

    Example:
        >>> import torch
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data['item'].x_text = torch.rand(3, 4)
        >>> data['item'].x_image = torch.rand(3, 8)
        >>> modalities(data)
        ['image', 'text']
    """
    return sorted(key[2:] for key in data[node_type] if key.startswith("x_"))


def similar_modalities(data: HeteroData, node_type: str = ITEM) -> list[str]:
    """Names of the modalities that have a graph ``similar_<modality>`` on a node type, sorted.

    Args:
        data: The graph.
        node_type: ``'item'`` (default) or ``'user'``.
    """
    prefix = "similar_"
    return sorted(
        relation[len(prefix) :]
        for source, relation, target in data.edge_types
        if source == target == node_type and relation.startswith(prefix)
    )


def num_users_items(data: HeteroData) -> tuple[int, int]:
    """Number of users and of items, always read from the explicit ``num_nodes``.

    Raises:
        ValueError: If one of them is not set, since PyG does not infer it from ``x_<modality>``, or is no int.
    """
    return _num_nodes(data, USER), _num_nodes(data, ITEM)


def _num_nodes(data: HeteroData, node_type: str) -> int:
    size = data[node_type].get("num_nodes")
    if size is None:
        raise ValueError(f"data['{node_type}'].num_nodes is not set; set it to the number of {node_type}s")
    try:
        return operator.index(size)
    except TypeError:
        raise ValueError(f"data['{node_type}'].num_nodes must be an int (got {size!r})") from None


def _num_rows(data: HeteroData) -> int:
    """How many rows attributes of items have: one for each, those included that a sample leaves out."""
    rows: int = data[ITEM].get("num_rows") or _num_nodes(data, ITEM)
    return rows


def graph_ids(data: HeteroData, node_type: NodeType, index: Tensor | None = None) -> Tensor | None:
    """Numbers in the whole graph of nodes of a view: rows of tables and attributes.

    Args:
        data: The graph or a sample of it (:class:`pyg_mmrec.loader.SubgraphSampler`).
        node_type: ``'user'`` or ``'item'``.
        index: Nodes, of any shape; all by default.

    Returns:
        ``index`` itself where the data is the whole graph, and so None for all nodes.

    Example:
        >>> data = HeteroData()
        >>> data['user'].n_id = torch.tensor([7, 3])
        >>> graph_ids(data, 'user', torch.tensor([1, 1])), graph_ids(data, 'item', torch.tensor([2]))
        (tensor([3, 3]), tensor([2]))
    """
    n_id: Tensor | None = data[node_type].get("n_id")
    if n_id is None:
        return index
    return n_id if index is None else n_id[index]


def interactions(data: HeteroData) -> Tensor:
    """The ``[2, num_edges]`` user-item edges that messages may pass over.

    Raises:
        ValueError: If the graph has no ``('user', 'interacts', 'item')`` edges.
    """
    if INTERACTS not in data.edge_types or "edge_index" not in data[INTERACTS]:
        raise ValueError(f"the data has no {INTERACTS} edge_index; give it the interactions as user-item edges")
    edge_index: Tensor = data[INTERACTS].edge_index
    return edge_index


def checked_edges(data: HeteroData, edge_type: EdgeType, key: str = "edge_index") -> Tensor:
    """The ``[2, num_edges]`` edges of a type, once they are known to lead from node to node.

    Reads all of them: for the start of a training or an evaluation, not for every step.

    Args:
        data: The graph.
        edge_type: Which edges.
        key: ``'edge_index'`` (default) or ``'edge_label_index'``.

    Raises:
        ValueError: If they are no int64 tensor of that shape, name a node that is not there, or have a weight that is
            not finite; if ``edge_label`` says that some of ``edge_label_index`` are no edges.
    """
    if edge_type == INTERACTS:
        interactions(data)  # there have to be some
    name, edges = f"data{list(edge_type)}.{key}", data[edge_type].get(key)
    if not isinstance(edges, Tensor) or edges.dtype != torch.int64 or edges.dim() != 2 or edges.size(0) != 2:
        found = f"{edges.dtype}, {list(edges.shape)}" if isinstance(edges, Tensor) else type(edges).__name__
        raise ValueError(f"{name} must be an int64 tensor of shape [2, num_edges] (got {found})")
    sizes = dict(zip((USER, ITEM), num_users_items(data), strict=True))
    for node_type, node in zip((edge_type[0], edge_type[2]), edges, strict=True):
        if node.numel() and not 0 <= int(node.min()) <= int(node.max()) < sizes[node_type]:
            raise ValueError(
                f"{name} names {node_type}s outside 0..{sizes[node_type] - 1} "
                f"(got {int(node.min())}..{int(node.max())}); correct the ids or data['{node_type}'].num_nodes"
            )
    label = data[edge_type].get("edge_label")
    if key == "edge_label_index" and isinstance(label, Tensor) and bool((label == 0).any()):
        raise ValueError(
            f"data{list(edge_type)}.edge_label says that {int((label == 0).sum())} of the pairs in 'edge_label_index' "
            f"are no interactions: split with RandomLinkSplit(..., neg_sampling_ratio=0.0), or with a split of "
            f"pyg_mmrec.transforms; negative items are sampled in training"
        )
    weight = data[edge_type].get("edge_weight")
    if key == "edge_index" and weight is not None and not weight.isfinite().all():
        number = int((~weight.isfinite()).sum())
        raise ValueError(f"data{list(edge_type)}.edge_weight of {number} edges is NaN or infinite; drop these edges")
    return edges


def modality_masks(data: HeteroData, names: Sequence[str]) -> dict[str, Tensor]:
    """Which items have a modality, ``[num_items]`` bool, for those of the named modalities that some items lack.

    Args:
        data: The graph; masks are the attributes ``mask_<modality>``.
        names: The modalities.

    Raises:
        ValueError: If a mask is no bool tensor with one entry per item.
    """
    masks = {name: _mask(data, name) for name in names}
    return {name: mask for name, mask in masks.items() if mask is not None}


def item_features(data: HeteroData, modality: str, in_channels: int) -> Tensor:
    """The ``[num_items, in_channels]`` raw features of a modality.

    Args:
        data: The graph.
        modality: Its name.
        in_channels: The width that the reader was built for.

    Raises:
        ValueError: If the data lacks the modality, holds it in another width or not as one float row per item, or its
            mask has another form.
    """
    x = _features(data, modality)
    _mask(data, modality)
    if x is None or x.size(1) != in_channels:
        found = "nothing" if x is None else f"width {x.size(1)}"
        raise ValueError(
            f"data['item'].{feature_key(modality)} must have width {in_channels}, as the model was built for "
            f"(got {found})"
        )
    return x


def item_channels(data: HeteroData) -> dict[str, int]:
    """Width of the features of each modality that the items carry.

    Raises:
        ValueError: If some are not one float row per item.
    """
    found = {name: _features(data, name) for name in modalities(data)}
    return {name: x.size(1) for name, x in found.items() if x is not None}


def item_categories(data: HeteroData, num_categories: int) -> Tensor:
    """The ``[num_items]`` categories of the items, -1 where unknown.

    Args:
        data: The graph.
        num_categories: The number of categories that the reader was built for.

    Raises:
        ValueError: If the data lacks categories, has more of them, or not one int64 for each item.
    """
    category = _categories(data)
    if category is None or int(category.max()) >= num_categories:
        found = "nothing" if category is None else f"{int(category.max())}"
        raise ValueError(
            f"data['item'].category must lie in -1..{num_categories - 1}, as the model was built for (got {found})"
        )
    return category


def count_categories(data: HeteroData) -> int:
    """Number of categories of the items, one more than the largest; 0 where the data has none or knows none.

    Raises:
        ValueError: If they are not one int64 for each item, -1 or more.
    """
    category = _categories(data)
    return 0 if category is None else int(category.max()) + 1


def _categories(data: HeteroData) -> Tensor | None:
    category: Tensor | None = data[ITEM].get("category")
    num_items, name = _num_rows(data), "data['item'].category"
    if category is None or not num_items:
        return None
    if not isinstance(category, Tensor) or category.dtype != torch.int64 or category.shape != (num_items,):
        found = f"{list(category.shape)}, {category.dtype}" if isinstance(category, Tensor) else type(category).__name__
        raise ValueError(f"{name} must be an int64 tensor of shape [{num_items}] (got {found})")
    if int(category.min()) < -1:
        raise ValueError(f"{name} must not be below -1, which stands for unknown (got {int(category.min())})")
    return category


def _features(data: HeteroData, modality: str) -> Tensor | None:
    x: Tensor | None = data[ITEM].get(feature_key(modality))
    num_items = _num_rows(data)
    if x is not None and not (
        isinstance(x, Tensor) and x.is_floating_point() and x.dim() == 2 and x.size(0) == num_items and x.size(1)
    ):
        found = f"{list(x.shape)}, {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(
            f"data['item'].{feature_key(modality)} must be a float tensor of shape [{num_items}, channels] "
            f"(got {found})"
        )
    return x


def _mask(data: HeteroData, modality: str) -> Tensor | None:
    mask: Tensor | None = data[ITEM].get(mask_key(modality))
    num_items = _num_rows(data)
    if mask is not None and (mask.dtype != torch.bool or mask.shape != (num_items,)):
        raise ValueError(
            f"data['item'].{mask_key(modality)} must be a bool tensor of shape [{num_items}] "
            f"(got {list(mask.shape)}, {mask.dtype})"
        )
    return mask
