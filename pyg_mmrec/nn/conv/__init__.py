"""Message passing shared by several models."""

from pyg_mmrec.nn.conv.propagation import Graph, LightGCNConv, ModalGraphConv, PropagationConv

__all__ = ["Graph", "LightGCNConv", "ModalGraphConv", "PropagationConv"]
