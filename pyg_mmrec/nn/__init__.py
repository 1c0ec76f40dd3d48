"""Building blocks of the models."""

from pyg_mmrec.nn.aspects import AspectBranch
from pyg_mmrec.nn.attention import CrossModalAttention, ViewAttention
from pyg_mmrec.nn.behavior_modal import BehaviorModalAlignment, default_modality_weights
from pyg_mmrec.nn.composed import composed_linear
from pyg_mmrec.nn.critic import Critic
from pyg_mmrec.nn.embedding import XavierEmbedding
from pyg_mmrec.nn.fusion import AttributeLayout, DisentangledFusion
from pyg_mmrec.nn.gate import FilterGate
from pyg_mmrec.nn.intent import IntentAttention, MultiIntentExtractor, SoftIntents
from pyg_mmrec.nn.interest import Contributions, DeepInterest
from pyg_mmrec.nn.pairs import OneHotFields, PairMLP, pair_products, score_pairs
from pyg_mmrec.nn.projection import ModalProjection
from pyg_mmrec.nn.separate import SeparateLearning
from pyg_mmrec.nn.similarity import SimilarityTargets
from pyg_mmrec.nn.standardize import Standardize
from pyg_mmrec.nn.structure import LatentGraph, LatentStructure
from pyg_mmrec.nn.vae import Code, FeatureVAE, ImageVAE
from pyg_mmrec.nn.xavier import reset_xavier

__all__ = [
    "AspectBranch",
    "AttributeLayout",
    "BehaviorModalAlignment",
    "Code",
    "Contributions",
    "Critic",
    "CrossModalAttention",
    "DeepInterest",
    "DisentangledFusion",
    "FeatureVAE",
    "FilterGate",
    "ImageVAE",
    "IntentAttention",
    "LatentGraph",
    "LatentStructure",
    "ModalProjection",
    "MultiIntentExtractor",
    "OneHotFields",
    "PairMLP",
    "SeparateLearning",
    "SimilarityTargets",
    "SoftIntents",
    "Standardize",
    "ViewAttention",
    "XavierEmbedding",
    "composed_linear",
    "default_modality_weights",
    "pair_products",
    "reset_xavier",
    "score_pairs",
]
