from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.nn import LatentGraph, LatentStructure
from pyg_mmrec.typing import feature_key, similar

WIDTHS = {"image": 4, "text": 3}


@pytest.fixture
def data() -> HeteroData:
    """Twelve items, some without an image, one with a text of zeros, each with one frozen neighbour."""
    data, generator = HeteroData(), torch.Generator().manual_seed(0)
    data["user"].num_nodes, data["item"].num_nodes = 3, 12
    for name, width in WIDTHS.items():
        data["item"][feature_key(name)] = torch.randn(12, width, generator=generator)
        graph = data[similar("item", name)]
        graph.edge_index = torch.stack([torch.randperm(12, generator=generator), torch.arange(12)])
        graph.edge_weight = torch.rand(12, generator=generator)
    data["item"].mask_image = torch.arange(12) % 5 > 0
    data["item"].x_text[3] = 0
    return data


def layer(**kwargs: object) -> LatentStructure:
    torch.manual_seed(0)
    module = LatentStructure(12, WIDTHS, 5, **{"num_neighbors": 4, "frozen_weight": 0.3} | kwargs)
    with torch.no_grad():
        for lin in module.projection.lins.values():
            lin.bias.uniform_(-0.3, 0.3)
    return module


def learned(data: HeteroData, module: LatentStructure, name: str, neighbors: np.ndarray | None = None) -> np.ndarray:
    """The normalised learned graph, entry by entry."""
    lin = module.projection.lins[name]
    x = data["item"][f"x_{name}"].numpy()
    z = x @ lin.weight.detach().numpy().T + lin.bias.detach().numpy()
    there = np.abs(x).sum(1) > 0
    if f"mask_{name}" in data["item"]:
        there &= data["item"][f"mask_{name}"].numpy()
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    a = np.zeros((12, 12))
    for i in np.flatnonzero(there):
        cosine = np.where(there, unit @ unit[i], -np.inf)
        for j in np.argsort(-cosine)[: module.num_neighbors] if neighbors is None else neighbors[i]:
            if j >= 0:
                a[i, j] = max(0, cosine[j])
    degree = a.sum(1)
    scale = np.where(degree > 0, 1 / np.sqrt(np.where(degree > 0, degree, 1)), 0)
    return scale[:, None] * a * scale


def frozen(data: HeteroData, name: str) -> np.ndarray:
    s, graph = np.zeros((12, 12)), data[similar("item", name)]
    for (neighbor, centre), w in zip(graph.edge_index.t().tolist(), graph.edge_weight.tolist(), strict=True):
        s[centre, neighbor] += w
    return s


@pytest.mark.parametrize("frozen_weight", [0.0, 0.3])
@pytest.mark.parametrize("num_neighbors", [1, 4, 12])
def test_graphs_equal_their_equations(data: HeteroData, num_neighbors: int, frozen_weight: float) -> None:
    module = layer(num_neighbors=num_neighbors, frozen_weight=frozen_weight)
    graphs = module(data)
    assert list(graphs) == list(WIDTHS)
    for name, graph in graphs.items():
        assert isinstance(graph, LatentGraph)
        expected = frozen_weight * frozen(data, name) + (1 - frozen_weight) * learned(data, module, name)
        np.testing.assert_allclose((graph @ torch.eye(12)).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_items_without_features_are_left_alone(data: HeteroData) -> None:
    module = layer(frozen_weight=0.0)
    module(data)["image"] @ torch.ones(12, 1)
    dense = {name: graph @ torch.eye(12) for name, graph in module(data).items()}
    for name, item in (("image", 5), ("text", 3)):
        assert dense[name][item].abs().sum() == dense[name][:, item].abs().sum() == 0
        assert dense[name].abs().sum(1).count_nonzero() == {"image": 9, "text": 11}[name]
    torch.stack([part.sum() for part in dense.values()]).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


def test_held_neighbours_keep_their_places_and_learn_their_weights(data: HeteroData) -> None:
    module = layer(frozen_weight=0.0)
    module.hold_neighbors(data)
    kept = module.neighbors.clone()
    view = module.with_neighbors(data)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    assert not torch.equal(module.find_neighbors(data), kept)
    assert torch.equal(module.neighbors, kept)
    for at, name in enumerate(WIDTHS):
        expected = learned(data, module, name, kept[at].numpy())
        dense = (module(view)[name] @ torch.eye(12)).detach().numpy()
        np.testing.assert_allclose(dense, expected, rtol=1e-4, atol=1e-6)
        assert not np.allclose((module(data)[name] @ torch.eye(12)).detach().numpy(), expected)
    again = LatentStructure(12, WIDTHS, 5, 4, 0.0)
    again.load_state_dict(module.state_dict())
    for name, graph in again(again.with_neighbors(data)).items():
        assert torch.equal(graph @ torch.eye(12), module(view)[name] @ torch.eye(12))


def test_neighbours_that_were_never_held_are_those_of_now(data: HeteroData) -> None:
    module = layer()
    before = set(data.edge_types)
    for name, graph in module(module.with_neighbors(data)).items():
        assert torch.equal(graph @ torch.eye(12), module(data)[name] @ torch.eye(12))
    assert set(data.edge_types) == before
    assert (module.neighbors == -1).all()
    module.hold_neighbors(data)
    module.reset_parameters()
    assert (module.neighbors == -1).all()


def test_features_learn_in_every_call(data: HeteroData) -> None:
    module = layer()
    x = torch.randn(12, 2)
    torch.stack([(graph @ x).square().sum() for graph in module(data).values()]).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_share_of_the_frozen_graph_out_of_range(share: float) -> None:
    with pytest.raises(ValueError, match=rf"^'frozen_weight' must lie in \[0, 1\) \(got {share}\)$"):
        layer(frozen_weight=share)


def test_more_neighbours_than_items() -> None:
    with pytest.raises(ValueError, match=r"^'num_neighbors' must be at most 12, the number of items \(got 13\)$"):
        layer(num_neighbors=13)
    with pytest.raises(ValueError, match=r"^'num_neighbors' must be positive \(got 0\)$"):
        layer(num_neighbors=0)


def test_graphs_of_other_modalities(data: HeteroData) -> None:
    del data[similar("item", "image")]
    with pytest.raises(ValueError, match=r"of its features, \['image', 'text'\] \(got graphs of \['text'\]\)$"):
        layer()(data)
