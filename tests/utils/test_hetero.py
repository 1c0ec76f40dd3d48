from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import RandomLinkSplit

from pyg_mmrec.typing import INTERACTS, similar
from pyg_mmrec.utils import (
    interactions,
    item_features,
    modalities,
    modality_masks,
    num_users_items,
    similar_modalities,
)
from pyg_mmrec.utils.hetero import checked_edges, count_categories, item_categories


def test_names_are_read_from_the_keys() -> None:
    data = HeteroData()
    data["item"].x_text = data["item"].x_image = torch.rand(3, 2)
    data["user"].x_audio = torch.rand(2, 2)
    data["item"].attr_colour = torch.zeros(3)
    data[similar("item", "text")].edge_index = torch.zeros(2, 1).long()
    data[similar("user", "audio")].edge_index = torch.zeros(2, 1).long()
    assert modalities(data) == ["image", "text"]
    assert modalities(data, "user") == ["audio"]
    assert similar_modalities(data) == ["text"]
    assert similar_modalities(data, "user") == ["audio"]


def test_sizes_must_be_explicit() -> None:
    data = HeteroData()
    data["user"].num_nodes = 2
    data["item"].x_image = torch.rand(3, 2)
    with pytest.raises(ValueError, match=r"data\['item'\].num_nodes is not set"):
        num_users_items(data)
    data["item"].num_nodes = 3
    assert num_users_items(data) == (2, 3)


def test_pairs_that_are_no_interactions() -> None:
    """As RandomLinkSplit adds them unless it is told otherwise."""
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 20, 30
    data[INTERACTS].edge_index = torch.stack([torch.arange(20).repeat_interleave(10), torch.arange(200) % 30])
    views = RandomLinkSplit(0.1, 0.1, edge_types=INTERACTS)(data)
    with pytest.raises(ValueError, match=r"edge_label says that 20 of the pairs .* split with RandomLinkSplit\("):
        checked_edges(views[2], INTERACTS, "edge_label_index")
    views = RandomLinkSplit(0.1, 0.1, edge_types=INTERACTS, neg_sampling_ratio=0.0)(data)
    assert checked_edges(views[2], INTERACTS, "edge_label_index").size(1) == 20


def test_missing_interactions_are_named() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 3
    with pytest.raises(ValueError, match="interacts"):
        interactions(data)
    data[INTERACTS].edge_index = torch.tensor([[0], [1]])
    assert interactions(data).tolist() == [[0], [1]]


def test_categories_of_items(tiny_data: HeteroData) -> None:
    assert count_categories(tiny_data) == 0
    with pytest.raises(ValueError, match=r"^data\['item'\].category must lie in -1..1, .* \(got nothing\)$"):
        item_categories(tiny_data, 2)
    tiny_data["item"].category = torch.arange(30) % 3 - 1
    assert count_categories(tiny_data) == 2
    assert torch.equal(item_categories(tiny_data, 2), tiny_data["item"].category)
    with pytest.raises(ValueError, match=r"^data\['item'\].category must lie in -1..0, .* \(got 1\)$"):
        item_categories(tiny_data, 1)
    tiny_data["item"].category = torch.full((30,), -1)
    assert count_categories(tiny_data) == 0
    empty = HeteroData()
    empty["item"].num_nodes, empty["item"].category = 0, torch.empty(0, dtype=torch.long)
    assert count_categories(empty) == 0
    for wrong in (torch.full((30,), -2), torch.zeros(30), torch.zeros(30, 1).long(), torch.zeros(2).long(), "x"):
        tiny_data["item"].category = wrong
        for read in (count_categories, lambda data: item_categories(data, 2)):
            with pytest.raises(ValueError, match=r"^data\['item'\].category must"):
                read(tiny_data)


def test_item_features_of_a_width(tiny_data: HeteroData) -> None:
    assert item_features(tiny_data, "text", 8) is tiny_data["item"].x_text
    with pytest.raises(ValueError, match=r"^data\['item'\].x_text must have width 9, .* \(got width 8\)$"):
        item_features(tiny_data, "text", 9)
    with pytest.raises(ValueError, match=r"^data\['item'\].x_audio must have width 9, .* \(got nothing\)$"):
        item_features(tiny_data, "audio", 9)


def test_masks_of_modalities_that_some_items_lack(tiny_data: HeteroData) -> None:
    assert modality_masks(tiny_data, ["image", "text"]) == {}
    tiny_data["item"].mask_image = torch.arange(30) > 3
    assert modality_masks(tiny_data, ["text"]) == {}
    assert list(modality_masks(tiny_data, ["image", "text"])) == ["image"]
    assert modality_masks(tiny_data, ["image"])["image"].sum() == 26
