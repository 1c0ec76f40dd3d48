"""Embedding tables."""

from __future__ import annotations

import torch


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
