"""Building blocks of the models."""

from pyg_mmrec.nn.embedding import XavierEmbedding
from pyg_mmrec.nn.gate import FilterGate
from pyg_mmrec.nn.projection import ModalProjection

__all__ = ["FilterGate", "ModalProjection", "XavierEmbedding"]
