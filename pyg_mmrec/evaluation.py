"""Full-ranking evaluation, and evaluation on sampled candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.metrics import parse_metric, ranking_metrics
from pyg_mmrec.metrics.group_auc import auc_by_group
from pyg_mmrec.metrics.ranking import ACCURACY, find_hits
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import csr_entries, num_users_items, rank_items, seen_items, segment_rows, to_csr, with_operators
from pyg_mmrec.utils.checks import check_int, check_names
from pyg_mmrec.utils.hetero import checked_edges
from pyg_mmrec.utils.modes import evaluating
from pyg_mmrec.utils.negatives import ItemsLeft, distinct_ranks

__all__ = ["BaseEvaluator", "Evaluator", "RankedLists", "SampledEvaluator"]

#: Area under the ROC curve of a user's candidates, see :func:`~pyg_mmrec.metrics.group_auc`.
GAUC = "gauc"

#: Scores by ``[B]`` users and ``[C]`` or ``[B, C]`` items.
Score = Callable[[Tensor, Tensor], Tensor]


T = TypeVar("T")


class RankedLists(NamedTuple):
    """The best items of some users, best first."""

    user: Tensor  #: ``[n]``, in ascending order
    item: Tensor  #: ``[n, k]``, -1 where a user has fewer than k items left
    score: Tensor  #: ``[n, k]``


class Scorer(Protocol):
    """What evaluation needs to know of a model."""

    training: bool

    def train(self, mode: bool = True) -> Any:
        """Sets ``training``."""
        ...

    def __call__(self, data: HeteroData) -> Any: ...

    def score(self, data: HeteroData, representations: Any, user: Tensor, item: Tensor | None = None) -> Tensor:
        """``[B, C]`` scores of ``[C]`` or ``[B, C]`` items for ``[B]`` users."""
        ...


class BaseEvaluator(ABC):
    """Base of the evaluators, which grade a model on a view with held-out interactions.

    A :class:`~pyg_mmrec.training.Trainer` takes any evaluator and selects epochs by one of its ``metrics``. A subclass
    says in :meth:`measure` what they are.

    Args:
        metrics: Names of the metrics.
        block_size: How much is scored at a time.
        seed: Seed of what is drawn.

    Raises:
        ValueError: If there is no metric or an argument is out of range.
    """

    #: Those of the metrics that :func:`~pyg_mmrec.metrics.ranking_metrics` knows.
    ranked: tuple[str, ...] = ()

    def __init__(self, metrics: list[str] | tuple[str, ...], block_size: int, seed: int) -> None:
        check_names(metrics=metrics)
        check_int(1, block_size=block_size)
        check_int(0, seed=seed)
        self.metrics = tuple(metrics)
        if not self.metrics:
            raise ValueError("'metrics' must name at least one metric (got none)")
        self.block_size = block_size
        self.seed = seed

    def __call__(self, model: Scorer, data: HeteroData) -> dict[str, float]:
        """The metrics of a model.

        Args:
            model: A :class:`~pyg_mmrec.models.Recommender`; it is evaluated in eval mode.
            data: The validation or test view of a split.

        Raises:
            ValueError: As :meth:`check` does, or if the model's scores are NaN.
        """
        return self._graded(model, data, self.measure)

    @torch.no_grad()
    def _graded(self, model: Scorer, data: HeteroData, grade: Callable[[Score, HeteroData], T]) -> T:
        """What a function of scores makes of a model's."""
        self.check(data)
        with evaluating(model):
            graph = with_operators(data)
            representations = model(graph)
            return grade(lambda user, item: model.score(graph, representations, user, item), data)

    @abstractmethod
    def measure(self, score: Score, data: HeteroData) -> dict[str, float]:
        """The metrics of scores.

        Args:
            score: Gives ``[B, C]`` scores of ``[C]`` or ``[B, C]`` items for ``[B]`` users.
            data: A view that :meth:`check` has passed.

        Raises:
            ValueError: If a score is NaN.
        """

    def check(self, data: HeteroData) -> None:
        """Refuses a view that cannot be graded, which is better known before a training than after it.

        Args:
            data: The validation or test view of a split.

        Raises:
            ValueError: If the view has no held-out items, names users or items that are not there, or a metric asks for
                more items than there are.
        """
        checked_edges(data, INTERACTS)
        ranking_metrics(self.ranked, data)
        if "edge_label_index" not in data[INTERACTS] or not checked_edges(data, INTERACTS, "edge_label_index").numel():
            raise ValueError("the data has no held-out interactions, 'edge_label_index': pass a view that a split made")

    def settings(self) -> dict[str, Any]:
        """What a training that was selected by this evaluator must have again when it is resumed."""
        return {"metrics": list(self.metrics)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.metrics)})"


class Evaluator(BaseEvaluator):
    """Ranks the whole catalogue for every user that has held-out items and averages metrics over these users.

    The items of ``data['user'].seen_item`` are left out (the published protocol: train positives only, at
    validation and at test alike; splits with ``strict=True`` mask validation positives at test as well). Items with
    equal scores are ranked in random order, from a fixed seed. Metrics are unrounded.

    Args:
        metrics: Names as :func:`~pyg_mmrec.metrics.ranking_metrics` knows them.
        block_size: Users scored at a time: memory is ``block_size * num_items``.
        seed: Seed of the order of ties.

    Raises:
        ValueError: If a name is unknown or an argument is out of range.

    Example:
        >>> from pyg_mmrec.models import Popularity
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 3
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 1, 1], [0, 0, 1]])
        >>> data['user', 'interacts', 'item'].edge_label_index = torch.tensor([[0, 1], [1, 2]])
        >>> Evaluator(['recall@1'])(Popularity.from_data(data), data)
        {'recall@1': 1.0}
    """

    DEFAULT = tuple(f"{kind}@{k}" for k in (10, 20) for kind in ("recall", "precision", "ndcg", "map", "hit", "mrr"))

    def __init__(
        self, metrics: list[str] | tuple[str, ...] = DEFAULT, *, block_size: int = 1024, seed: int = 0
    ) -> None:
        super().__init__(metrics, block_size, seed)
        self.ranked = self.metrics
        self.max_k = max(parse_metric(name)[1] for name in self.ranked)

    def measure(self, score: Score, data: HeteroData) -> dict[str, float]:
        """The metrics of scores, see :meth:`BaseEvaluator.measure`."""
        metrics = ranking_metrics(self.ranked, data)
        lists = self._rank(score, data)
        metrics.update(lists.item, _rows_of(lists.user, data))
        return metrics.compute()

    def rank(self, model: Scorer, data: HeteroData) -> RankedLists:
        """What the metrics are taken of: the lists of all users with held-out items, in the order of the users.

        Args:
            model: A :class:`~pyg_mmrec.models.Recommender`; it is evaluated in eval mode.
            data: The validation or test view of a split.

        Raises:
            ValueError: As :meth:`BaseEvaluator.check` does, or if the model's scores are NaN.
        """
        return self._graded(model, data, self._rank)

    def by_user(self, model: Scorer, data: HeteroData) -> pd.DataFrame:
        """The metrics of every user with held-out items, one row a user; their means are what calling gives.

        Args:
            model: A :class:`~pyg_mmrec.models.Recommender`; it is evaluated in eval mode.
            data: The validation or test view of a split.

        Raises:
            ValueError: As :meth:`rank`, or if a metric is not one of single users, such as coverage.
        """
        kinds = {name: parse_metric(name) for name in self.metrics}
        for name, (kind, _) in kinds.items():
            if kind not in ACCURACY:
                raise ValueError(f"'{name}' is not a metric of single users: leave it out of 'metrics'")
        lists = self.rank(model, data)
        hits, count = find_hits(lists.item, _rows_of(lists.user, data), num_users_items(data)[1])
        values = {name: ACCURACY[kind](hits[:, :k], count, k).cpu().numpy() for name, (kind, k) in kinds.items()}
        return pd.DataFrame(values, index=pd.Index(lists.user.cpu().numpy(), name="user"))

    def _rank(self, score: Score, data: HeteroData) -> RankedLists:
        user = data[INTERACTS].edge_label_index[0].unique()
        scores, items = rank_items(
            score,
            user,
            self.max_k,
            num_users_items(data)[1],
            seen_items(data),
            block_size=self.block_size,
            generator=torch.Generator().manual_seed(self.seed),
        )
        return RankedLists(user, items.masked_fill(scores == -torch.inf, -1), scores)


def _rows_of(user: Tensor, data: HeteroData) -> tuple[Tensor, Tensor]:
    """Held-out interactions, with places among the sorted users in place of these."""
    held_out = data[INTERACTS].edge_label_index
    return torch.searchsorted(user, held_out[0].contiguous()), held_out[1]


class SampledEvaluator(BaseEvaluator):
    """Ranks each held-out interaction among some items that the user has not interacted with.

    Made for models whose scores come from pairs of a user and an item, which take too long for the whole catalogue.
    Values are much higher than those of a full ranking, may order models differently
    (`"On Sampled Metrics for Item Recommendation" <https://doi.org/10.1145/3394486.3403226>`_) and compare only with
    those of equally many negatives.

    - **Candidates**: every held-out interaction has a list of its own, the positive item and ``num_negatives`` others.
      These are drawn uniformly, without repeats within a list, from the items that are neither in
      ``data['user'].seen_item`` (train items; with ``strict=True`` at test validation items as well) nor held out for
      the user in this view. Lists of one user are drawn independently of each other. A user with fewer items left gets
      them all; one with none is left out. The draw depends on the view and on ``seed``, on nothing else: all models
      and all epochs see the same candidates.
    - ``'gauc'`` is the :func:`~pyg_mmrec.metrics.group_auc` over a user's impressions: its positives, and the negatives
      of all of its lists.
    - ``'ndcg@10'`` and the other accuracy metrics of :func:`~pyg_mmrec.metrics.ranking_metrics` are of the positive
      among the negatives of its own list, and means over the held-out interactions. With one positive in a list,
      recall and hit are the same. The order among equal scores is random, from ``seed``.

    Args:
        metrics: ``'gauc'`` and names of accuracy metrics.
        num_negatives: In each list (default: 100, a choice of ours: MDR's paper names none).
        block_size: Users graded at a time, and lists drawn and scored at a time: memory is ``block_size * num_items``
            bytes, and ``block_size * (1 + num_negatives)`` times what the model needs for a pair.
        seed: Seed of the candidates and of the order of ties.

    Raises:
        ValueError: If a name is unknown, a metric asks for more items than a list has, or an argument is out of range.

    Example:
        >>> from pyg_mmrec.models import Popularity
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 4
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 1, 1], [0, 0, 1]])
        >>> data['user', 'interacts', 'item'].edge_label_index = torch.tensor([[0], [1]])
        >>> SampledEvaluator(['gauc', 'ndcg@2'], num_negatives=2)(Popularity.from_data(data), data)
        {'gauc': 1.0, 'ndcg@2': 1.0}
    """

    DEFAULT = (GAUC, "ndcg@10", "hit@10", "mrr@10")

    def __init__(
        self,
        metrics: list[str] | tuple[str, ...] = DEFAULT,
        *,
        num_negatives: int = 100,
        block_size: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__(metrics, block_size, seed)
        check_int(1, num_negatives=num_negatives)
        self.num_negatives = num_negatives
        self.ranked = tuple(name for name in self.metrics if name != GAUC)
        self.max_k = max((self._checked_k(name) for name in self.ranked), default=1)

    def _checked_k(self, name: str) -> int:
        if "@" not in name:
            raise ValueError(f"a metric is '{GAUC}' or written kind@k, such as 'ndcg@10' (got {name!r})")
        kind, k = parse_metric(name)
        if kind not in ACCURACY:
            raise ValueError(
                f"'{name}' describes lists of the whole catalogue, not of sampled candidates: use Evaluator"
            )
        if k > self.num_negatives + 1:
            raise ValueError(
                f"'{name}' asks for more than the {self.num_negatives + 1} candidates of a list: lower k or raise "
                f"'num_negatives'"
            )
        return k

    def measure(self, score: Score, data: HeteroData) -> dict[str, float]:
        """The metrics of scores, see :meth:`BaseEvaluator.measure`."""
        (ptr, positives), left = self._lists(data)
        metrics, auc, impressions = ranking_metrics(self.ranked, data), 0.0, 0.0
        generator = torch.Generator().manual_seed(self.seed)
        for users in ptr.diff().nonzero().flatten().split(self.block_size):
            row, entry = csr_entries(ptr, users)
            blocks = zip(users[row].split(self.block_size), positives[entry].split(self.block_size), strict=True)
            parts = []
            for user, positive in blocks:
                # a row of numbers for each list, so that blocks of any size draw the same
                uniform = torch.rand(user.numel(), 1 + self.num_negatives, generator=generator, dtype=torch.float64)
                uniform = uniform.to(user.device)
                item = _candidates(left, user, positive, uniform[:, 1:])
                scores = _scores(score, user, item)
                metrics.update(*self._ranked(positive, _places(scores, item >= 0, uniform[:, 0])))
                parts.append((scores, item >= 0))
            every, there = (torch.cat(part) for part in zip(*parts, strict=True))
            value, weight = _impressions(every, there, row)
            auc, impressions = auc + float(value @ weight), impressions + float(weight.sum())
        found = {**metrics.compute(), GAUC: auc / impressions}
        return {name: found[name] for name in self.metrics}

    def check(self, data: HeteroData) -> None:
        """Refuses a view that cannot be graded, which is better known before a training than after it.

        Args:
            data: The validation or test view of a split.

        Raises:
            ValueError: As :meth:`BaseEvaluator.check` does, or if no user with held-out items has an item left to draw.
        """
        super().check(data)
        self._lists(data)

    def settings(self) -> dict[str, Any]:
        """What a training that was selected by this evaluator must have again when it is resumed."""
        own = {"evaluator.num_negatives": self.num_negatives, "evaluator.seed": self.seed}
        return super().settings() | own

    def _lists(self, data: HeteroData) -> tuple[tuple[Tensor, Tensor], ItemsLeft]:
        """The positive items in CSR form by user, and what may be drawn beside them."""
        num_users, num_items = num_users_items(data)
        ptr, seen = seen_items(data)
        held_out = data[INTERACTS].edge_label_index
        taken = torch.cat([torch.stack([segment_rows(ptr), seen]), held_out], dim=1)
        left = ItemsLeft(taken, num_users, torch.arange(num_items, device=seen.device))
        pair = (held_out[0] * num_items + held_out[1]).unique()
        pair = pair[left.count[pair // num_items] > 0]
        if not pair.numel():
            raise ValueError(
                "no user with held-out interactions has an item left that could be drawn as a negative: use Evaluator"
            )
        return to_csr(pair // num_items, pair % num_items, num_users), left

    def _ranked(self, positive: Tensor, place: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Lists with the positive item alone, and what is held out, for the ranking metrics."""
        row, near = torch.arange(place.numel(), device=place.device), place < self.max_k
        items = positive.new_full((place.numel(), self.max_k), -1)
        items[row[near], place[near]] = positive[near]
        return items, (row, positive)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.metrics)}, num_negatives={self.num_negatives})"


def _candidates(left: ItemsLeft, user: Tensor, positive: Tensor, uniform: Tensor) -> Tensor:
    """``[L, 1 + num_negatives]``: the positive item, then negative ones, -1 where no more are left."""
    rank = distinct_ranks(left.count[user], uniform)
    negative = left(user.unsqueeze(1), rank.clamp_min(0)).masked_fill(rank < 0, -1)
    return torch.cat([positive.unsqueeze(1), negative], dim=1)


def _scores(score: Score, user: Tensor, item: Tensor) -> Tensor:
    """``[L, C]`` scores of the candidates; those of the positive item where there is none."""
    scores = score(user, torch.where(item < 0, item[:, :1], item))
    if scores.isnan().any():
        raise ValueError(f"the scores of user {int(user[scores.isnan().any(1)][0])} are NaN: the model has diverged")
    return scores


def _places(scores: Tensor, there: Tensor, uniform: Tensor) -> Tensor:
    """Where the first candidate of each list stands, from 0; anywhere among those of equal score."""
    first, others = scores[:, :1], scores[:, 1:]
    equal = ((others == first) & there[:, 1:]).sum(1)
    before = (uniform * (equal + 1)).long().minimum(equal)
    place: Tensor = ((others > first) & there[:, 1:]).sum(1) + before
    return place


def _impressions(scores: Tensor, there: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """The AUC of each user, over all its lists, and its number of impressions."""
    label = torch.zeros_like(there)
    label[:, 0] = True
    return auc_by_group(scores[there], label[there], row.unsqueeze(1).expand_as(there)[there])
