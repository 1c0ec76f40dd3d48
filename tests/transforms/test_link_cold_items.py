from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.transforms import LinkColdItems
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import interaction_operator, popular_items


def cold(data: HeteroData) -> HeteroData:
    """The data whose last three items have no interactions."""
    edges = data[INTERACTS].edge_index
    data[INTERACTS].edge_index = edges[:, edges[1] < 27]
    return data


def test_cold_items_are_linked_to_the_users_of_similar_items(tiny_data: HeteroData) -> None:
    data = cold(tiny_data)
    linked = LinkColdItems(num_links=5, k=2)(data)
    before, after = (interaction_operator(view).to_dense() > 0 for view in (data, linked))
    assert torch.equal(before[:27], after[:27])
    assert not before[27:].any()
    assert (after[27:].sum(1) == 5).all()
    users = after[27:].nonzero()
    assert (users[:, 1] % 4 == (users[:, 0] + 27) % 4).float().mean() > 0.8  # of the same planted block
    assert torch.equal(linked[INTERACTS].edge_index, data[INTERACTS].edge_index)
    assert torch.equal(popular_items(linked, 3)[1], popular_items(data, 3)[1])


def test_data_without_cold_items_stays(tiny_data: HeteroData) -> None:
    linked = LinkColdItems()(tiny_data)
    assert torch.equal(interaction_operator(linked).to_dense(), interaction_operator(tiny_data).to_dense())


def test_bad_arguments_are_refused(tiny_data: HeteroData) -> None:
    with pytest.raises(ValueError, match="'num_links' must be positive"):
        LinkColdItems(0)
    for key in list(tiny_data["item"].keys()):
        if key.startswith("x_"):
            del tiny_data["item"][key]
    for edge_type in list(tiny_data.edge_types):
        if edge_type != INTERACTS:
            del tiny_data[edge_type]
    with pytest.raises(ValueError, match="no features x_<modality> and no item graphs"):
        LinkColdItems()(cold(tiny_data))
    assert repr(LinkColdItems()) == "LinkColdItems(num_links=20, k=10)"
