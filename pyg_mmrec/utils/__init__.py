"""Tensors in, tensors out: sparse operators, blocked search and ranking."""

from pyg_mmrec.utils.csr import to_csr
from pyg_mmrec.utils.edges import edge_scores, edge_softmax, edge_sum
from pyg_mmrec.utils.hetero import (
    graph_ids,
    interactions,
    item_features,
    modalities,
    modality_masks,
    num_users_items,
    similar_modalities,
)
from pyg_mmrec.utils.ids import Ids
from pyg_mmrec.utils.knn import knn, usable_rows
from pyg_mmrec.utils.memory import keep_freed_memory
from pyg_mmrec.utils.negatives import NegativeSampler
from pyg_mmrec.utils.operators import (
    cooccurrence_operator,
    interaction_operator,
    interaction_operators,
    similarity_operators,
    with_interactions,
    with_operators,
)
from pyg_mmrec.utils.popular import popular_items
from pyg_mmrec.utils.pruning import degree_sensitive_pruning
from pyg_mmrec.utils.ranking import csr_entries, rank_items, seen_items
from pyg_mmrec.utils.rows import take_rows, triplet_scores, unit_rows
from pyg_mmrec.utils.segments import kept_entries, segment_mean, segment_rows, segment_sum
from pyg_mmrec.utils.sparse import SparseOperator, layer_mean, masked_mean, normalized_weight
from pyg_mmrec.utils.words import word_vectors

__all__ = [
    "Ids",
    "NegativeSampler",
    "SparseOperator",
    "cooccurrence_operator",
    "csr_entries",
    "degree_sensitive_pruning",
    "edge_scores",
    "edge_softmax",
    "edge_sum",
    "graph_ids",
    "interaction_operator",
    "interaction_operators",
    "interactions",
    "item_features",
    "keep_freed_memory",
    "kept_entries",
    "knn",
    "layer_mean",
    "masked_mean",
    "modalities",
    "modality_masks",
    "normalized_weight",
    "num_users_items",
    "popular_items",
    "rank_items",
    "seen_items",
    "segment_mean",
    "segment_rows",
    "segment_sum",
    "similar_modalities",
    "similarity_operators",
    "take_rows",
    "to_csr",
    "triplet_scores",
    "unit_rows",
    "usable_rows",
    "with_interactions",
    "with_operators",
    "word_vectors",
]
