from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BPRMF
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import popular_items


@pytest.fixture
def data() -> HeteroData:
    """Item 0 is the most popular, item 2 of late; user 3 has no interactions."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 4, 4
    item = torch.tensor([0, 0, 0, 1, 1, 2])
    data[INTERACTS].edge_index = torch.stack([torch.tensor([0, 1, 2, 0, 1, 2]), item])
    data[INTERACTS].time = torch.tensor([1, 2, 3, 4, 5, 6])
    return data


def test_counts_of_all_and_of_the_latest(data: HeteroData) -> None:
    assert [part.tolist() for part in popular_items(data, 4)] == [[3, 2, 1, 0], [0, 1, 2, 3]]
    assert [part.tolist() for part in popular_items(data, 4, by="recent")] == [[1, 0, 0, 0], [2, 0, 1, 3]]


def test_users_without_history_get_them(data: HeteroData) -> None:
    model = BPRMF(4, 4)
    every = torch.arange(4)
    plain, popular, recent = (model.recommend(data, every, 2, fallback=kind)[1] for kind in (None, "popular", "recent"))
    assert torch.equal(plain[:3], popular[:3])
    assert popular[3].tolist() == [0, 1]
    assert recent[3].tolist() == [2, 0]


def test_bad_arguments_are_refused(data: HeteroData) -> None:
    with pytest.raises(ValueError, match=r"'k' must lie in 1..4"):
        popular_items(data, 5)
    with pytest.raises(ValueError, match="'by' must be 'popular' or 'recent'"):
        BPRMF(4, 4).recommend(data, torch.arange(4), 2, fallback="new")  # type: ignore[arg-type]
    del data[INTERACTS].time
    with pytest.raises(ValueError, match=r"time must have one entry for each of the 6 interactions"):
        popular_items(data, 2, by="recent")
