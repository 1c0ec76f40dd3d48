"""Building blocks of the models."""

from pyg_mmrec.nn.composed import composed_linear
from pyg_mmrec.nn.embedding import XavierEmbedding
from pyg_mmrec.nn.gate import FilterGate
from pyg_mmrec.nn.projection import ModalProjection
from pyg_mmrec.nn.separate import SeparateLearning

__all__ = ["FilterGate", "ModalProjection", "SeparateLearning", "XavierEmbedding", "composed_linear"]
