"""The graphs of a data view as sparse operators, which the view can hold."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import COOCCURS, INTERACTS, ITEM, EdgeType, similar
from pyg_mmrec.utils.hetero import checked_edges, interactions, num_users_items, similar_modalities
from pyg_mmrec.utils.sparse import SparseOperator, normalized_weight

#: Key under which :func:`with_operators` keeps an operator on an edge store.
OPERATOR = "operator"

#: Key of the operator from items to users where it is not the transpose of the one to items, as in a sample.
RETURN_OPERATOR = "return_operator"


def interaction_operator(data: HeteroData) -> SparseOperator:
    """The normalised user-item graph as an ``[num_items, num_users]`` operator; ``.t()`` leads back to the users.

    Uses the operator that :func:`with_operators` holds on the data, else builds one. Weights are the edge store's
    ``edge_weight``, or, where there is none, the symmetric normalisation over ``edge_index`` (LightGCN, Eq. 3).

    Raises:
        ValueError: If there are no edges, or they do not fit the nodes.
    """
    interactions(data)
    store = data[INTERACTS]
    if OPERATOR in store:
        held: SparseOperator = store[OPERATOR]
        return held
    edge_index = checked_edges(data, INTERACTS)
    num_users, num_items = num_users_items(data)
    weight = store.get("edge_weight")
    if weight is None:
        weight = normalized_weight(edge_index, num_users, num_items)
    return SparseOperator.from_edge_index(edge_index, weight, num_src=num_users, num_dst=num_items)


def interaction_operators(data: HeteroData) -> tuple[SparseOperator, SparseOperator]:
    """The normalised user-item graph, to the items and back to the users.

    These are transposes of each other, but for a sample (:class:`pyg_mmrec.loader.SubgraphSampler`), in which each node
    has drawn its own neighbours.

    Raises:
        ValueError: As :func:`interaction_operator`.
    """
    to_item = interaction_operator(data)
    return to_item, data[INTERACTS].get(RETURN_OPERATOR) or to_item.t()


def similarity_operators(
    data: HeteroData, node_type: str = ITEM, names: Sequence[str] | None = None
) -> dict[str, SparseOperator]:
    """The modal kNN graphs of a node type as square operators, by modality.

    Each row of an operator holds the weights of a node's neighbours.

    Args:
        data: The graph.
        node_type: ``'item'`` (default) or ``'user'``.
        names: The modalities that must have a graph, and no others (default: any).

    Raises:
        ValueError: If the data has no such graph or those of other modalities, or its edges do not fit the nodes.
    """
    found = similar_modalities(data, node_type)
    if not found:
        raise ValueError(
            f"the data has no {node_type}-{node_type} graph: apply pyg_mmrec.transforms.ModalKNNGraph to it first"
        )
    if names is not None and sorted(names) != found:
        raise ValueError(
            f"the model needs an {node_type}-{node_type} graph for each modality of its features, {sorted(names)} "
            f"(got graphs of {found})"
        )
    return {name: _square_operator(data, similar(node_type, name)) for name in found}


def cooccurrence_operator(data: HeteroData) -> SparseOperator:
    """The users' co-occurrence graph as a square operator; each row holds the weights of a user's neighbours.

    Raises:
        ValueError: If the data has no such graph, or its edges do not fit the users.
    """
    if COOCCURS not in data.edge_types:
        raise ValueError(
            "the data has no graph of users with common items: apply pyg_mmrec.transforms.UserCooccurrence to the "
            "train view first"
        )
    return _square_operator(data, COOCCURS)


def _square_operator(data: HeteroData, edge_type: EdgeType) -> SparseOperator:
    """The operator that the data holds for edges within a node type, else a new one."""
    store = data[edge_type]
    if OPERATOR in store:
        held: SparseOperator = store[OPERATOR]
        return held
    size = num_users_items(data)[edge_type[0] == ITEM]
    edges, weight = checked_edges(data, edge_type), store.get("edge_weight")
    return SparseOperator.from_edge_index(edges, weight, num_src=size, num_dst=size)


def with_operators(data: HeteroData) -> HeteroData:
    """A shallow copy of the data that holds its operators, so that no model builds them again.

    Training, evaluation and recommendation call this once when they start. The copy shares all tensors with the
    input, which stays as it was.
    """
    view = copy.copy(data)
    view[INTERACTS][OPERATOR] = interaction_operator(data)
    for node_type in data.node_types:
        if similar_modalities(data, node_type):
            for name, operator in similarity_operators(data, node_type).items():
                view[similar(node_type, name)][OPERATOR] = operator
    if COOCCURS in data.edge_types:
        view[COOCCURS][OPERATOR] = cooccurrence_operator(data)
    return view


def with_interactions(data: HeteroData, edge_index: Tensor) -> HeteroData:
    """A shallow copy of the data in which messages pass over other user-item edges, normalised anew.

    Args:
        data: The graph; everything but the user-item message edges is kept.
        edge_index: ``[2, num_edges]`` user-item edges.
    """
    view = copy.copy(data)
    store = view[INTERACTS]
    for key in [key for key in store if key not in ("edge_label_index", "edge_label")]:
        del store[key]
    store.edge_index = edge_index
    store[OPERATOR] = interaction_operator(view)
    return view
