from __future__ import annotations

import warnings

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.transforms import ModalKNNGraph, RandomSplit, UserModalMean
from pyg_mmrec.typing import INTERACTS


def make_data(channels: int = 5) -> HeteroData:
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 30, 20
    pairs = torch.rand(30, 20, generator=generator) < 0.2
    pairs[[4, 11]] = False
    data[INTERACTS].edge_index = pairs.nonzero().t().contiguous()
    data["item"].x_image = torch.randn(20, channels, generator=generator)
    data["item"].x_text = torch.randn(20, 3, generator=generator)
    data["item"].mask_text = torch.rand(20, generator=generator) < 0.3
    return data


@pytest.mark.parametrize("channels", [1, 64, 150])
def test_means_equal_a_loop(channels: int) -> None:
    data = make_data(channels)
    data["item"].x_text[~data["item"].mask_text] = 1e6  # what a mask leaves out is never read
    out = UserModalMean()(data)
    lonely = 0
    for name, has in (("image", torch.ones(20, dtype=torch.bool)), ("text", data["item"].mask_text)):
        x = data["item"][f"x_{name}"]
        mean, mask = out["user"][f"x_{name}"], out["user"][f"mask_{name}"]
        assert mean.shape == (30, x.size(1))
        assert mean.dtype == torch.float32
        for user in range(30):
            items = [i for u, i in data[INTERACTS].edge_index.t().tolist() if u == user and has[i]]
            assert mask[user] == bool(items)
            lonely += not items
            expected = x[items].mean(0) if items else torch.zeros(x.size(1))
            torch.testing.assert_close(mean[user], expected)
    assert lonely > 4  # the two without items, and some whose items all lack the text


def test_only_train_items_count() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 6, 8
    data[INTERACTS].edge_index = torch.stack([torch.arange(6).repeat_interleave(8), torch.arange(8).repeat(6)])
    data["item"].x_tag = torch.eye(8)
    for view in RandomSplit()(data):
        mean = UserModalMean()(view)["user"].x_tag
        expected = torch.zeros(6, 8)
        expected[tuple(view[INTERACTS].edge_index)] = 1 / 6
        torch.testing.assert_close(mean, expected)


def test_zero_and_broken_rows_count_as_missing() -> None:
    data = make_data()
    data["item"].x_image[3], data["item"].x_image[5, 1], data["item"].x_image[6, 2] = 0, torch.nan, torch.inf
    data["item"].mask_image = torch.ones(20, dtype=torch.bool)
    data["item"].mask_image[5] = False
    with pytest.warns(UserWarning, match=r"^2 items have a zero or non-finite 'image' row: they count as missing"):
        out = UserModalMean(["image"])(data)
    assert out["user"].x_image.isfinite().all()
    marked = make_data()
    marked["item"].mask_image = torch.ones(20, dtype=torch.bool)
    marked["item"].mask_image[[3, 5, 6]] = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = UserModalMean(["image"])(marked)
    torch.testing.assert_close(out["user"].x_image, expected["user"].x_image)
    assert torch.equal(out["user"].mask_image, expected["user"].mask_image)


def test_the_input_is_unchanged() -> None:
    data = make_data()
    before = data["item"].x_image.clone()
    out = UserModalMean(modalities=["image"])(data)
    assert "x_text" not in out["user"]
    assert list(data["user"]) == ["num_nodes"]
    assert torch.equal(data["item"].x_image, before)
    assert out["item"].x_image is data["item"].x_image


def test_it_feeds_user_graphs() -> None:
    with pytest.warns(UserWarning, match=r"users without usable features .*: 2 of 'image'"):
        out = ModalKNNGraph(k=3, node_type="user", modalities=["image"])(UserModalMean()(make_data()))
    centre = out["user", "similar_image", "user"].edge_index[1]
    assert torch.bincount(centre, minlength=30).tolist() == [0 if user in (4, 11) else 3 for user in range(30)]


def test_errors_and_repr() -> None:
    data = make_data()
    with pytest.raises(ValueError, match=r"no modality 'imag'; it has image, text; did you mean image\?"):
        UserModalMean(["imag"])(data)
    with pytest.raises(ValueError, match=r"'modalities' must be a list of names, \['text'\]"):
        UserModalMean("text")
    del data["item"].x_image, data["item"].x_text
    with pytest.raises(ValueError, match=r"data\['item'\] has no features"):
        UserModalMean()(data)
    assert repr(UserModalMean(["text"])) == "UserModalMean(modalities=('text',))"
