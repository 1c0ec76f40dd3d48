from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.typing import INTERACTS, Triplets
from tests.properties.strategies import PROPERTY, Pair, interactions, pairs_of

SIZES, SEEDS, EPOCHS = st.integers(1, 20), st.integers(0, 2**31), st.integers(0, 100)


def rows(batches: list[Triplets]) -> list[tuple[int, ...]]:
    return [tuple(row) for batch in batches for row in torch.stack(batch).t().tolist()]


def usable(data: HeteroData) -> bool:
    """Whether every user has a train item left to draw."""
    user, item = data[INTERACTS].edge_index
    return int(torch.bincount(user).max()) < item.unique().numel()


@PROPERTY
@given(interactions(), SIZES, SEEDS, EPOCHS, st.booleans())
def test_an_epoch(data: HeteroData, batch_size: int, seed: int, epoch: int, labelled: bool) -> None:
    """Every interaction comes once; negatives are train items, and none that the user has trained on."""
    if not usable(data):
        with pytest.raises(ValueError, match="has interacted with every train item"):
            TripletLoader(data, batch_size, seed)
        return
    edges = pairs_of(data[INTERACTS].edge_index)
    wanted: list[Pair] = edges
    if labelled:
        data[INTERACTS].edge_label_index = data[INTERACTS].edge_index[:, ::2]
        wanted = edges[::2]
    loader = TripletLoader(data, batch_size, seed)
    batches = list(loader.epoch(epoch))
    assert [batch.user.numel() for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
    assert len(loader) == len(batches)
    found = rows(batches)
    assert sorted((user, item) for user, item, _ in found) == sorted(wanted)
    assert not {(user, negative) for user, _, negative in found} & set(edges)
    assert {negative for *_, negative in found} <= {item for _, item in edges}


@PROPERTY
@given(interactions(), SIZES, SEEDS, EPOCHS, st.data())
def test_an_epoch_follows_from_its_seed(
    data: HeteroData, batch_size: int, seed: int, epoch: int, draw: st.DataObject
) -> None:
    assume(usable(data))
    batches = list(TripletLoader(data, batch_size, seed).epoch(epoch))
    start = draw.draw(st.integers(0, len(batches)))
    torch.manual_seed(draw.draw(SEEDS))  # plays no part
    again = list(TripletLoader(data, batch_size, seed).epoch(epoch, start))
    assert rows(again) == rows(batches[start:])


@PROPERTY
@given(interactions(), SIZES, SEEDS, st.integers(1, 5))
def test_ranks_share_a_batch(data: HeteroData, batch_size: int, seed: int, world_size: int) -> None:
    """Shares are a partition, near equal in size, and weigh what the mean over the processes needs."""
    assume(usable(data))
    loaders = [TripletLoader(data, batch_size, seed, rank=rank, world_size=world_size) for rank in range(world_size)]
    epochs = [list(loader.epoch(3)) for loader in loaders]
    for step, batch in enumerate(TripletLoader(data, batch_size, seed).epoch(3)):
        weights = [loader.share(step) for loader in loaders]
        parts = [epoch[step] for epoch, weight in zip(epochs, weights, strict=True) if weight]
        assert sorted(rows(parts)) == sorted(rows([batch]))
        sizes = [part.user.numel() for part in parts] + [0] * weights.count(0.0)
        assert max(sizes) - min(sizes) <= 1
        total = sum(
            weight * float(epoch[step].pos_item.double().mean()) for epoch, weight in zip(epochs, weights, strict=True)
        )
        assert total / world_size == pytest.approx(float(batch.pos_item.double().mean()))
        assert all(epoch[step].user.numel() for epoch in epochs)  # nobody waits for an empty batch
    assert {len(epoch) for epoch in epochs} == {len(loaders[0])}
