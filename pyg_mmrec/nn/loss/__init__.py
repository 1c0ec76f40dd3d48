"""Loss terms, one function each."""

from pyg_mmrec.nn.loss.bpr import bpr_loss
from pyg_mmrec.nn.loss.info_nce import info_nce
from pyg_mmrec.nn.loss.l2 import embedding_l2

__all__ = ["bpr_loss", "embedding_l2", "info_nce"]
