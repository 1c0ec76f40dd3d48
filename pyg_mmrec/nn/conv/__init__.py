"""Message passing shared by several models."""

from pyg_mmrec.nn.conv.propagation import (
    Graph,
    LightGCNConv,
    ModalGraphConv,
    PropagationConv,
    default_graph_weights,
)

__all__ = ["Graph", "LightGCNConv", "ModalGraphConv", "PropagationConv", "default_graph_weights"]
