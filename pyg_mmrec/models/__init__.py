"""Models, one paper a file."""

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.models.bprmf import BPRMF
from pyg_mmrec.models.freedom import FREEDOM
from pyg_mmrec.models.lightgcn import LightGCN
from pyg_mmrec.models.popularity import Popularity
from pyg_mmrec.models.vbpr import VBPR

__all__ = ["BPRMF", "FREEDOM", "VBPR", "LightGCN", "Popularity", "Recommender", "Representations", "UserItem"]
