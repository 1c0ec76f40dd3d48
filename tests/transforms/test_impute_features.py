from __future__ import annotations

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.transforms import DropModality, ImputeFeatures
from pyg_mmrec.typing import INTERACTS


def by_loop(data: HeteroData, x: torch.Tensor, has: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Feature propagation one node at a time."""
    user, item = data[INTERACTS].edge_index
    given, x, mean = has.clone(), x * has[:, None], x[has].mean(0)
    for _ in range(num_steps):
        means, has_user = {}, set()
        for u in user.unique().tolist():
            own = item[user == u]
            if has[own].any():
                means[u] = x[own[has[own]]].mean(0)
                has_user.add(u)
        new, reached = x.clone(), has.clone()
        for i in (~given).nonzero().flatten().tolist():
            rows = [means[u] for u in user[item == i].tolist() if u in has_user]
            if rows:
                new[i], reached[i] = torch.stack(rows).mean(0), True
        x, has = new, reached
    x[~has] = mean
    return x


@pytest.mark.parametrize("num_steps", [1, 3])
def test_neighbors_are_feature_propagation(tiny_data: HeteroData, num_steps: int) -> None:
    data = DropModality(0.6, "image")(tiny_data)
    item = data["item"]
    data[INTERACTS].edge_index = data[INTERACTS].edge_index[:, data[INTERACTS].edge_index[1] > 2]  # some without users
    wanted = by_loop(data, item.x_image, item.mask_image, num_steps)
    out = ImputeFeatures(num_steps=num_steps)(data)["item"]
    torch.testing.assert_close(out.x_image, wanted)
    assert "mask_image" not in out
    assert torch.equal(out.x_text, item.x_text)


def test_wide_features_are_propagated_in_blocks(tiny_data: HeteroData) -> None:
    tiny_data["item"].x_image = torch.randn(30, 130)
    data = DropModality(0.5, "image")(tiny_data)
    whole = ImputeFeatures()(data)["item"].x_image
    data["item"].x_image = data["item"].x_image[:, 100:]
    torch.testing.assert_close(whole[:, 100:], ImputeFeatures()(data)["item"].x_image)


def test_zero_and_mean(tiny_data: HeteroData) -> None:
    data = DropModality(0.5, "text")(tiny_data)
    mask, x = data["item"].mask_text, data["item"].x_text
    assert not ImputeFeatures("zero")(data)["item"].x_text[~mask].any()
    mean = ImputeFeatures("mean")(data)["item"].x_text
    torch.testing.assert_close(mean[~mask], x[mask].mean(0).expand(int((~mask).sum()), -1))
    assert torch.equal(mean[mask], x[mask])


def test_only_train_interactions_count(tiny_data: HeteroData) -> None:
    data = DropModality(0.5, "text")(tiny_data)
    view = ImputeFeatures()(data)["item"].x_text
    edges = data[INTERACTS].edge_index
    data[INTERACTS].split = torch.cat([torch.zeros(edges.size(1)), torch.full((40,), 2.0)]).long()
    data[INTERACTS].edge_index = torch.cat([edges, torch.stack([torch.arange(40), torch.zeros(40).long()])], 1)
    assert torch.equal(ImputeFeatures()(data)["item"].x_text, view)


def test_bad_arguments_are_refused(tiny_data: HeteroData) -> None:
    with pytest.raises(ValueError, match="'method' must be 'zero', 'mean' or 'neighbors'"):
        ImputeFeatures("knn")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'num_steps' must be positive"):
        ImputeFeatures(num_steps=0)
    with pytest.raises(ValueError, match="no item has usable 'image' features"):
        ImputeFeatures()(DropModality(1.0, "image")(tiny_data))
    assert repr(ImputeFeatures("mean")) == "ImputeFeatures(method='mean', modalities=None, num_steps=3)"
