from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS, similar
from pyg_mmrec.utils import interactions, modalities, num_users_items, similar_modalities


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


def test_missing_interactions_are_named() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 3
    with pytest.raises(ValueError, match="interacts"):
        interactions(data)
    data[INTERACTS].edge_index = torch.tensor([[0], [1]])
    assert interactions(data).tolist() == [[0], [1]]
