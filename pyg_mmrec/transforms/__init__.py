"""HeteroData in, HeteroData out: splits, graphs, weights, features of users and missing ones of items, words."""

from pyg_mmrec.transforms.drop_modality import DropModality
from pyg_mmrec.transforms.impute_features import ImputeFeatures
from pyg_mmrec.transforms.link_cold_items import LinkColdItems
from pyg_mmrec.transforms.modal_knn_graph import ModalKNNGraph
from pyg_mmrec.transforms.normalize_adj import NormalizeAdj
from pyg_mmrec.transforms.split import ColdItemSplit, LabelSplit, LeaveLastOut, RandomSplit, TemporalSplit
from pyg_mmrec.transforms.user_cooccurrence import UserCooccurrence
from pyg_mmrec.transforms.user_modal_mean import UserModalMean
from pyg_mmrec.transforms.weak_labels import WeakLabels
from pyg_mmrec.transforms.word_tokens import WordTokens

__all__ = [
    "ColdItemSplit",
    "DropModality",
    "ImputeFeatures",
    "LabelSplit",
    "LeaveLastOut",
    "LinkColdItems",
    "ModalKNNGraph",
    "NormalizeAdj",
    "RandomSplit",
    "TemporalSplit",
    "UserCooccurrence",
    "UserModalMean",
    "WeakLabels",
    "WordTokens",
]
