"""Reading a :class:`~torch_geometric.data.HeteroData` by the package's key conventions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS, ITEM, USER, feature_key, mask_key


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
        ValueError: If one of them is not set: PyG does not infer it from ``x_<modality>``.
    """
    sizes = []
    for node_type in (USER, ITEM):
        size = data[node_type].get("num_nodes")
        if size is None:
            raise ValueError(f"data['{node_type}'].num_nodes is not set; set it to the number of {node_type}s")
        sizes.append(int(size))
    return sizes[0], sizes[1]


def interactions(data: HeteroData) -> Tensor:
    """The ``[2, num_edges]`` user-item edges that messages may pass over.

    Raises:
        ValueError: If the graph has no ``('user', 'interacts', 'item')`` edges.
    """
    if INTERACTS not in data.edge_types or "edge_index" not in data[INTERACTS]:
        raise ValueError(f"the data has no {INTERACTS} edge_index; give it the interactions as user-item edges")
    edge_index: Tensor = data[INTERACTS].edge_index
    return edge_index


def modality_masks(data: HeteroData, names: Sequence[str]) -> dict[str, Tensor]:
    """Which items have a modality, ``[num_items]`` bool, for those of the named modalities that some items lack.

    Args:
        data: The graph; masks are the attributes ``mask_<modality>``.
        names: The modalities.
    """
    store = data[ITEM]
    return {name: store[mask_key(name)] for name in names if mask_key(name) in store}


def item_features(data: HeteroData, modality: str, in_channels: int) -> Tensor:
    """The ``[num_items, in_channels]`` raw features of a modality.

    Args:
        data: The graph.
        modality: Its name.
        in_channels: The width that the reader was built for.

    Raises:
        ValueError: If the data lacks the modality or holds it in another width.
    """
    x: Tensor | None = data[ITEM].get(feature_key(modality))
    if x is None or x.size(-1) != in_channels:
        found = "nothing" if x is None else f"width {x.size(-1)}"
        raise ValueError(
            f"data['item'].{feature_key(modality)} must have width {in_channels}, as the model was built for "
            f"(got {found})"
        )
    return x
