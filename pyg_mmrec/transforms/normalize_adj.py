"""Normalised edge weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_mmrec.typing import INTERACTS, EdgeType, Normalization
from pyg_mmrec.utils import normalized_weight
from pyg_mmrec.utils.checks import check_choice
from pyg_mmrec.utils.operators import OPERATOR


class NormalizeAdj(BaseTransform):
    """Writes ``edge_weight``, normalised by the degrees in ``edge_index``.

    Every edge counts one (see :func:`pyg_mmrec.utils.normalized_weight`); an ``edge_weight`` that is there is replaced.
    Degrees are those of the edges that messages pass over, so apply it to the views of a split and not before it, where
    held-out edges would count.

    Args:
        normalization: ``'sym'`` (default, LightGCN's), ``'row'`` or ``'none'``, which writes ones.
        edge_types: The edge types to weight (default: the user-item edges).

    Raises:
        ValueError: If an argument is of another kind; when applied, if an edge type is missing or the number of nodes
            at one of its ends is not set.

    Example:
        >>> import torch
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 2
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 1], [0, 1, 1]])
        >>> NormalizeAdj()(data)['user', 'interacts', 'item'].edge_weight
        tensor([0.7071, 0.5000, 0.7071])
    """

    def __init__(self, normalization: Normalization = "sym", edge_types: Sequence[EdgeType] | None = None) -> None:
        check_choice(("sym", "row", "none"), normalization=normalization)
        if edge_types is not None and not (
            isinstance(edge_types, Sequence)
            and all(isinstance(edge_type, tuple) and len(edge_type) == 3 for edge_type in edge_types)
        ):
            raise ValueError(f"'edge_types' must be a list of triples, [{INTERACTS}] (got {edge_types!r})")
        self.normalization: Normalization = normalization
        self.edge_types = [INTERACTS] if edge_types is None else list(edge_types)

    def forward(self, data: HeteroData) -> HeteroData:
        """Weights the edges."""
        sizes = {}
        for edge_type in self.edge_types:
            if edge_type not in data.edge_types or "edge_index" not in data[edge_type]:
                raise ValueError(f"the data has no {edge_type} edge_index; its edge types: {data.edge_types}")
            sizes[edge_type] = [data[node_type].get("num_nodes") for node_type in (edge_type[0], edge_type[2])]
            if None in sizes[edge_type]:
                raise ValueError(f"set data[node].num_nodes at both ends of {edge_type} (got {sizes[edge_type]})")
        for edge_type, (num_src, num_dst) in sizes.items():
            store = data[edge_type]
            store.edge_weight = normalized_weight(store.edge_index, num_src, num_dst, None, self.normalization)
            if OPERATOR in store:  # it holds the former weights
                del store[OPERATOR]
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(normalization={self.normalization!r}, edge_types={self.edge_types})"
