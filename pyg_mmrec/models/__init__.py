"""Models, one paper a file."""

from pyg_mmrec.models.abae import ABAE
from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.models.beta_vae import BetaVAE
from pyg_mmrec.models.bm3 import BM3
from pyg_mmrec.models.bprmf import BPRMF
from pyg_mmrec.models.card import ModelCard
from pyg_mmrec.models.deepfm import DeepFM
from pyg_mmrec.models.din_plus import DINPlus
from pyg_mmrec.models.drepmrec import DRepMRec
from pyg_mmrec.models.dualgnn import DualGNN
from pyg_mmrec.models.freedom import FREEDOM
from pyg_mmrec.models.grcn import GRCN
from pyg_mmrec.models.lattice import LATTICE
from pyg_mmrec.models.layergcn import LayerGCN
from pyg_mmrec.models.lgmrec import LGMRec
from pyg_mmrec.models.lightgcn import LightGCN
from pyg_mmrec.models.mdr import MDR, ScoreExplanation
from pyg_mmrec.models.mgcn import MGCN
from pyg_mmrec.models.micro import MICRO
from pyg_mmrec.models.mmgcl import MMGCL
from pyg_mmrec.models.mmgcn import MMGCN
from pyg_mmrec.models.mmil import MMIL, Explanation
from pyg_mmrec.models.mmssl import MMSSL
from pyg_mmrec.models.pnn import PNN
from pyg_mmrec.models.popularity import Popularity
from pyg_mmrec.models.sea import SEA
from pyg_mmrec.models.slmrec import SLMRec
from pyg_mmrec.models.vbpr import VBPR
from pyg_mmrec.models.wide_deep import WideDeep
from pyg_mmrec.models.with_bma import WithBMA
from pyg_mmrec.models.with_sea import WithSEA

__all__ = [
    "ABAE",
    "BM3",
    "BPRMF",
    "FREEDOM",
    "GRCN",
    "LATTICE",
    "MDR",
    "MGCN",
    "MICRO",
    "MMGCL",
    "MMGCN",
    "MMIL",
    "MMSSL",
    "PNN",
    "SEA",
    "VBPR",
    "BetaVAE",
    "DINPlus",
    "DRepMRec",
    "DeepFM",
    "DualGNN",
    "Explanation",
    "LGMRec",
    "LayerGCN",
    "LightGCN",
    "ModelCard",
    "Popularity",
    "Recommender",
    "Representations",
    "SLMRec",
    "ScoreExplanation",
    "UserItem",
    "WideDeep",
    "WithBMA",
    "WithSEA",
]
