"""From a data set to the views that models train and are graded on."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import cast

from torch_geometric.data import HeteroData

from pyg_mmrec.models import Recommender
from pyg_mmrec.transforms import LabelSplit, ModalKNNGraph, RandomSplit, UserModalMean
from pyg_mmrec.transforms.split import InteractionSplit
from pyg_mmrec.typing import INTERACTS, ITEM, USER, similar
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
) -> Views:
    """Splits the data and adds the item-item and user-user graphs that any of the models reads.

    User-user graphs link users by the mean features of their train items.

    Args:
        data: The whole graph.
        models: The classes that will be trained.
        split: How to split; by default as :func:`default_split` says.
        graph: How to build the graphs of modalities that have none yet (default: ``ModalKNNGraph()``).
    """
    graph = graph or ModalKNNGraph()
    read = {node_type for model in models for node_type in model.modal_graphs}
    if ITEM in read:
        data = graph.on(ITEM)(data)
    views: Views = (split or default_split(data))(data)
    return _with_user_graphs(views, graph.on(USER)) if USER in read else views


def _with_user_graphs(views: Views, graph: ModalKNNGraph) -> Views:
    """The views with the user-user graphs of the train view, without the wide features that they are built from."""
    train = views[0]
    source = train if set(modalities(train, USER)) >= set(modalities(train, ITEM)) else UserModalMean()(train)
    linked = graph(source)
    out = tuple(copy.copy(view) for view in views)
    for view in out:
        for name in similar_modalities(linked, USER):
            view[similar(USER, name)].update(linked[similar(USER, name)].to_dict())
    return cast("Views", out)
