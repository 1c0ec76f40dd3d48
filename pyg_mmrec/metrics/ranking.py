"""Ranking metrics by name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import ITEM
from pyg_mmrec.utils import interactions, num_users_items


def _ndcg(hits: Tensor, count: Tensor, k: int) -> Tensor:
    place = torch.arange(k, device=hits.device)
    gain = 1 / (place + 2).double().log2()
    best = (place < count.unsqueeze(1)).double()  # the hits of a perfect ranking
    return (hits * gain).sum(1) / (best * gain).sum(1)


def _average_precision(hits: Tensor, count: Tensor, k: int) -> Tensor:
    rank = torch.arange(1, k + 1, device=hits.device)
    return (hits * hits.cumsum(1) / rank).sum(1) / count.clamp(max=k)


#: Values by user from ``[num_users, k]`` hits (one or zero), ``[num_users]`` numbers of held-out items, and k.
ACCURACY: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "recall": lambda hits, count, k: hits.sum(1) / count,
    "precision": lambda hits, count, k: hits.sum(1) / k,
    "ndcg": _ndcg,
    "map": _average_precision,
    "hit": lambda hits, count, k: hits.amax(1),
    "mrr": lambda hits, count, k: (hits / torch.arange(1, k + 1, device=hits.device)).amax(1),
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


def _diversity(items: Tensor, category: Tensor) -> Tensor:
    """Share of each list's pairs that differ in their category, of lists with a pair."""
    there = items >= 0
    pairs = (there.unsqueeze(1) & there.unsqueeze(2)).triu(1)  # [num_users, k, k]
    category = category[items.clamp_min(0)]
    differ = pairs & (category.unsqueeze(1) != category.unsqueeze(2))
    number = pairs.sum((1, 2))
    return (differ.sum((1, 2)).double() / number)[number > 0]


def _popularity(items: Tensor, popularity: Tensor) -> Tensor:
    """Mean popularity of each list, of lists with an item."""
    there = items >= 0
    number = there.sum(1)
    return ((popularity[items.clamp_min(0)] * there).sum(1).double() / number)[number > 0]


def find_hits(items: Tensor, held_out: tuple[Tensor, Tensor], num_items: int) -> tuple[Tensor, Tensor]:
    """Which places of ranked lists hold a held-out item, as one and zero, and how many of these each user has.

    Args:
        items: ``[num_users, k]`` ranked items, -1 where a user had no item left.
        held_out: ``[n]`` rows of ``items`` and ``[n]`` items, in pairs, in any order.
        num_items: Size of the catalogue.
    """
    pairs = (held_out[0] * num_items + held_out[1]).unique()
    count = torch.bincount(pairs // num_items, minlength=items.size(0))
    row = torch.arange(items.size(0), device=items.device).unsqueeze(1)
    return (torch.isin(row * num_items + items, pairs) & (items >= 0)).double(), count


class RankingMetrics:
    """What :func:`ranking_metrics` makes.

    Args:
        kinds: Kind and k of each metric by its name.
        popularity: ``[num_items]`` numbers of train interactions.
        category: ``[num_items]`` categories; read for diversity only.
    """

    def __init__(self, kinds: dict[str, tuple[str, int]], popularity: Tensor, category: Tensor) -> None:
        self.kinds = kinds
        self.popularity = popularity
        self.category = category
        self._sums = dict.fromkeys(kinds, 0.0)
        self._totals = dict.fromkeys(kinds, 0)
        self._covered = {name: torch.zeros_like(popularity, dtype=torch.bool) for name in kinds}

    def update(self, items: Tensor, held_out: tuple[Tensor, Tensor]) -> None:
        """Adds some users.

        Args:
            items: ``[num_users, k]`` ranked items, with the largest k of the metrics at least; -1 where a user had no
                item left.
            held_out: ``[n]`` rows of ``items`` and ``[n]`` items, in pairs, in any order.
        """
        hits, count = find_hits(items, held_out, self.popularity.numel())
        hits, count = hits[count > 0], count[count > 0]
        for name, (kind, k) in self.kinds.items():
            top = items[:, :k]
            if kind == "coverage":
                covered = self._covered[name]
                covered[top[top >= 0]] = True
                self._sums[name], self._totals[name] = float(covered.sum()), covered.numel()
                continue
            if kind in ACCURACY:
                value = ACCURACY[kind](hits[:, :k], count, k)
            else:
                value = _diversity(top, self.category) if kind == "diversity" else _popularity(top, self.popularity)
            self._sums[name] += float(value.sum())
            self._totals[name] += value.numel()

    def compute(self) -> dict[str, float]:
        """The metrics by name; 0 where there was nothing to take a mean over."""
        return {name: self._sums[name] / max(self._totals[name], 1) for name in self.kinds}


def ranking_metrics(names: list[str] | tuple[str, ...], data: HeteroData) -> RankingMetrics:
    """Metrics for a list of names, means over users in double precision.

    ===========  =======================================================================================
    recall       hits over the number of held-out items
    precision    hits over k
    ndcg         binary gains, log2(rank + 1), ideal over min(k, held-out items)
    map          average precision, divided by min(k, held-out items)
    hit          whether there is a hit
    mrr          reciprocal rank of the first hit, 0 without one
    coverage     share of the catalogue that is recommended to anyone
    diversity    share of pairs in a list that differ in ``data['item'].category``
    popularity   mean number of train interactions of the recommended items, in a list
    ===========  =======================================================================================

    A user may have fewer than k items left to recommend. Precision then still divides by k; the places that stay
    empty are no hits and count neither as items nor in pairs. Lists without an item are left out of the mean
    popularity, lists without a pair out of the mean diversity.

    Args:
        names: Such as ``['recall@20', 'ndcg@20']``.
        data: Gives the number of items, the train edges (popularity) and the categories (diversity).

    Raises:
        ValueError: If a name is unknown, k exceeds the catalogue, or a diversity lacks categories.
    """
    num_items = num_users_items(data)[1]
    popularity = torch.bincount(interactions(data)[1], minlength=num_items)
    category = data[ITEM].get("category")
    kinds = {name: parse_metric(name) for name in names}
    for name, (kind, k) in kinds.items():
        if k > num_items:
            raise ValueError(f"'{name}' asks for more than the {num_items} items of the catalogue")
        if kind == "diversity" and (category is None or k < 2):
            raise ValueError(f"'{name}' needs item categories, data['item'].category, and k of at least 2")
    return RankingMetrics(kinds, popularity, torch.zeros_like(popularity) if category is None else category)
