"""Loss terms: one function each, a class where there is something to fit."""

from pyg_mmrec.nn.loss.bce import bce_loss
from pyg_mmrec.nn.loss.bpr import bpr_loss
from pyg_mmrec.nn.loss.club import CLUB
from pyg_mmrec.nn.loss.contrast import grace_loss, info_nce, solosim_loss, symmetric_info_nce
from pyg_mmrec.nn.loss.cross_modal import cross_modal_contrast
from pyg_mmrec.nn.loss.disentangled import (
    aspect_loss,
    gaussian_kl,
    leakage_loss,
    orthogonality_loss,
    reconstruction_loss,
)
from pyg_mmrec.nn.loss.distance import negative_distance
from pyg_mmrec.nn.loss.intent import intent_contrast, intent_kl, intent_overlap
from pyg_mmrec.nn.loss.l2 import embedding_l2
from pyg_mmrec.nn.loss.penalty import gradient_penalty
from pyg_mmrec.nn.loss.similarity import feature_similarity_loss, similarity_loss

__all__ = [
    "CLUB",
    "aspect_loss",
    "bce_loss",
    "bpr_loss",
    "cross_modal_contrast",
    "embedding_l2",
    "feature_similarity_loss",
    "gaussian_kl",
    "grace_loss",
    "gradient_penalty",
    "info_nce",
    "intent_contrast",
    "intent_kl",
    "intent_overlap",
    "leakage_loss",
    "negative_distance",
    "orthogonality_loss",
    "reconstruction_loss",
    "similarity_loss",
    "solosim_loss",
    "symmetric_info_nce",
]
