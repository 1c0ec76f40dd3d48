from __future__ import annotations

import copy

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.loader import HistoryLoader
from pyg_mmrec.typing import INTERACTS, Histories


def equal(one: list[Histories], two: list[Histories]) -> bool:
    return len(one) == len(two) and all(all(map(torch.equal, x, y)) for x, y in zip(one, two, strict=True))


def by_user(batches: list[Histories]) -> dict[int, tuple[list[int], list[int], list[list[int]]]]:
    """Shown items, hidden items and negatives of each user; each comes once."""
    found = {}
    for batch in batches:
        negatives = iter(batch.neg_item.tolist())
        for place, user in enumerate(batch.user.tolist()):
            assert user not in found
            part = slice(int(batch.ptr[place]), int(batch.ptr[place + 1]))
            item, hidden = batch.item[part], batch.hidden[part]
            drawn = [next(negatives) for _ in range(int(hidden.sum()))]
            found[user] = item[~hidden].tolist(), item[hidden].tolist(), drawn
        assert next(negatives, None) is None
    return found


@pytest.fixture
def data() -> HeteroData:
    """Seven users with 0, 1, 2, 3, 4, 5 and 9 of 20 items."""
    counts = [0, 1, 2, 3, 4, 5, 9]
    generator = torch.Generator().manual_seed(0)
    items = [torch.randperm(20, generator=generator)[:count] for count in counts]
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 7, 20
    data[INTERACTS].edge_index = torch.stack(
        [torch.arange(7).repeat_interleave(torch.tensor(counts)), torch.cat(items)]
    )
    return data


@pytest.mark.parametrize("batch_size", [1, 2, 6, 100])
def test_every_user_comes_once_an_epoch_with_its_whole_history(data: HeteroData, batch_size: int) -> None:
    loader = HistoryLoader(data, batch_size)
    for epoch in range(3):
        found = by_user(list(loader.epoch(epoch)))
        assert sorted(found) == [1, 2, 3, 4, 5, 6]
        assert len(loader) == -(-6 // batch_size)
        for user, (shown, hidden, _) in found.items():
            own = data[INTERACTS].edge_index[1][data[INTERACTS].edge_index[0] == user]
            assert sorted(shown + hidden) == sorted(own.tolist())


@pytest.mark.parametrize(
    ("share", "counts"), [(0.5, [0, 1, 2, 2, 2, 4]), (0.01, [0, 1, 1, 1, 1, 1]), (0.99, [0, 1, 2, 3, 4, 8])]
)
def test_the_share_is_hidden_but_never_all(data: HeteroData, share: float, counts: list[int]) -> None:
    found = by_user(list(HistoryLoader(data, hidden_share=share).epoch(0)))
    assert [len(found[user][1]) for user in range(1, 7)] == counts


def test_each_item_is_hidden_as_often_as_others(data: HeteroData) -> None:
    loader, times = HistoryLoader(data), torch.zeros(20)
    for epoch in range(2000):
        times[by_user(list(loader.epoch(epoch)))[6][1]] += 1
    times = times[times > 0]
    assert times.numel() == 9
    assert (times / 2000 - 4 / 9).abs().max() < 4 * (4 / 9 * 5 / 9 / 2000) ** 0.5


@pytest.mark.parametrize("num_negatives", [1, 3])
def test_negatives_are_unseen_train_items(data: HeteroData, num_negatives: int) -> None:
    known = set(data[INTERACTS].edge_index[1].tolist())
    for epoch in range(20):
        batches = list(HistoryLoader(data, 2, num_negatives=num_negatives).epoch(epoch))
        for shown, hidden, negatives in by_user(batches).values():
            for row in negatives:
                assert len(row) == num_negatives
                assert set(row) <= known - set(shown) - set(hidden)


def test_split_and_negatives_follow_from_seed_and_epoch(data: HeteroData) -> None:
    for epoch in range(3):
        one, two, other = (
            by_user(list(HistoryLoader(data, size, seed).epoch(epoch))) for size, seed in ((2, 0), (5, 0), (2, 1))
        )
        assert one == two
        assert one != other
    epochs = [by_user(list(HistoryLoader(data).epoch(epoch))) for epoch in range(2)]
    assert epochs[0] != epochs[1]


def test_an_epoch_goes_on_where_it_stopped(data: HeteroData) -> None:
    loader = HistoryLoader(data, 2)
    batches = list(loader.epoch(4))
    assert equal(list(loader.epoch(4, start=2)), batches[2:])
    assert repr(loader) == "HistoryLoader(6 users, batch_size=2)"


def test_processes_share_a_batch(data: HeteroData) -> None:
    whole = by_user(list(HistoryLoader(data, 4).epoch(0)))
    loaders = [HistoryLoader(data, 4, rank=rank, world_size=3) for rank in range(3)]
    parts = [list(loader.epoch(0)) for loader in loaders]
    shares = [[loader.share(step) for loader in loaders] for step in range(2)]
    assert shares == [[1.5, 0.75, 0.75], [1.5, 1.5, 0]]
    found = [
        by_user([batch])
        for part, loader in zip(parts, loaders, strict=True)
        for step, batch in enumerate(part)
        if loader.share(step)
    ]
    assert sum(map(len, found)) == len(whole)
    assert {user: history for part in found for user, history in part.items()} == whole


def test_repeated_edges_count_once(data: HeteroData) -> None:
    twice = copy.copy(data)
    twice[INTERACTS].edge_index = data[INTERACTS].edge_index.repeat(1, 2)
    assert equal(list(HistoryLoader(twice).epoch(0)), list(HistoryLoader(data).epoch(0)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, r"^'batch_size' must be positive \(got 0\)$"),
        ({"num_negatives": 0}, r"^'num_negatives' must be positive \(got 0\)$"),
        ({"seed": -1}, r"^'seed' must not be negative \(got -1\)$"),
        ({"hidden_share": 0.0}, r"^'hidden_share' must lie between 0 and 1 \(got 0.0\)$"),
        ({"hidden_share": 1}, r"^'hidden_share' must lie between 0 and 1 \(got 1\)$"),
        ({"rank": 2, "world_size": 2}, r"^'rank' must lie in 0..1, below 'world_size' \(got 2\)$"),
    ],
)
def test_bad_arguments(data: HeteroData, kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HistoryLoader(data, **kwargs)  # type: ignore[arg-type]


def test_histories_of_one_item_predict_nothing(data: HeteroData) -> None:
    data[INTERACTS].edge_index = torch.tensor([[0, 1], [3, 4]])
    with pytest.raises(ValueError, match=r"^no user has two train items, one to show and one to predict: "):
        HistoryLoader(data)
