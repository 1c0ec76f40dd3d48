from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import default_split, prepare, with_user_graphs
from pyg_mmrec.models import BPRMF, FREEDOM, DRepMRec, DualGNN, Recommender
from pyg_mmrec.transforms import LabelSplit, LeaveLastOut, ModalKNNGraph, RandomSplit, UserCooccurrence, UserModalMean
from pyg_mmrec.typing import COOCCURS, INTERACTS, similar

NUM_USERS, NUM_ITEMS = 6, 12


@pytest.fixture
def data() -> HeteroData:
    """Every user has six of twelve items; features of two modalities."""
    generator = torch.Generator().manual_seed(0)
    item = torch.stack([torch.randperm(NUM_ITEMS, generator=generator)[:6] for _ in range(NUM_USERS)])
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = NUM_USERS, NUM_ITEMS
    data["item"].x_image = torch.randn(NUM_ITEMS, 4, generator=generator)
    data["item"].x_text = torch.randn(NUM_ITEMS, 3, generator=generator)
    data[INTERACTS].edge_index = torch.stack([torch.arange(NUM_USERS).repeat_interleave(6), item.flatten()])
    return data


def test_data_with_labels_is_split_by_them(data: HeteroData) -> None:
    assert isinstance(default_split(data), RandomSplit)
    data[INTERACTS].split = torch.tensor([0, 0, 0, 0, 1, 2] * NUM_USERS)
    assert isinstance(default_split(data), LabelSplit)
    train, val, test = prepare(data, [BPRMF])
    assert torch.equal(val[INTERACTS].edge_label_index, data[INTERACTS].edge_index[:, 4::6])
    assert torch.equal(test[INTERACTS].edge_label_index, data[INTERACTS].edge_index[:, 5::6])
    assert train[INTERACTS].edge_index.size(1) == 4 * NUM_USERS


def test_the_given_split_is_used(data: HeteroData) -> None:
    data[INTERACTS].split = torch.tensor([0, 0, 0, 0, 1, 2] * NUM_USERS)
    _, _, test = prepare(data, [BPRMF], LeaveLastOut(by="order", strict=True))
    assert torch.equal(test[INTERACTS].edge_label_index, data[INTERACTS].edge_index[:, 5::6])
    assert test["user"].seen_item.numel() == 5 * NUM_USERS  # strict: validation items too


def test_item_graphs_are_built_for_models_that_read_them(data: HeteroData) -> None:
    assert all(len(view.edge_types) == 1 for view in prepare(data, [BPRMF], graph=ModalKNNGraph(k=2)))
    for view in prepare(data, [BPRMF, FREEDOM], graph=ModalKNNGraph(k=2)):
        assert view[similar("item", "image")].edge_index.size(1) == 2 * NUM_ITEMS
        assert view[similar("item", "text")].edge_index.size(1) == 2 * NUM_ITEMS
    assert len(data.edge_types) == 1  # the input is as it was


def test_item_graphs_of_the_data_are_kept(data: HeteroData) -> None:
    own = torch.tensor([[0, 1], [1, 0]])
    data[similar("item", "text")].edge_index, data[similar("item", "text")].edge_weight = own, torch.ones(2)
    train, _, _ = prepare(data, [FREEDOM], graph=ModalKNNGraph(k=3))
    assert torch.equal(train[similar("item", "text")].edge_index, own)
    assert train[similar("item", "image")].edge_index.size(1) == 3 * NUM_ITEMS


def test_ten_neighbours_by_default(data: HeteroData) -> None:
    train, _, _ = prepare(data, [FREEDOM])
    assert train[similar("item", "text")].edge_index.size(1) == 10 * NUM_ITEMS


def test_user_graphs_link_users_by_their_train_items(data: HeteroData) -> None:
    views = prepare(data, [BPRMF, DRepMRec], graph=ModalKNNGraph(k=2))
    expected = ModalKNNGraph(k=2, node_type="user")(UserModalMean()(views[0]))
    for view in views:
        for name in ("image", "text"):
            graph = expected[similar("user", name)]
            assert torch.equal(view[similar("user", name)].edge_index, graph.edge_index)
            assert torch.equal(view[similar("user", name)].edge_weight, graph.edge_weight)
        assert not [key for key in view["user"] if key.startswith("x_")]  # as wide as the items' and not read again
    assert len(data.edge_types) == 1


def test_user_features_of_the_data_are_used(data: HeteroData) -> None:
    data["user"].x_image = torch.eye(NUM_USERS)[:, :4] + 1
    data["user"].x_text = torch.eye(NUM_USERS)[:, :3] + 1
    train, _, _ = prepare(data, [DRepMRec], graph=ModalKNNGraph(k=2))
    expected = ModalKNNGraph(k=2, node_type="user")(data)
    assert torch.equal(train[similar("user", "text")].edge_index, expected[similar("user", "text")].edge_index)


def test_user_graphs_alone(data: HeteroData) -> None:
    linked = with_user_graphs(data, ModalKNNGraph(k=2))
    assert linked[similar("user", "image")].edge_index.size(1) == 2 * NUM_USERS
    assert torch.equal(linked["item"].x_image, data["item"].x_image)
    assert "x_image" not in linked["user"]
    assert len(data.edge_types) == 1


@pytest.mark.parametrize("other", [BPRMF, DRepMRec])
def test_users_are_linked_by_common_train_items(data: HeteroData, other: type[Recommender]) -> None:
    alone = prepare(data, [other], graph=ModalKNNGraph(k=2))
    assert all(COOCCURS not in view.edge_types for view in alone)
    views = prepare(data, iter([other, DualGNN]), graph=ModalKNNGraph(k=2), cooccurrence=UserCooccurrence(k=3))
    expected = UserCooccurrence(k=3)(alone[0])[COOCCURS]
    assert not torch.equal(expected["count"], UserCooccurrence(k=3)(data)[COOCCURS]["count"])
    for view, plain in zip(views, alone, strict=True):
        assert {*view.edge_types} == {*plain.edge_types, COOCCURS}
        assert torch.equal(view[INTERACTS].edge_label_index, plain[INTERACTS].edge_label_index)
        for key in ("edge_index", "count", "edge_weight"):
            assert torch.equal(view[COOCCURS][key], expected[key])
    assert COOCCURS not in data.edge_types


def test_forty_neighbours_by_common_items_by_default(data: HeteroData) -> None:
    train, _, _ = prepare(data, [DualGNN])
    assert torch.equal(train[COOCCURS].edge_index, UserCooccurrence(k=40)(train)[COOCCURS].edge_index)
