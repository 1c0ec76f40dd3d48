"""From a data set to the views that models train and are graded on."""

from __future__ import annotations

import copy
from collections.abc import Iterable

from torch_geometric.data import HeteroData

from pyg_mmrec.models import Recommender
from pyg_mmrec.transforms import LabelSplit, ModalKNNGraph, RandomSplit, UserCooccurrence, UserModalMean
from pyg_mmrec.transforms.split import InteractionSplit
from pyg_mmrec.typing import COOCCURS, INTERACTS, ITEM, USER, similar
from pyg_mmrec.utils import modalities, similar_modalities

#: Train, validation and test view of a split.
Views = tuple[HeteroData, HeteroData, HeteroData]


def default_split(data: HeteroData) -> InteractionSplit:
    """The split that comes with the data where there is one, else the random split of the published files."""
    return LabelSplit() if "split" in data[INTERACTS] else RandomSplit()


def prepare(
    data: HeteroData,
    models: Iterable[type[Recommender]],
    split: InteractionSplit | None = None,
    graph: ModalKNNGraph | None = None,
    cooccurrence: UserCooccurrence | None = None,
) -> Views:
    """Splits the data and adds the item-item and user-user graphs that any of the models reads.

    User-user graphs link users by the mean features of their train items, or by train items that they have in common.

    Args:
        data: The whole graph.
        models: The classes that will be trained.
        split: How to split; by default as :func:`default_split` says.
        graph: How to build the graphs of modalities that have none yet (default: ``ModalKNNGraph()``).
        cooccurrence: How to link users by common items (default: ``UserCooccurrence()``).
    """
    models = list(models)
    graph = graph or ModalKNNGraph()
    read = {node_type for model in models for node_type in model.modal_graphs}
    if ITEM in read:
        data = graph.on(ITEM)(data)
    views: Views = (split or default_split(data))(data)
    linked = with_user_graphs(views[0], graph) if USER in read else views[0]
    if any(model.user_cooccurrence for model in models):
        linked = (cooccurrence or UserCooccurrence())(linked)
    if linked is views[0]:
        return views
    train, val, test = (_with_graphs_of(linked, view) for view in views)
    return train, val, test


def with_user_graphs(data: HeteroData, graph: ModalKNNGraph | None = None) -> HeteroData:
    """A copy with user-user graphs, without the features that they are built from where these are wide means.

    Args:
        data: The graph, of a split its train view; users without features of their own get the mean features of their
            items.
        graph: How to build the graphs (default: ``ModalKNNGraph()``).
    """
    own = set(modalities(data, USER)) >= set(modalities(data, ITEM))
    linked = (graph or ModalKNNGraph()).on(USER)(data if own else UserModalMean()(data))
    return _with_graphs_of(linked, data)


def _with_graphs_of(linked: HeteroData, data: HeteroData) -> HeteroData:
    """A copy with the user-user graphs of another."""
    data = copy.copy(data)
    for name in similar_modalities(linked, USER):
        data[similar(USER, name)].update(linked[similar(USER, name)].to_dict())
    if COOCCURS in linked.edge_types:
        data[COOCCURS].update(linked[COOCCURS].to_dict())
    return data
