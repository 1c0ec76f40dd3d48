"""Ranking with what a model made of a graph once."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.utils import Ids, interactions, num_users_items, popular_items, seen_items, with_operators
from pyg_mmrec.utils.checks import check_flag, check_int
from pyg_mmrec.utils.modes import evaluating
from pyg_mmrec.utils.popular import Fallback
from pyg_mmrec.utils.ranking import top_columns

#: Scores that are in memory at a time where 'block_size' is not given, and users of such a block at most.
SCORES_AT_ONCE, USERS_AT_ONCE = 2**26, 1024


class Model(Protocol):
    """What retrieval needs to know of a :class:`~pyg_mmrec.models.Recommender`."""

    training: bool

    def train(self, mode: bool = True) -> Any:
        """Sets ``training``."""
        ...

    def __call__(self, data: HeteroData) -> Any:
        """The representations."""
        ...

    def check_data(self, data: HeteroData) -> None:
        """Refuses data of another size."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The weights by name."""
        ...

    def score(self, data: HeteroData, representations: Any, user: Tensor, item: Tensor | None = None) -> Tensor:
        """``[B, num_items]`` scores of all items for ``[B]`` users."""
        ...

    def score_vectors(self, representations: Any) -> Any:
        """Vectors ``user`` and ``item`` whose inner products are the scores, or None."""
        ...


class Retriever:
    """Ranks items for users; the model runs over the graph once, when this is made.

    What :meth:`~pyg_mmrec.models.Recommender.recommend` gives, but for the order of equal scores, without computing the
    representations for each call. Memory is that of the representations and of one block of scores.

    Args:
        model: A :class:`~pyg_mmrec.models.Recommender`.
        data: The graph that the model reads, the train view of a split or whole.
        ids: The catalogue's own ids, for the tables and the service (default: the nodes' numbers).
        block_size: Users scored at a time (default: as many as give 2**26 scores, at most 1024).
        fallback: What users without interactions in the graph get, and those of whom nothing is known, whose node is
            -1: None (default), the model's items all the same, ``'popular'`` the most popular items, ``'recent'`` the
            most popular of late, with numbers of interactions for scores (:func:`~pyg_mmrec.utils.popular_items`).

    Attributes:
        representations: What the model made of the graph.
        seen: CSR pointers and items that a user has had, see :func:`~pyg_mmrec.utils.seen_items`.

    Raises:
        ValueError: If the data or the ids are not of the model's size, or an argument is out of range.

    Example:
        >>> from pyg_mmrec.models import Popularity
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 3
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 1, 1], [2, 2, 0]])
        >>> retriever = Retriever(Popularity.from_data(data), data)
        >>> retriever(torch.tensor([0, 1]), k=2)[1]
        tensor([[ 0,  1],
                [ 1, -1]])
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Model,
        data: HeteroData,
        ids: Ids | None = None,
        block_size: int | None = None,
        fallback: Fallback | None = None,
    ) -> None:
        model.check_data(data)
        self.num_users, self.num_items = num_users_items(data)
        if ids is not None and ids.sizes() != (self.num_users, self.num_items):
            found, own = ids.sizes(), (self.num_users, self.num_items)
            raise ValueError(
                f"'ids' names {found[0]} users and {found[1]} items but the data has {own[0]} and {own[1]}: pass the "
                f"ids that belong to the data"
            )
        if block_size is None:
            block_size = max(1, min(USERS_AT_ONCE, SCORES_AT_ONCE // self.num_items))
        check_int(1, block_size=block_size)
        self.block_size, self.ids, self.fallback = block_size, ids, fallback
        if fallback is not None:
            self._popular = popular_items(data, self.num_items, fallback)
            known = torch.bincount(interactions(data)[0], minlength=self.num_users) > 0
            self._known = torch.cat([known, known.new_zeros(1)])  # the last stands for -1
        self.model, self.data = model, with_operators(data)
        self.seen = seen_items(data)
        with evaluating(model):
            self.representations = model(self.data)
        #: Vectors ``user`` and ``item`` whose inner products are the scores; None where scores are something else.
        self.vectors = model.score_vectors(self.representations)

    def check_k(self, k: int) -> None:
        """Refuses a number of items that the catalogue does not have."""
        check_int(0, k=k)
        if not 1 <= k <= self.num_items:
            raise ValueError(f"'k' must lie in 1..{self.num_items}, the number of items (got {k})")

    @torch.no_grad()
    def __call__(self, user: Tensor, k: int = 10, exclude_seen: bool = True) -> tuple[Tensor, Tensor]:
        """The k best items for each user.

        Args:
            user: ``[n]`` user nodes; -1, where there is a fallback, for a user of whom nothing is known.
            k: How many items (default: 10).
            exclude_seen: Leave out what the user has had (default: True).

        Returns:
            ``[n, k]`` scores and ``[n, k]`` items, best first; -1 where a user has fewer than k items left.

        Raises:
            ValueError: If an argument is out of range or a score is NaN.
        """
        self.check_k(k)
        check_flag(exclude_seen=exclude_seen)
        lowest = 0 if self.fallback is None else -1
        if user.numel() and not lowest <= int(user.min()) <= int(user.max()) < self.num_users:
            raise ValueError(
                f"'user' must lie in {lowest}..{self.num_users - 1} (got {int(user.min())}..{int(user.max())})"
            )
        found = []
        with evaluating(self.model):
            for block in user.clamp_min(0).split(self.block_size):
                scores = self.model.score(self.data, self.representations, block)
                found.append(top_columns(scores, block, k, self.seen if exclude_seen else None))
        if not found:
            return torch.empty(0, k), torch.empty(0, k, dtype=torch.long)
        scores, items = (torch.cat(part) for part in zip(*found, strict=True))
        if self.fallback is not None:
            unknown = ~self._known[user]
            scores[unknown], items[unknown] = (part[:k] for part in self._popular)
        return scores, items.masked_fill(scores == -torch.inf, -1)
