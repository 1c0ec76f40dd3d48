"""Reading a :class:`~torch_geometric.data.HeteroData` by the package's key conventions."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS, ITEM, USER


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
