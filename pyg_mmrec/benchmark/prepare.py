"""From a data set to the views that models train and are graded on."""

from __future__ import annotations

from collections.abc import Iterable

from torch_geometric.data import HeteroData

from pyg_mmrec.models import Recommender
from pyg_mmrec.transforms import LabelSplit, ModalKNNGraph, RandomSplit
from pyg_mmrec.transforms.split import InteractionSplit
from pyg_mmrec.typing import INTERACTS, ITEM

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
    """Splits the data and adds the item-item graphs that any of the models reads.

    Args:
        data: The whole graph.
        models: The classes that will be trained.
        split: How to split; by default as :func:`default_split` says.
        graph: How to build the item-item graphs of modalities that have none yet (default: ``ModalKNNGraph()``).
    """
    if any(ITEM in model.modal_graphs for model in models):
        data = (graph or ModalKNNGraph())(data)
    views: Views = (split or default_split(data))(data)
    return views
