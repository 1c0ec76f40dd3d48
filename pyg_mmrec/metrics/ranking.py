"""Ranking metrics by name."""

from __future__ import annotations

import difflib
import re

import torch
from torch_geometric.data import HeteroData
from torch_geometric.metrics import (
    LinkPredAveragePopularity,
    LinkPredCoverage,
    LinkPredDiversity,
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredMetricCollection,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)

from pyg_mmrec.typing import ITEM
from pyg_mmrec.utils import interactions, num_users_items

ACCURACY = {
    "recall": LinkPredRecall,
    "precision": LinkPredPrecision,
    "ndcg": LinkPredNDCG,
    "map": LinkPredMAP,
    "hit": LinkPredHitRatio,
    "mrr": LinkPredMRR,
}
BEYOND_ACCURACY = ("coverage", "diversity", "popularity")


def parse_metric(name: str) -> tuple[str, int]:
    """Splits ``'recall@20'`` into its kind and its k.

    Raises:
        ValueError: If the form, the kind or k is wrong; names the nearest kind.

    Example:
        >>> parse_metric('recall@20')
        ('recall', 20)
    """
    match = re.fullmatch(r"(\w+)@(\d+)", name)
    kinds = [*ACCURACY, *BEYOND_ACCURACY]
    if match is None or int(match[2]) < 1:
        raise ValueError(f"a metric is written kind@k, such as 'recall@20', with k at least 1 (got {name!r})")
    if match[1] not in kinds:
        near = difflib.get_close_matches(match[1].lower(), kinds, 1)
        hint = f"did you mean '{near[0]}@{match[2]}'" if near else f"known are {', '.join(kinds)}"
        raise ValueError(f"unknown metric {name!r}: {hint}")
    return match[1], int(match[2])


def ranking_metrics(names: list[str] | tuple[str, ...], data: HeteroData) -> LinkPredMetricCollection:
    """PyG's link prediction metrics for a list of names, summed up in double precision.

    ===========  =======================================================================================
    recall       hits over the number of held-out items
    precision    hits over k
    ndcg         binary gains, log2(rank + 1), ideal over min(k, held-out items)
    map          average precision, divided by min(k, held-out items)
    hit          whether there is a hit
    mrr          reciprocal rank of the first hit, 0 without one
    coverage     share of the catalogue that is recommended to anyone
    diversity    share of pairs in a list that differ in ``data['item'].category``
    popularity   mean number of train interactions of the recommended items
    ===========  =======================================================================================

    Args:
        names: Such as ``['recall@20', 'ndcg@20']``.
        data: Gives the number of items, the train edges (popularity) and the categories (diversity).

    Raises:
        ValueError: If a name is unknown, k exceeds the catalogue, or a diversity lacks categories.
    """
    num_items = num_users_items(data)[1]
    metrics = {}
    for name in names:
        kind, k = parse_metric(name)
        if k > num_items:
            raise ValueError(f"'{name}' asks for more than the {num_items} items of the catalogue")
        if kind in ACCURACY:
            metrics[name] = ACCURACY[kind](k)
        elif kind == "coverage":
            metrics[name] = LinkPredCoverage(k, num_items)
        elif kind == "popularity":
            metrics[name] = LinkPredAveragePopularity(k, torch.bincount(interactions(data)[1], minlength=num_items))
        elif "category" not in data[ITEM] or k < 2:
            raise ValueError(f"'{name}' needs item categories, data['item'].category, and k of at least 2")
        else:
            metrics[name] = LinkPredDiversity(k, data[ITEM].category)
    return LinkPredMetricCollection(metrics).double()
