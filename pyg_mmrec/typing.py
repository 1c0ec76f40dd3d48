"""Names of the node types, edge types and attributes that the whole package speaks."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

#: ``(source, relation, target)``, as in PyG.
EdgeType = tuple[str, str, str]

#: A node type that carries modalities.
NodeType = Literal["user", "item"]

#: Normalisation of a graph's weights, see :func:`pyg_mmrec.utils.normalized_weight`.
Normalization = Literal["sym", "row", "none"]

USER: Literal["user"] = "user"
ITEM: Literal["item"] = "item"
WORD: Literal["word"] = "word"  #: words of item texts, word 0 is padding
INTERACTS: EdgeType = (USER, "interacts", ITEM)
COOCCURS: EdgeType = (USER, "cooccurs", USER)  #: users with common items


def feature_key(modality: str) -> str:
    """Name of the node attribute that holds a modality's features, ``x_<modality>``."""
    return f"x_{modality}"


def mask_key(modality: str) -> str:
    """Name of the node attribute that marks which nodes have a modality, ``mask_<modality>``."""
    return f"mask_{modality}"


def similar(node_type: str, modality: str) -> EdgeType:
    """Edge type of the kNN graph of one modality, ``(node, similar_<modality>, node)``."""
    return (node_type, f"similar_{modality}", node_type)


class Triplets(NamedTuple):
    """A batch of observed user-item pairs, each with one sampled item that the user has not interacted with."""

    user: Tensor  #: ``[batch_size]`` int64
    pos_item: Tensor  #: ``[batch_size]`` int64
    neg_item: Tensor  #: ``[batch_size]`` int64


class Histories(NamedTuple):
    """A batch of users with their train items, some of which are hidden from them to be predicted."""

    user: Tensor  #: ``[batch_size]`` int64, each once
    ptr: Tensor  #: ``[batch_size + 1]`` int64; the items of the b-th user are ``item[ptr[b] : ptr[b + 1]]``
    item: Tensor  #: ``[num_entries]`` int64
    hidden: Tensor  #: ``[num_entries]`` bool; each user keeps at least one item
    neg_item: Tensor  #: ``[num_hidden, num_negatives]`` int64, items that the user has not interacted with


class Reach(NamedTuple):
    """How many edges away from the users and items of a batch a loss reads."""

    interactions: int = 0  #: layers over the user-item graph
    similar_items: int = 0  #: layers over the items' similarity graphs, which start at the batch's items


#: What a training batch holds: interactions one by one, or users with their histories.
Batches = Literal["triplets", "histories"]
