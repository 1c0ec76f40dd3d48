from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.typing import INTERACTS, Triplets

Pairs = list[tuple[int, int]]


def pairs(batches: list[Triplets]) -> Pairs:
    return [pair for batch in batches for pair in zip(batch.user.tolist(), batch.pos_item.tolist(), strict=True)]


def edges(edge_index: Tensor) -> Pairs:
    return [(user, item) for user, item in edge_index.t().tolist()]


def equal(one: list[Triplets], two: list[Triplets]) -> bool:
    return len(one) == len(two) and all(all(map(torch.equal, x, y)) for x, y in zip(one, two, strict=True))


@pytest.mark.parametrize("batch_size", [1, 7, 64, 200, 500])
def test_every_interaction_comes_once_an_epoch(tiny_data: HeteroData, batch_size: int) -> None:
    loader = TripletLoader(tiny_data, batch_size=batch_size)
    for epoch in (0, 1, 5):
        batches = list(loader.epoch(epoch))
        assert sorted(pairs(batches)) == sorted(edges(tiny_data[INTERACTS].edge_index))
        assert len(batches) == len(loader)


def test_the_last_partial_batch_is_kept(tiny_data: HeteroData) -> None:
    loader = TripletLoader(tiny_data, batch_size=64)
    assert [batch.user.numel() for batch in loader.epoch(0)] == [64, 64, 64, 8]
    assert len(loader) == 4
    assert repr(loader) == "TripletLoader(200 interactions, batch_size=64)"


def test_batches_of_the_published_size(tiny_data: HeteroData) -> None:
    assert TripletLoader(tiny_data).batch_size == 2048
    tiny_data[INTERACTS].edge_label_index = tiny_data[INTERACTS].edge_index[:, :1].expand(2, 118_551)
    assert len(TripletLoader(tiny_data)) == 58  # Amazon Baby's


def test_negatives_are_unseen_train_items(tiny_data: HeteroData) -> None:
    edge_index = tiny_data[INTERACTS].edge_index
    edge_index = edge_index[:, edge_index[1] != 11]
    tiny_data[INTERACTS].edge_index = tiny_data[INTERACTS].edge_label_index = edge_index
    known, loader = set(edges(edge_index)), TripletLoader(tiny_data, batch_size=50)
    for epoch in range(20):
        for batch in loader.epoch(epoch):
            for user, item in zip(batch.user.tolist(), batch.neg_item.tolist(), strict=True):
                assert (user, item) not in known
                assert item != 11


def test_batches_follow_from_seed_and_epoch(tiny_data: HeteroData) -> None:
    epochs = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            torch.manual_seed(torch.seed() % 2**31)  # the global generator plays no part
            epochs[seed, epoch] = list(TripletLoader(tiny_data, 64, seed).epoch(epoch))
            assert equal(epochs[seed, epoch], list(TripletLoader(tiny_data, 64, seed).epoch(epoch)))
    different = list(epochs.values())
    for place, one in enumerate(different):
        for two in different[place + 1 :]:
            assert pairs(one) != pairs(two)
            assert not torch.equal(torch.cat([b.neg_item for b in one]), torch.cat([b.neg_item for b in two]))


def test_reading_an_epoch_changes_nothing(tiny_data: HeteroData) -> None:
    loader = TripletLoader(tiny_data, 64)
    first = list(loader.epoch(3))
    list(loader.epoch(4))
    state = torch.get_rng_state()
    assert equal(first, list(loader.epoch(3)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_an_epoch_resumes_at_any_batch(tiny_data: HeteroData, start: int) -> None:
    loader = TripletLoader(tiny_data, 64, seed=5)
    assert equal(list(loader.epoch(2, start=start)), list(loader.epoch(2))[start:])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_each_batch(tiny_data: HeteroData, world_size: int) -> None:
    whole = list(TripletLoader(tiny_data, 64).epoch(1))
    ranks = [
        list(TripletLoader(tiny_data, 64, rank=rank, world_size=world_size).epoch(1)) for rank in range(world_size)
    ]
    for number, batch in enumerate(whole):
        shares = [rank[number] for rank in ranks]
        rows = sorted(row for share in shares for row in zip(*(part.tolist() for part in share), strict=True))
        assert rows == sorted(zip(*(part.tolist() for part in batch), strict=True))
        sizes = [share.user.numel() for share in shares]
        assert max(sizes) - min(sizes) <= 1


def test_labels_decide_what_is_trained_and_edges_what_is_known(tiny_data: HeteroData) -> None:
    view = copy.copy(tiny_data)
    labels = tiny_data[INTERACTS].edge_index[:, ::4]
    view[INTERACTS].edge_label_index = labels
    loader = TripletLoader(view, 10)
    assert sorted(pairs(list(loader.epoch(0)))) == sorted(edges(labels))
    known = set(edges(tiny_data[INTERACTS].edge_index))
    negatives = [batch._replace(pos_item=batch.neg_item) for batch in loader.epoch(0)]
    assert not known & set(pairs(negatives))
    del view[INTERACTS].edge_label_index
    assert len(pairs(list(TripletLoader(view).epoch(0)))) == 200


def test_bad_arguments(tiny_data: HeteroData) -> None:
    with pytest.raises(ValueError, match=r"^'batch_size' must be positive \(got 0\)$"):
        TripletLoader(tiny_data, 0)
    tiny_data[INTERACTS].edge_label_index = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match=r"^the data has no train interactions: check the split's labels$"):
        TripletLoader(tiny_data)


def test_data_without_interactions() -> None:
    with pytest.raises(ValueError, match=r"^the data has no \('user', 'interacts', 'item'\) edge_index"):
        TripletLoader(HeteroData())


def test_a_user_with_every_item(tiny_data: HeteroData) -> None:
    every = torch.stack([torch.full((30,), 6), torch.arange(30)])
    tiny_data[INTERACTS].edge_index = torch.cat([tiny_data[INTERACTS].edge_index, every], dim=1)
    with pytest.raises(ValueError, match=r"^user 6 has interacted with every train item"):
        TripletLoader(tiny_data)
