"""Train, validation and test views of one graph."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import cumsum

from pyg_mmrec.typing import INTERACTS, ITEM, USER
from pyg_mmrec.utils import num_users_items
from pyg_mmrec.utils.checks import check_choice, check_flag, check_int, check_number
from pyg_mmrec.utils.csr import to_csr
from pyg_mmrec.utils.hetero import checked_edges
from pyg_mmrec.utils.operators import OPERATOR

TRAIN, VAL, TEST = range(3)

#: Added to a share of a whole number before it is rounded down, because 0.29 * 100 is a little less than 29.
_ROUNDING = 1e-9


class InteractionSplit(BaseTransform):
    """Base of the splits: makes the views; sub-classes say in :meth:`labels` which part an interaction belongs to.

    Messages pass over the train edges in all three views, which share their tensors with each other and with the input:
    ``edge_index`` and the other tensors with one entry per interaction hold train edges, ``edge_label_index`` what is
    trained or graded on, ``data['user'].seen_ptr`` and ``seen_item`` (CSR, sorted) what is never recommended. A
    ``split`` that the input carries is left out.

    Held-out interactions of users without a train interaction are dropped. Items without one stay candidates.

    Args:
        strict: Whether validation items are never recommended in the test view either, besides the train items
            (default: False, the published protocol).
    """

    #: The evaluation protocol's name; see :attr:`protocol`.
    name: ClassVar[str]

    def __init__(self, *, strict: bool = False) -> None:
        check_flag(strict=strict)
        self.strict = strict

    @property
    def protocol(self) -> str:
        """The evaluation protocol's name, for result rows; ``'mmrec'`` is the published one."""
        return f"{self.name}-strict" if self.strict else self.name

    @abstractmethod
    def labels(self, data: HeteroData) -> Tensor:
        """``[num_interactions]``: 0 for train, 1 for validation, 2 for test."""

    def forward(self, data: HeteroData) -> tuple[HeteroData, HeteroData, HeteroData]:
        """The train, validation and test view."""
        user, item = edge_index = _checked_interactions(data)
        num_users, _ = num_users_items(data)
        label = self.labels(data)
        train, val, test = ((label == part).nonzero().view(-1) for part in (TRAIN, VAL, TEST))
        has_train = torch.bincount(user[train], minlength=num_users) > 0
        val, test = val[has_train[user[val]]], test[has_train[user[test]]]
        for name, edges in (("train", train), ("validation", val), ("test", test)):
            if not edges.numel():
                raise ValueError(f"{self} leaves no {name} interactions of users with train interactions")
        seen = to_csr(user[train], item[train], num_users)
        seen_at_test = seen
        if self.strict:
            both = torch.cat([train, val])
            seen_at_test = to_csr(user[both], item[both], num_users)
        base = _with_train_edges(data, train)
        train_edges = base[INTERACTS].edge_index
        return (
            _view(base, train_edges, seen),
            _view(base, edge_index[:, val], seen),
            _view(base, edge_index[:, test], seen_at_test),
        )

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


def _checked_interactions(data: HeteroData) -> Tensor:
    """The interactions, if they can be split without a leak."""
    edge_index = checked_edges(data, INTERACTS)
    pairs = edge_index[0] * num_users_items(data)[1] + edge_index[1]
    repeats = pairs.numel() - pairs.unique().numel()
    if repeats:
        raise ValueError(
            f"{repeats} user-item pairs are repeats of others; keep one edge of each pair before the split"
        )
    if "edge_weight" in data[INTERACTS]:
        raise ValueError(f"'edge_weight' of {INTERACTS} counts held-out edges; split first, then weight the views")
    reverse = (ITEM, f"rev_{INTERACTS[1]}", USER)
    if reverse in data.edge_types:
        raise ValueError(
            f"edges {reverse} would lead messages over held-out edges; split first, then reverse the views"
        )
    return edge_index


def _with_train_edges(data: HeteroData, train: Tensor) -> HeteroData:
    """A shallow copy with the train edges and what belongs to them."""
    view = copy.copy(data)
    store = view[INTERACTS]
    num_edges = store.edge_index.size(1)
    for key in ("split", OPERATOR, "edge_label_index"):
        if key in store:
            del store[key]
    for key, value in list(store.items()):
        if key == "edge_index":
            store[key] = value[:, train]
        elif isinstance(value, Tensor) and value.dim() and value.size(0) == num_edges:
            store[key] = value[train]
    return view


def _view(base: HeteroData, edge_label_index: Tensor, seen: tuple[Tensor, Tensor]) -> HeteroData:
    view = copy.copy(base)
    view[INTERACTS].edge_label_index = edge_label_index
    view[USER].seen_ptr, view[USER].seen_item = seen
    return view


def _place(user: Tensor, order: Tensor, num_users: int) -> tuple[Tensor, Tensor]:
    """Where each interaction stands among its user's in a given order of all, from 0; and how many the user has."""
    count = torch.bincount(user, minlength=num_users)
    order = order[user[order].argsort(stable=True)]
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel(), device=order.device) - cumsum(count)[user[order]]
    return place, count[user]


def _random_order(size: int, seed: int, device: torch.device) -> Tensor:
    """A permutation that depends on the seed alone."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed)).to(device)


def _check_shares(val: float, test: float) -> None:
    check_number(val=val, test=test)
    for name, share in (("val", val), ("test", test)):
        if not 0 < share < 1:
            raise ValueError(f"{name!r} must lie in (0, 1) (got {share})")
    if val + test >= 1:
        raise ValueError(f"'val' + 'test' must be less than 1 (got {val} + {test})")


def _times(data: HeteroData, hint: str) -> Tensor:
    """The checked ``time`` of each interaction."""
    time = data[INTERACTS].get("time")
    if time is None:
        raise ValueError(f"data[{INTERACTS}] has no 'time'; store one per interaction or {hint}")
    if time.shape != (data[INTERACTS].edge_index.size(1),):
        raise ValueError(f"'time' must have one entry per interaction (got the shape {tuple(time.shape)})")
    if bool(time.isnan().any()):
        raise ValueError(f"'time' of {int(time.isnan().sum())} interactions is NaN; fill it in or drop them")
    checked: Tensor = time
    return checked


class LabelSplit(InteractionSplit):
    """The split that the data carries in ``data['user', 'interacts', 'item'].split``, such as a published one.

    Args:
        strict: Whether validation items are never recommended in the test view either (default: False).

    Raises:
        ValueError: When applied, if the data carries no split, or not one 0 (train), 1 (validation) or 2 (test) per
            interaction; if a part is empty.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 1, 4
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 0, 0], [3, 2, 1, 0]])
        >>> data['user', 'interacts', 'item'].split = torch.tensor([0, 2, 0, 1])
        >>> train_data, val_data, test_data = LabelSplit()(data)
        >>> test_data['user', 'interacts', 'item'].edge_index
        tensor([[0, 0],
                [3, 1]])
        >>> test_data['user', 'interacts', 'item'].edge_label_index
        tensor([[0],
                [2]])
        >>> test_data['user'].seen_item
        tensor([1, 3])
    """

    name = "mmrec"

    def labels(self, data: HeteroData) -> Tensor:
        """The labels in the data."""
        label = data[INTERACTS].get("split")
        if label is None:
            raise ValueError(f"data[{INTERACTS}] has no 'split'; use RandomSplit, LeaveLastOut or another split")
        if label.shape != (data[INTERACTS].edge_index.size(1),):
            raise ValueError(f"'split' must have one entry per interaction (got the shape {tuple(label.shape)})")
        wrong = (label != TRAIN) & (label != VAL) & (label != TEST)
        if bool(wrong.any()):
            raise ValueError(f"'split' must be 0, 1 or 2 everywhere (got {label[wrong][0].item()})")
        checked: Tensor = label
        return checked


class RandomSplit(InteractionSplit):
    """Holds out random interactions of each user, by the rule behind the published Amazon files.

    Users with fewer than ``min_interactions`` give one interaction to validation and one to test, all others the share
    ``holdout``, rounded down, half and half, the odd one to test. Users with fewer than three keep all for training.

    Args:
        holdout: Share of a user's interactions that is held out (default: 0.2, the published files').
        min_interactions: Interactions from which on the share applies (default: 10, the published files').
        seed: Seed of the draw, which depends on the order of the edges but not on device or threads (default: 0).
        strict: Whether validation items are never recommended in the test view either (default: False).

    Raises:
        ValueError: If an argument is out of range; when applied, if a part is empty.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 1, 15
        >>> data['user', 'interacts', 'item'].edge_index = torch.stack([torch.zeros(15).long(), torch.arange(15)])
        >>> [view['user', 'interacts', 'item'].edge_label_index.size(1) for view in RandomSplit()(data)]
        [12, 1, 2]
    """

    name = "random"

    def __init__(
        self, holdout: float = 0.2, min_interactions: int = 10, *, seed: int = 0, strict: bool = False
    ) -> None:
        check_number(holdout=holdout)
        check_int(0, min_interactions=min_interactions, seed=seed)
        if not 0 < holdout < 1:
            raise ValueError(f"'holdout' must lie in (0, 1) (got {holdout})")
        self.holdout = holdout
        self.min_interactions = min_interactions
        self.seed = seed
        super().__init__(strict=strict)

    def labels(self, data: HeteroData) -> Tensor:
        """The first of each user's interactions in a random order are test, the next validation."""
        user = data[INTERACTS].edge_index[0]
        order = _random_order(user.numel(), self.seed, user.device)
        place, count = _place(user, order, num_users_items(data)[0])
        held_out = (count.double() * self.holdout + _ROUNDING).long()
        held_out[count < self.min_interactions] = 2
        held_out[count < 3] = 0
        label = torch.full_like(user, TRAIN)
        label[place < held_out] = VAL
        label[place < held_out - held_out // 2] = TEST
        return label


class LeaveLastOut(InteractionSplit):
    """Tests on each user's last interaction and validates on the one before.

    Users with fewer than three interactions keep all for training.

    Args:
        by: ``'time'`` (default), equal times in the order of the edges, or ``'order'``, the order of the edges alone.
        strict: Whether validation items are never recommended in the test view either (default: False).

    Raises:
        ValueError: If ``by`` is unknown; when applied, if times are needed and missing or NaN, or a part is empty.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 1, 4
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 3]])
        >>> data['user', 'interacts', 'item'].time = torch.tensor([30, 10, 40, 20])
        >>> [view['user', 'interacts', 'item'].edge_label_index[1].tolist() for view in LeaveLastOut()(data)]
        [[1, 3], [0], [2]]
    """

    name = "leave_last_out"

    def __init__(self, by: Literal["time", "order"] = "time", *, strict: bool = False) -> None:
        check_choice(("time", "order"), by=by)
        self.by = by
        super().__init__(strict=strict)

    def labels(self, data: HeteroData) -> Tensor:
        """Counts from the end of each user's history."""
        user = data[INTERACTS].edge_index[0]
        if self.by == "time":
            order = _times(data, "use by='order'").argsort(stable=True)
        else:
            order = torch.arange(user.numel(), device=user.device)
        place, count = _place(user, order, num_users_items(data)[0])
        label = torch.full_like(user, TRAIN)
        label[(count >= 3) & (place == count - 2)] = VAL
        label[(count >= 3) & (place == count - 1)] = TEST
        return label


class TemporalSplit(InteractionSplit):
    """Cuts all interactions at two points in time: train before validation before test.

    Interactions at the very time of a cut go to the earlier part.

    Args:
        val: Share of the interactions for validation (default: 0.1).
        test: Share of the interactions, the latest, for test (default: 0.1).
        strict: Whether validation items are never recommended in the test view either (default: False).

    Raises:
        ValueError: If a share is out of range; when applied, if times are missing or NaN, or a part is empty.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 1, 4
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 3]])
        >>> data['user', 'interacts', 'item'].time = torch.tensor([30, 10, 40, 20])
        >>> split = TemporalSplit(val=0.25, test=0.25)
        >>> [view['user', 'interacts', 'item'].edge_label_index[1].tolist() for view in split(data)]
        [[1, 3], [0], [2]]
    """

    name = "temporal"

    def __init__(self, val: float = 0.1, test: float = 0.1, *, strict: bool = False) -> None:
        _check_shares(val, test)
        self.val = val
        self.test = test
        super().__init__(strict=strict)

    def labels(self, data: HeteroData) -> Tensor:
        """Compares with the times at the two cuts."""
        time = _times(data, "use RandomSplit or LeaveLastOut(by='order')")
        label = torch.full_like(data[INTERACTS].edge_index[0], TRAIN)
        if time.numel():
            in_order = time.sort().values
            for share, part in ((self.val + self.test, VAL), (self.test, TEST)):
                last_before = time.numel() - int(share * time.numel() + _ROUNDING) - 1
                label[time > in_order[last_before]] = part
        return label


class ColdItemSplit(InteractionSplit):
    """Holds out items with all their interactions: no test or validation item has a train edge.

    Args:
        val: Share of the items that have interactions for validation, rounded down (default: 0.1).
        test: Share of these items for test, rounded down (default: 0.1).
        seed: Seed of the draw, which does not depend on the order of the edges, device or threads (default: 0).
        strict: Whether validation items are never recommended in the test view either (default: False).

    Raises:
        ValueError: If a share is out of range; when applied, if a part is empty.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 4
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3] * 2])
        >>> split = ColdItemSplit(val=0.25, test=0.25)
        >>> [view['user', 'interacts', 'item'].edge_label_index[1].unique().numel() for view in split(data)]
        [2, 1, 1]
    """

    name = "cold_items"

    def __init__(self, val: float = 0.1, test: float = 0.1, *, seed: int = 0, strict: bool = False) -> None:
        _check_shares(val, test)
        check_int(0, seed=seed)
        self.val = val
        self.test = test
        self.seed = seed
        super().__init__(strict=strict)

    def labels(self, data: HeteroData) -> Tensor:
        """Draws the items, then labels their interactions."""
        known, position = data[INTERACTS].edge_index[1].unique(return_inverse=True)
        num_test, num_val = (int(share * known.numel() + _ROUNDING) for share in (self.test, self.val))
        order = _random_order(known.numel(), self.seed, known.device)
        label = torch.full_like(known, TRAIN)
        label[order[:num_test]] = TEST
        label[order[num_test : num_test + num_val]] = VAL
        return label[position]
