"""Models, one paper a file."""

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.models.bprmf import BPRMF
from pyg_mmrec.models.freedom import FREEDOM
from pyg_mmrec.models.lightgcn import LightGCN
from pyg_mmrec.models.popularity import Popularity
from pyg_mmrec.models.sea import SEA
from pyg_mmrec.models.vbpr import VBPR
from pyg_mmrec.models.with_sea import WithSEA

__all__ = [
    "BPRMF",
    "FREEDOM",
    "SEA",
    "VBPR",
    "LightGCN",
    "Popularity",
    "Recommender",
    "Representations",
    "UserItem",
    "WithSEA",
]
