from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.transforms import ColdItemSplit, LabelSplit, LeaveLastOut, NormalizeAdj, RandomSplit, TemporalSplit
from pyg_mmrec.transforms.split import InteractionSplit
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import with_operators

Views = tuple[HeteroData, HeteroData, HeteroData]


def make(pairs: list[tuple[int, int]], num_users: int, num_items: int, **attributes: list[float]) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    data[INTERACTS].edge_index = torch.tensor(pairs, dtype=torch.long).view(-1, 2).t().contiguous()
    for key, values in attributes.items():
        data[INTERACTS][key] = torch.tensor(values)
    return data


def of_sizes(sizes: list[int]) -> HeteroData:
    """One user for each size, with that many interactions, in a shuffled order."""
    pairs = torch.tensor([(user, item) for user, size in enumerate(sizes) for item in range(size)])
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(5))]
    data = make([], len(sizes), max(sizes))
    data[INTERACTS].edge_index = pairs.t().contiguous()
    return data


def pairs_of(edge_index: Tensor) -> list[tuple[int, int]]:
    return [(user, item) for user, item in edge_index.t().tolist()]


def parts(views: Views) -> list[set[tuple[int, int]]]:
    return [set(pairs_of(view[INTERACTS].edge_label_index)) for view in views]


def counts(views: Views, num_users: int) -> np.ndarray:
    """``[num_users, 3]`` graded interactions of each user."""
    return np.stack(
        [np.bincount(view[INTERACTS].edge_label_index[0].numpy(), minlength=num_users) for view in views], axis=1
    )


SPLITS: list[InteractionSplit] = [
    LabelSplit(),
    LabelSplit(strict=True),
    RandomSplit(seed=3),
    RandomSplit(0.5, 4, seed=1, strict=True),
    LeaveLastOut(),
    LeaveLastOut(by="order", strict=True),
    TemporalSplit(),
    TemporalSplit(0.3, 0.4, strict=True),
    ColdItemSplit(0.2, 0.2, seed=2),
    ColdItemSplit(0.3, 0.4, strict=True),
]


@st.composite
def graphs(draw: st.DrawFn) -> HeteroData:
    num_users, num_items = draw(st.integers(1, 6)), draw(st.integers(4, 16))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    everything = [(user, item) for user in range(num_users) for item in range(num_items)]
    size = draw(st.integers(1, len(everything)))
    pairs = [everything[place] for place in rng.permutation(len(everything))[:size]]
    return make(
        pairs,
        num_users,
        num_items,
        time=rng.integers(0, 40, size).tolist(),
        split=rng.choice([0, 0, 1, 2], size).tolist(),
        rating=[float(number) for number in range(size)],
    )


@pytest.mark.parametrize("split", SPLITS, ids=str)
@settings(max_examples=80, deadline=None)
@given(data=graphs())
def test_views_are_a_partition_without_a_leak(split: InteractionSplit, data: HeteroData) -> None:
    edges, label = pairs_of(data[INTERACTS].edge_index), split.labels(data).tolist()
    expected: list[set[tuple[int, int]]] = [
        {e for e, part in zip(edges, label, strict=True) if part == p} for p in range(3)
    ]
    with_train = {user for user, _ in expected[0]}
    expected[1:] = [{(user, item) for user, item in part if user in with_train} for part in expected[1:]]
    event(f"all parts hold something: {all(expected)}")
    if not all(expected):
        with pytest.raises(ValueError, match=r"leaves no (train|validation|test) interactions"):
            split(data)
        return
    views = split(data)
    assert parts(views) == expected
    assert sum(view[INTERACTS].edge_label_index.size(1) for view in views) == len(set.union(*expected))
    rating = dict(zip(edges, data[INTERACTS].rating.tolist(), strict=True))
    for number, view in enumerate(views):
        store = view[INTERACTS]
        train = pairs_of(store.edge_index)
        assert train == [edge for edge in edges if edge in expected[0]]
        assert store.rating.tolist() == [rating[edge] for edge in train]
        assert "split" not in store
        seen = expected[0] | expected[1] if split.strict and number == 2 else expected[0]
        ptr, item = view["user"].seen_ptr.tolist(), view["user"].seen_item.tolist()
        assert len(ptr) == data["user"].num_nodes + 1
        for user in range(data["user"].num_nodes):
            assert item[ptr[user] : ptr[user + 1]] == sorted(i for u, i in seen if u == user)


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_views_share_storage_and_the_input_stays(split: InteractionSplit) -> None:
    generator = torch.Generator().manual_seed(0)
    data = of_sizes([12, 15, 9, 20])
    size = data[INTERACTS].edge_index.size(1)
    data[INTERACTS].time = torch.randperm(size, generator=generator)
    data[INTERACTS].split = torch.arange(size) % 3
    data["item"].x_text = torch.rand(20, 4, generator=generator)
    before, keys = copy.deepcopy(data), list(data[INTERACTS])
    views = split(data)
    assert list(data[INTERACTS]) == keys
    assert "seen_ptr" not in data["user"]
    for key in ("edge_index", "time", "split"):
        assert torch.equal(data[INTERACTS][key], before[INTERACTS][key])
        if key != "split":
            assert len({view[INTERACTS][key].data_ptr() for view in views}) == 1
    assert {view["item"].x_text.data_ptr() for view in views} == {data["item"].x_text.data_ptr()}
    assert views[0][INTERACTS].edge_label_index.data_ptr() == views[0][INTERACTS].edge_index.data_ptr()
    assert views[0]["user"].seen_item.data_ptr() == views[1]["user"].seen_item.data_ptr()
    views[0]["item"].x_new = torch.zeros(20)
    views[0][INTERACTS].edge_label_index = torch.zeros(2, 0)
    assert "x_new" not in views[1]["item"]
    assert views[1][INTERACTS].edge_label_index.size(1) > 0


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_splits_repeat(split: InteractionSplit) -> None:
    data = of_sizes([12, 15, 9, 20])
    size = data[INTERACTS].edge_index.size(1)
    data[INTERACTS].time, data[INTERACTS].split = torch.arange(size) // 2, torch.arange(size) % 3
    assert parts(split(data)) == parts(copy.deepcopy(split)(copy.deepcopy(data)))


def published_rule(size: int) -> tuple[int, int, int]:
    if size < 3:
        return size, 0, 0
    if size < 10:
        return size - 2, 1, 1
    held_out = size * 2 // 10
    return size - held_out, held_out // 2, held_out - held_out // 2


def test_random_split_holds_out_by_the_published_rule() -> None:
    sizes = list(range(1, 60))
    assert counts(RandomSplit()(of_sizes(sizes)), len(sizes)).tolist() == [list(published_rule(n)) for n in sizes]


def test_random_split_takes_other_shares() -> None:
    rows = counts(RandomSplit(holdout=0.29, min_interactions=5)(of_sizes([2, 4, 5, 7, 100])), 5)
    assert rows.tolist() == [[2, 0, 0], [2, 1, 1], [4, 0, 1], [5, 1, 1], [71, 14, 15]]


def test_random_split_is_uniform_over_a_users_interactions() -> None:
    data = of_sizes([5] * 3000)
    _, val, test = RandomSplit(seed=7)(data)
    for view in (val, test):
        share = torch.bincount(view[INTERACTS].edge_label_index[1], minlength=5) / 3000
        assert (share - 0.2).abs().max() < 0.03  # four standard deviations


def test_random_split_depends_on_the_seed_and_not_on_threads() -> None:
    data = of_sizes([30] * 2000)
    first = RandomSplit(seed=1).labels(data)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert torch.equal(RandomSplit(seed=1).labels(data), first)
        assert not torch.equal(RandomSplit(seed=2).labels(data), first)
    finally:
        torch.set_num_threads(threads)


def test_leave_last_out_follows_time_then_edge_order() -> None:
    data = make(
        [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (0, 3), (1, 2), (2, 0), (2, 1)],
        num_users=3,
        num_items=4,
        time=[9, 5, 1, 9, 5, 2, 5, 1, 2],
    )
    train, val, test = parts(LeaveLastOut()(data))
    assert train == {(0, 1), (0, 3), (1, 0), (2, 0), (2, 1)}  # user 2 has too few
    assert val == {(0, 0), (1, 1)}
    assert test == {(0, 2), (1, 2)}
    assert parts(LeaveLastOut(by="order")(data))[1:] == [{(0, 2), (1, 1)}, {(0, 3), (1, 2)}]


def test_temporal_split_gives_ties_to_the_earlier_part() -> None:
    pairs = [(0, item) for item in range(10)]
    data = make(pairs, 1, 10, time=[0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert parts(TemporalSplit(0.2, 0.3)(data)) == [set(pairs[:5]), set(pairs[5:7]), set(pairs[7:])]
    data = make(pairs, 1, 10, time=[0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
    assert parts(TemporalSplit(0.4, 0.2)(data)) == [set(pairs[:6]), set(pairs[6:8]), set(pairs[8:])]
    data = make(pairs, 1, 10, time=[0, 0, 0, 0, 0, 0, 0, 1, 1, 2])  # the cuts fall after 0.5 and 0.8
    assert parts(TemporalSplit(0.3, 0.2)(data)) == [set(pairs[:7]), set(pairs[7:9]), set(pairs[9:])]
    data = make(pairs, 1, 10, time=[0, 0, 0, 0, 0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match=r"TemporalSplit.* leaves no test interactions"):
        TemporalSplit(0.2, 0.1)(data)


@pytest.mark.parametrize("seed", range(5))
def test_cold_items_have_no_train_edge(seed: int) -> None:
    data = of_sizes([20, 30, 25, 10])
    data["item"].num_nodes = 40  # ten without interactions, which are not drawn
    views = ColdItemSplit(val=0.1, test=0.2, seed=seed)(data)
    items = [set(view[INTERACTS].edge_label_index[1].tolist()) for view in views]
    assert [len(part) for part in items] == [21, 3, 6]
    assert len(set.union(*items)) == 30


def test_cold_items_do_not_depend_on_the_order_of_the_edges() -> None:
    data = of_sizes([20, 30, 25, 10])
    expected = parts(ColdItemSplit()(data))
    data[INTERACTS].edge_index = data[INTERACTS].edge_index.flip(1)
    assert parts(ColdItemSplit()(data)) == expected


def test_held_out_edges_of_users_without_a_train_edge_are_dropped() -> None:
    data = make([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)], 2, 3, split=[0, 1, 2, 1, 2])
    assert parts(LabelSplit()(data)) == [{(0, 0)}, {(0, 1)}, {(0, 2)}]


def test_weights_of_the_views_count_train_edges_only() -> None:
    data = make([(0, 0), (0, 1), (0, 2), (0, 3)], 1, 4, split=[0, 1, 0, 2])
    views = LabelSplit()(with_operators(data))  # an operator of all edges would leak
    assert all("operator" not in view[INTERACTS] for view in views)
    for view in views:
        weight = NormalizeAdj()(view)[INTERACTS].edge_weight
        torch.testing.assert_close(weight, torch.full((2,), 0.5**0.5))


def test_a_view_can_be_split_again() -> None:
    train = RandomSplit()(of_sizes([20, 30]))[0]
    assert counts(RandomSplit()(train), 2).tolist() == [[13, 1, 2], [20, 2, 2]]


def test_a_second_split_sets_no_stale_seen_items() -> None:
    train = RandomSplit()(of_sizes([20, 30]))[0]
    again = RandomSplit(seed=9)(train)
    assert again[2]["user"].seen_item.numel() == 33


CHAIN = [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize(
    ("split", "data", "message"),
    [
        (LabelSplit(), make(CHAIN, 1, 3), r"has no 'split'; use RandomSplit"),
        (LabelSplit(), make(CHAIN, 1, 3, split=[0, 1]), "'split' must have one entry per interaction"),
        (LabelSplit(), make(CHAIN, 1, 3, split=[0, 1, 3]), r"'split' must be 0, 1 or 2 everywhere \(got 3\)"),
        (LabelSplit(), make(CHAIN, 1, 3, split=[1, 1, 2]), "leaves no train interactions"),
        (LabelSplit(), make(CHAIN, 1, 3, split=[0, 2, 2]), "leaves no validation interactions"),
        (LabelSplit(), make(CHAIN, 1, 3, split=[0, 1, 1]), "leaves no test interactions"),
        (LabelSplit(), make([(0, 0), (1, 1), (0, 2)], 2, 3, split=[0, 1, 2]), "leaves no validation"),
        (RandomSplit(), make([], 1, 3), "leaves no train interactions"),
        (LeaveLastOut(), make([], 1, 3, time=[]), "leaves no train interactions"),
        (TemporalSplit(), make([], 1, 3, time=[]), "leaves no train interactions"),
        (ColdItemSplit(), make([], 1, 3), "leaves no train interactions"),
        (ColdItemSplit(), make(CHAIN, 1, 3), "leaves no validation interactions"),
        (LeaveLastOut(), make(CHAIN, 1, 3), r"has no 'time'; .*by='order'"),
        (TemporalSplit(), make(CHAIN, 1, 3), r"has no 'time'; .*RandomSplit"),
        (LeaveLastOut(), make(CHAIN, 1, 3, time=[1, torch.nan, 2]), "'time' of 1 interactions is NaN"),
        (TemporalSplit(), make(CHAIN, 1, 3, time=[1, 2]), "'time' must have one entry per interaction"),
        (RandomSplit(), make([*CHAIN, (0, 1), (0, 1)], 1, 3), "2 user-item pairs are repeats"),
        (RandomSplit(), make(CHAIN, 1, 2), r"names items outside 0\.\.1 \(got 0\.\.2\)"),
        (RandomSplit(), make([(-1, 0)], 1, 2), r"names users outside 0\.\.0 \(got -1\.\.-1\)"),
        (RandomSplit(), make(CHAIN, 1, 3, edge_weight=[1, 1, 1]), "'edge_weight' of .* counts held-out edges"),
        (RandomSplit(), HeteroData(), "edge_index"),
    ],
)
def test_errors_are_one_line(split: InteractionSplit, data: HeteroData, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        split(data)
    assert "\n" not in str(error.value)


def test_reverse_edges_would_leak() -> None:
    data = make(CHAIN, 1, 3, split=[0, 1, 2])
    data["item", "rev_interacts", "user"].edge_index = data[INTERACTS].edge_index.flip(0)
    with pytest.raises(ValueError, match="split first, then reverse the views"):
        LabelSplit()(data)


@pytest.mark.parametrize(
    ("make_split", "message"),
    [
        (lambda: RandomSplit(holdout=0), r"'holdout' must lie in \(0, 1\) \(got 0\)"),
        (lambda: RandomSplit(holdout=1), "'holdout'"),
        (lambda: RandomSplit(min_interactions=-1), "'min_interactions' must not be negative"),
        (lambda: LeaveLastOut(by="rating"), r"'by' must be 'time' or 'order' \(got 'rating'\)"),  # type: ignore[arg-type]
        (lambda: TemporalSplit(val=0), r"'val' must lie in \(0, 1\)"),
        (lambda: ColdItemSplit(test=1.5), r"'test' must lie in \(0, 1\)"),
        (lambda: TemporalSplit(0.5, 0.5), r"'val' \+ 'test' must be less than 1 \(got 0\.5 \+ 0\.5\)"),
    ],
)
def test_arguments_are_checked(make_split, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make_split()


def test_repr_names_the_protocol() -> None:
    assert repr(RandomSplit()) == "RandomSplit(holdout=0.2, min_interactions=10, seed=0, strict=False)"
    assert repr(LeaveLastOut(strict=True)) == "LeaveLastOut(by='time', strict=True)"
    assert repr(ColdItemSplit(seed=4)) == "ColdItemSplit(val=0.1, test=0.1, seed=4, strict=False)"


@pytest.mark.data
def test_baby_is_split_by_the_rule(data_root: Path) -> None:
    table = np.loadtxt(data_root / "baby" / "baby.inter", skiprows=1, usecols=(0, 1, 2), dtype=np.int64)
    data = make([], int(table[:, 0].max()) + 1, int(table[:, 1].max()) + 1)
    data[INTERACTS].edge_index = torch.from_numpy(table[:, :2].T.copy())
    data[INTERACTS].split = torch.from_numpy(table[:, 2].copy())
    published = counts(LabelSplit()(data), data["user"].num_nodes)
    assert published.sum(0).tolist() == [118_551, 20_559, 21_682]
    assert np.array_equal(counts(RandomSplit(seed=1)(data), data["user"].num_nodes), published)
