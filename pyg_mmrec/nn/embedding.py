"""Embedding tables."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import NodeType
from pyg_mmrec.utils import graph_ids


class XavierEmbedding(torch.nn.Embedding):
    """An embedding table that is drawn Xavier-uniform, as the published protocol does.

    Args:
        num_embeddings: Number of rows.
        embedding_dim: Number of channels.

    Shapes:
        - **input:** ``[...]`` row indices
        - **output:** ``[..., embedding_dim]``

    Raises:
        ValueError: If there is no channel.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        if embedding_dim < 1:
            raise ValueError(f"the width of embeddings, 'hidden_channels', must be positive (got {embedding_dim})")
        super().__init__(num_embeddings, embedding_dim)

    def reset_parameters(self) -> None:
        """Draws the table anew."""
        torch.nn.init.xavier_uniform_(self.weight)

    def rows(self, data: HeteroData, node_type: NodeType, index: Tensor | None = None) -> Tensor:
        """The rows of a graph's nodes: the table itself, but for a sample or some nodes only.

        Args:
            data: The graph, or a sample of it.
            node_type: Whose table this is.
            index: Nodes, in the numbers of ``data``; all by default.
        """
        ids = graph_ids(data, node_type, index)
        out: Tensor = self.weight if ids is None else self(ids)
        return out
