"""Full-ranking evaluation."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.metrics import parse_metric, ranking_metrics
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import num_users_items, rank_items, seen_items, with_operators
from pyg_mmrec.utils.checks import check_int, check_names
from pyg_mmrec.utils.hetero import checked_edges

__all__ = ["Evaluator"]


class Scorer(Protocol):
    """What evaluation needs to know of a model."""

    training: bool

    def train(self, mode: bool = True) -> Any:
        """Sets ``training``."""
        ...

    def __call__(self, data: HeteroData) -> Any: ...

    def score(self, data: HeteroData, representations: Any, user: Tensor, item: Tensor | None = None) -> Tensor:
        """``[B, C]`` scores of ``[C]`` items for ``[B]`` users."""
        ...


class Evaluator:
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
        check_names(metrics=metrics)
        check_int(1, block_size=block_size)
        check_int(0, seed=seed)
        self.metrics = tuple(metrics)
        if not self.metrics:
            raise ValueError("'metrics' must name at least one metric (got none)")
        self.max_k = max(parse_metric(name)[1] for name in self.metrics)
        self.block_size = block_size
        self.seed = seed

    @torch.no_grad()
    def __call__(self, model: Scorer, data: HeteroData) -> dict[str, float]:
        """The metrics of a model.

        Args:
            model: A :class:`~pyg_mmrec.models.Recommender`; it is evaluated in eval mode.
            data: The validation or test view of a split.

        Raises:
            ValueError: As :meth:`check` does, or if the model's scores are NaN.
        """
        self.check(data)
        metrics = ranking_metrics(self.metrics, data)
        held_out = data[INTERACTS].edge_label_index
        user, position = held_out[0].unique(return_inverse=True)
        scores, items = self._rank(model, data, user)
        metrics.update(items.masked_fill(scores == -torch.inf, -1), (position, held_out[1]))
        return metrics.compute()

    def check(self, data: HeteroData) -> None:
        """Refuses a view that cannot be graded, which is better known before a training than after it.

        Args:
            data: The validation or test view of a split.

        Raises:
            ValueError: If the view has no held-out items, names users or items that are not there, or a metric asks for
                more items than there are.
        """
        checked_edges(data, INTERACTS)
        ranking_metrics(self.metrics, data)
        if "edge_label_index" not in data[INTERACTS] or not checked_edges(data, INTERACTS, "edge_label_index").numel():
            raise ValueError("the data has no held-out interactions, 'edge_label_index': pass a view that a split made")

    def _rank(self, model: Scorer, data: HeteroData, user: Tensor) -> tuple[Tensor, Tensor]:
        training = model.training
        model.train(False)
        try:
            data = with_operators(data)
            representations = model(data)
            return rank_items(
                lambda users, items: model.score(data, representations, users, items),
                user,
                self.max_k,
                num_users_items(data)[1],
                seen_items(data),
                block_size=self.block_size,
                generator=torch.Generator().manual_seed(self.seed),
            )
        finally:
            model.train(training)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.metrics)})"
