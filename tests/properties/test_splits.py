from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_mmrec.transforms import ColdItemSplit, LabelSplit, LeaveLastOut, RandomSplit, TemporalSplit
from pyg_mmrec.transforms.split import InteractionSplit
from pyg_mmrec.typing import INTERACTS
from tests.properties.strategies import PROPERTY, Pair, interactions, pairs_of

SHARES = st.sampled_from([0.05, 0.1, 0.25, 0.3, 0.45])
STRICT = st.booleans()
SEEDS = st.integers(0, 2**31)

SPLITS: dict[str, st.SearchStrategy[InteractionSplit]] = {
    "label": st.builds(LabelSplit, strict=STRICT),
    "random": st.builds(RandomSplit, SHARES, st.integers(0, 12), seed=SEEDS, strict=STRICT),
    "last": st.builds(LeaveLastOut, st.sampled_from(["time", "order"]), strict=STRICT),
    "temporal": st.builds(TemporalSplit, SHARES, SHARES, strict=STRICT),
    "cold": st.builds(ColdItemSplit, SHARES, SHARES, seed=SEEDS, strict=STRICT),
}
Parts = tuple[list[Pair], list[Pair], list[Pair]]


def graded(split: InteractionSplit, data: HeteroData) -> Parts | None:
    """What the three views are trained or graded on; None where a part would be empty."""
    try:
        views = split(data)
    except ValueError as error:
        assert "leaves no" in str(error)  # noqa: PT017
        return None
    one, two, three = (pairs_of(view[INTERACTS].edge_label_index) for view in views)
    return one, two, three


@pytest.mark.parametrize("name", SPLITS)
@PROPERTY
@given(st.data(), interactions(min_edges=8))
def test_parts_are_a_partition(name: str, draw: st.DataObject, data: HeteroData) -> None:
    """Every interaction is in one part, but those held out of users without a train interaction, in none."""
    split = draw.draw(SPLITS[name])
    parts = graded(split, data)
    if parts is None:
        return
    together = [pair for part in parts for pair in part]
    edges = pairs_of(data[INTERACTS].edge_index)
    assert len(set(together)) == len(together)
    assert set(together) <= set(edges)
    trained = {user for user, _ in parts[0]}
    assert {user for user, _ in together} <= trained
    assert {user for user, _ in set(edges) - set(together)}.isdisjoint(trained)


@pytest.mark.parametrize("name", SPLITS)
@PROPERTY
@given(st.data(), interactions(min_edges=8))
def test_nothing_leaks(name: str, draw: st.DataObject, data: HeteroData) -> None:
    """Messages pass over train edges in all views, and no view recommends what its user has trained on."""
    split = draw.draw(SPLITS[name])
    parts = graded(split, data)
    if parts is None:
        return
    for number, view in enumerate(split(data)):
        assert sorted(pairs_of(view[INTERACTS].edge_index)) == sorted(parts[0])
        assert view[INTERACTS].time.numel() == len(parts[0])
        ptr, item = view["user"].seen_ptr.tolist(), view["user"].seen_item.tolist()
        seen = {(u, i) for u in range(data["user"].num_nodes) for i in item[ptr[u] : ptr[u + 1]]}
        assert seen == {*parts[0], *(parts[1] if split.strict and number == 2 else [])}
        assert len(item) == len(seen)
        if number:
            assert seen.isdisjoint(parts[2] if number == 2 else parts[1])


@pytest.mark.parametrize("name", SPLITS)
@PROPERTY
@given(st.data(), interactions(min_edges=8))
def test_splits_follow_from_their_arguments(name: str, draw: st.DataObject, data: HeteroData) -> None:
    split = draw.draw(SPLITS[name])
    before = {key: value.clone() for key, value in data[INTERACTS].items()}
    torch.manual_seed(draw.draw(SEEDS))  # plays no part
    state = torch.get_rng_state()
    assert graded(split, data) == graded(copy.deepcopy(split), data)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(data[INTERACTS][key], value) for key, value in before.items())


@PROPERTY
@given(interactions(), SHARES, st.integers(0, 12), SEEDS)
def test_sizes_of_a_random_split(data: HeteroData, holdout: float, least: int, seed: int) -> None:
    label = RandomSplit(holdout, least, seed=seed).labels(data)
    user = data[INTERACTS].edge_index[0]
    for part in user.unique():
        count = int((user == part).sum())
        out = 0 if count < 3 else 2 if count < least else int(round(count * holdout, 9))
        sizes = torch.bincount(label[user == part], minlength=3).tolist()
        assert sizes == [count - out, out // 2, out - out // 2]


@PROPERTY
@given(interactions(), SHARES, SHARES, SEEDS, st.randoms(use_true_random=False))
def test_cold_items_are_cold(data: HeteroData, val: float, test: float, seed: int, random: object) -> None:
    split, item = ColdItemSplit(val, test, seed=seed), data[INTERACTS].edge_index[1]
    label = split.labels(data)
    known = item.unique().numel()
    parts = [set(item[label == part].tolist()) for part in range(3)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == known
    assert [len(part) for part in parts[1:]] == [int(round(share * known, 9)) for share in (val, test)]
    flipped = copy.copy(data)
    flipped[INTERACTS].edge_index = data[INTERACTS].edge_index.flip(1)
    assert torch.equal(split.labels(flipped).flip(0), label)


@PROPERTY
@given(interactions(), st.sampled_from(["time", "order"]))
def test_the_last_interactions_are_held_out(data: HeteroData, by: str) -> None:
    label = LeaveLastOut(by).labels(data)  # type: ignore[arg-type]
    user, time = data[INTERACTS].edge_index[0], data[INTERACTS].time
    for part in user.unique():
        own = (user == part).nonzero().flatten()
        order = own[time[own].argsort(stable=True)] if by == "time" else own
        expected = [0] * len(own) if len(own) < 3 else [0] * (len(own) - 2) + [1, 2]
        assert label[order].tolist() == expected


@PROPERTY
@given(interactions(), SHARES, SHARES)
def test_time_runs_from_train_to_test(data: HeteroData, val: float, test: float) -> None:
    label, time = TemporalSplit(val, test).labels(data), data[INTERACTS].time
    later = [time[label >= part] for part in (1, 2)]
    for part, after in enumerate(later):
        if after.numel():
            assert int(time[label <= part].max()) < int(after.min())
    size = time.numel()
    assert int((label == 2).sum()) <= int(round(test * size, 9))
    assert int((label > 0).sum()) <= int(round((val + test) * size, 9))
    if time.unique().numel() == size:  # without ties the shares are exact
        assert [int((label == part).sum()) for part in (2,)] == [int(round(test * size, 9))]
        assert int((label > 0).sum()) == int(round((val + test) * size, 9))
