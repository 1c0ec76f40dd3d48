from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.transforms import DropModality, ModalKNNGraph


def test_a_share_of_the_items_loses_features_mask_and_graph(tiny_data: HeteroData) -> None:
    x = tiny_data["item"].x_image.clone()
    data = DropModality(0.3, "image")(tiny_data)
    mask = data["item"].mask_image
    assert int((~mask).sum()) == 9
    assert torch.equal(data["item"].x_image, x * mask[:, None])
    assert "mask_text" not in data["item"]
    assert ("item", "similar_image", "item") not in data.edge_types
    assert ("item", "similar_text", "item") in data.edge_types
    assert torch.equal(tiny_data["item"].x_image, x)  # the input stays as it was
    assert ("item", "similar_image", "item") in tiny_data.edge_types
    with pytest.warns(UserWarning, match="9 of 'image'"):
        rebuilt = ModalKNNGraph(k=3)(data)["item", "similar_image", "item"].edge_index
    assert mask[rebuilt].all()


def test_a_higher_rate_drops_more_of_the_same_and_modalities_apart(tiny_data: HeteroData) -> None:
    few, many = (DropModality(rate, seed=1)(tiny_data)["item"] for rate in (0.3, 0.6))
    assert not (many.mask_image & ~few.mask_image).any()
    assert not torch.equal(few.mask_image, few.mask_text)
    assert not torch.equal(few.mask_image, DropModality(0.3, seed=2)(tiny_data)["item"].mask_image)
    assert "mask_image" not in DropModality(0.0)(tiny_data)["item"]
    assert not DropModality(1.0)(tiny_data)["item"].mask_text.any()


def test_the_rate_is_of_those_that_have_it_and_images_go_too(tiny_data: HeteroData) -> None:
    tiny_data["item"].mask_image = torch.arange(30) < 20
    tiny_data["item"].image = torch.ones(30, 3, 2, 2, dtype=torch.uint8)
    item = DropModality(0.5, "image")(tiny_data)["item"]
    assert int(item.mask_image.sum()) == 10
    assert torch.equal(item.image.amax((1, 2, 3)).bool(), item.mask_image)


def test_words_go_with_texts(tiny_data: HeteroData) -> None:
    tiny_data["item"].tokens = torch.arange(60).view(30, 2)
    assert "mask_tokens" not in DropModality(0.5, "image")(tiny_data)["item"]
    item = DropModality(0.5, "text")(tiny_data)["item"]
    assert int(item.mask_text.sum()) == 15
    assert torch.equal(item.tokens[:, 1] > 0, item.mask_text)
    assert torch.equal(item.mask_tokens, item.mask_text)


def test_raw_content_needs_no_features_beside_it() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 10
    data["item"].image = torch.ones(10, 3, 2, 2, dtype=torch.uint8)
    data["item"].mask_image = torch.arange(10) < 8
    data["item"].tokens = torch.ones(10, 2, dtype=torch.int64)
    data["item"].tokens[0] = 0
    item = DropModality(0.5)(data)["item"]
    assert int(item.mask_image.sum()) == 4
    assert torch.equal(item.image.amax((1, 2, 3)).bool(), item.mask_image)
    assert int(item.mask_text.sum()) == 9 - round(4.5)
    assert torch.equal(item.tokens.any(1), item.mask_text)
    assert torch.equal(item.mask_tokens, item.mask_text)
    assert not {"x_image", "x_text"} & set(item.keys())


def test_bad_arguments_are_refused(tiny_data: HeteroData) -> None:
    with pytest.raises(ValueError, match=r"'rate' must lie in \[0, 1\]"):
        DropModality(1.5)
    with pytest.raises(ValueError, match="'modality' must be the name"):
        DropModality(0.5, ["image"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"has no modality 'imge'.*did you mean image"):
        DropModality(0.5, "imge")(tiny_data)
    assert repr(DropModality(0.5)) == "DropModality(rate=0.5, modality=None, seed=0)"
