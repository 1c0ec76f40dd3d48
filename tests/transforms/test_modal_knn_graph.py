from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.transforms import ModalKNNGraph
from pyg_mmrec.typing import INTERACTS, similar
from pyg_mmrec.utils import similarity_operators, with_operators

Array = npt.NDArray[np.float64]
NUM_ITEMS, K = 25, 4


@pytest.fixture
def data() -> HeteroData:
    generator = torch.Generator().manual_seed(0)
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 3, NUM_ITEMS
    data["item"].x_image = torch.randn(NUM_ITEMS, 6, generator=generator)
    data["item"].x_text = torch.randn(NUM_ITEMS, 3, generator=generator)
    data["user"].x_text = torch.randn(3, 2, generator=generator)
    return data


def dense(data: HeteroData, modality: str) -> Array:
    """Weights, row = centre, column = neighbour."""
    store = data["item", f"similar_{modality}", "item"]
    matrix = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for neighbor, centre, weight in zip(*store.edge_index.tolist(), store.edge_weight.tolist(), strict=True):
        assert matrix[centre, neighbor] == 0
        matrix[centre, neighbor] = weight
    return matrix


def expected(x: Tensor, weighted: bool, normalization: str, include_self: bool) -> Array:
    rows = x.double().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = rows @ rows.T
    matrix = np.zeros_like(cosine)
    for centre in range(len(rows)):
        order = [j for j in np.argsort(-cosine[centre]) if include_self or j != centre]
        for neighbor in order[:K]:
            matrix[centre, neighbor] = max(cosine[centre, neighbor], 0) if weighted else 1
    if normalization == "sym":
        matrix = np.maximum(matrix, matrix.T)
        degree = matrix.sum(1)
        return matrix / np.sqrt(np.where(degree > 0, degree, 1))[:, None] / np.sqrt(np.where(degree > 0, degree, 1))
    if normalization == "row":
        degree = matrix.sum(1, keepdims=True)
        return matrix / np.where(degree > 0, degree, 1)
    return matrix


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("normalization", ["row", "sym", "none"])
@pytest.mark.parametrize("weighted", [True, False])
def test_weights_equal_a_loop(data: HeteroData, weighted: bool, normalization: str, include_self: bool) -> None:
    transform = ModalKNNGraph(
        K,
        weighted=weighted,
        normalization=normalization,  # type: ignore[arg-type]
        include_self=include_self,
    )
    out = transform(data)
    for modality in ("image", "text"):
        store = out["item", f"similar_{modality}", "item"]
        assert store.edge_index.dtype == torch.long
        assert store.edge_weight.dtype == torch.float32
        x = data["item"][f"x_{modality}"]
        np.testing.assert_allclose(
            dense(out, modality), expected(x, weighted, normalization, include_self), atol=1e-6, rtol=1e-5
        )


def test_published_form_is_one_over_k(data: HeteroData) -> None:
    store = ModalKNNGraph(K)(data)["item", "similar_image", "item"]
    torch.testing.assert_close(store.edge_weight, torch.full((NUM_ITEMS * K,), 1 / K))
    assert torch.bincount(store.edge_index[1]).tolist() == [K] * NUM_ITEMS


def test_messages_go_from_neighbors_to_centres() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, 3
    data["item"].x_text = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])
    out = ModalKNNGraph(1, include_self=False)(data)
    store = out["item", "similar_text", "item"]
    assert store.edge_index.tolist() == [[1, 0, 1], [0, 1, 2]]
    received = similarity_operators(out)["text"] @ torch.tensor([[1.0], [2.0], [3.0]])
    assert received.view(-1).tolist() == [2.0, 1.0, 2.0]


def test_symmetric_graph_is_symmetric(data: HeteroData) -> None:
    for weighted in (True, False):
        matrix = dense(ModalKNNGraph(K, weighted=weighted, normalization="sym")(data), "image")
        np.testing.assert_array_equal(matrix, matrix.T)
        assert (np.linalg.eigvalsh(matrix).max()) == pytest.approx(1, abs=1e-5)


def test_negative_cosines_are_no_weighted_edges() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, 3
    data["item"].x_text = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]])
    out = ModalKNNGraph(3, weighted=True)(data)
    assert out["item", "similar_text", "item"].edge_index.tolist() == [[0, 1, 1, 0, 2], [0, 0, 1, 1, 2]]
    assert ModalKNNGraph(3)(data)["item", "similar_text", "item"].edge_index.size(1) == 9


@pytest.mark.parametrize("normalization", ["row", "sym", "none"])
@pytest.mark.parametrize("weighted", [True, False])
def test_rows_without_a_direction_link_to_nothing(data: HeteroData, weighted: bool, normalization: str) -> None:
    data["item"].x_image[3] = 0
    data["item"].x_image[7, 2] = torch.nan
    data["item"].x_image[8, 0] = torch.inf
    data["item"].mask_image = torch.arange(NUM_ITEMS) != 11
    transform = ModalKNNGraph(K, weighted=weighted, normalization=normalization)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="no edges") as caught:
        out = transform(data)
    assert [str(entry.message) for entry in caught] == [
        "items without usable features (masked, zero or not finite) get no edges: 4 of 'image'"
    ]
    assert caught[0].filename == __file__
    matrix = dense(out, "image")
    assert np.isfinite(matrix).all()
    assert matrix[[3, 7, 8, 11]].sum() == matrix[:, [3, 7, 8, 11]].sum() == 0
    rest = [item for item in range(NUM_ITEMS) if item not in (3, 7, 8, 11)]
    assert (matrix[rest].sum(1) > 0).all()


def test_no_usable_row_gives_an_empty_graph(data: HeteroData) -> None:
    data["item"].x_image.zero_()
    with pytest.warns(UserWarning, match="25 of 'image'"):
        out = ModalKNNGraph(K, normalization="sym")(data)
    assert out["item", "similar_image", "item"].edge_index.shape == (2, 0)
    assert similarity_operators(out)["image"].to_dense().abs().sum() == 0


def test_constant_features_warn(data: HeteroData) -> None:
    data["item"].x_image = torch.ones(NUM_ITEMS, 4)
    with pytest.warns(UserWarning, match="all items have the same 'image' features"):
        out = ModalKNNGraph(K)(data)
    assert (np.diag(dense(out, "image")) == 1 / K).all()


def test_good_features_do_not_warn(data: HeteroData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ModalKNNGraph(K)(data)


def test_graphs_that_are_there_are_kept(data: HeteroData) -> None:
    edge_type = similar("item", "image")
    data[edge_type].edge_index = torch.tensor([[0], [1]])
    data[edge_type].edge_weight = torch.tensor([0.5])
    data[INTERACTS].edge_index = torch.tensor([[0], [0]])
    out = ModalKNNGraph(K)(with_operators(data))
    assert out[edge_type].edge_index.tolist() == [[0], [1]]
    assert out["item", "similar_text", "item"].edge_index.size(1) == NUM_ITEMS * K
    out = ModalKNNGraph(K, overwrite=True)(with_operators(data))
    assert out[edge_type].edge_index.size(1) == NUM_ITEMS * K
    assert similarity_operators(out)["image"].num_edges == NUM_ITEMS * K  # no stale operator
    del data["item"].x_image
    assert torch.equal(ModalKNNGraph(K)(data)[edge_type].edge_index, data[edge_type].edge_index)
    with pytest.raises(ValueError, match="no modality 'image'"):
        ModalKNNGraph(K, modalities=["image"], overwrite=True)(data)


def test_k_and_features_are_never_cached(data: HeteroData) -> None:
    transform = ModalKNNGraph(K)
    first = transform(data)["item", "similar_text", "item"].edge_index
    data["item"].x_text = data["item"].x_text.flip(0)
    assert not torch.equal(transform(data)["item", "similar_text", "item"].edge_index, first)


def test_the_input_is_unchanged(data: HeteroData) -> None:
    before = data["item"].x_image.clone()
    out = ModalKNNGraph(K, modalities=["image"])(data)
    assert data.edge_types == []
    assert out.edge_types == [("item", "similar_image", "item")]
    assert torch.equal(data["item"].x_image, before)
    assert out["item"].x_image is data["item"].x_image


def test_user_graphs(data: HeteroData) -> None:
    out = ModalKNNGraph(2, node_type="user")(data)
    assert out.edge_types == [("user", "similar_text", "user")]
    assert torch.bincount(out["user", "similar_text", "user"].edge_index[1]).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, r"'k' must be positive \(got 0\)"),
        ({"node_type": "brand"}, r"'node_type' must be 'user' or 'item' \(got 'brand'\)"),
        ({"normalization": "both"}, r"'normalization' must be 'sym', 'row' or 'none' \(got 'both'\)"),
        ({"backend": "annoy"}, "'backend' must be 'torch' or 'faiss'"),
        ({"modalities": "text"}, r"'modalities' must be a list of names, \['text'\]"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModalKNNGraph(**arguments)


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ({"k": 26}, {}, r"'k' must be at most 25, the number of items \(got 26\)"),
        ({"k": 4, "node_type": "user"}, {}, r"'k' must be at most 3, the number of users"),
        ({"modalities": ["txt"]}, {}, r"no modality 'txt'; it has image, text; did you mean text\?"),
        ({"modalities": ["audio"]}, {}, r"no modality 'audio'; it has image, text$"),
        ({}, {"x_text": torch.ones(24, 2)}, r"x_text must be a float tensor of shape \[25, channels\] \(got \(24, 2\)"),
        ({}, {"x_text": torch.ones(25, 2).long()}, r"x_text must be .*torch\.int64"),
        ({}, {"mask_text": torch.ones(24).bool()}, r"mask_text must be a bool tensor of shape \[25\] \(got \(24,\)"),
        ({}, {"x_image": None, "x_text": None}, r"data\['item'\] has no features; store some as"),
    ],
)
def test_errors_are_one_line(
    data: HeteroData, arguments: dict[str, Any], changes: dict[str, Tensor | None], message: str
) -> None:
    for key, value in changes.items():
        if value is None:
            del data["item"][key]
        else:
            data["item"][key] = value
    with pytest.raises(ValueError, match=message) as error:
        ModalKNNGraph(**arguments)(data)
    assert "\n" not in str(error.value)


def test_repr() -> None:
    assert repr(ModalKNNGraph(5, modalities=["text"])) == (
        "ModalKNNGraph(k=5, node_type='item', modalities=('text',), weighted=False, normalization='row', "
        "include_self=True, backend='torch', precision='single', projection=None, overwrite=False)"
    )


def test_on_another_node_type() -> None:
    transform = ModalKNNGraph(k=3, weighted=True)
    other = transform.on("user")
    assert (transform.node_type, other.node_type) == ("item", "user")
    assert repr(other) == repr(transform).replace("'item'", "'user'")


def test_a_reduced_search_gives_the_graph_of_an_exact_one() -> None:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, 30
    centre = torch.eye(3, 50).repeat_interleave(10, 0)
    data["item"].x_text = centre + 0.01 * torch.randn(30, 50, generator=torch.Generator().manual_seed(0))
    exact = ModalKNNGraph(k=10)(data)[similar("item", "text")]
    for reduced in (ModalKNNGraph(k=10, precision="bfloat16"), ModalKNNGraph(k=10, projection=20)):
        graph = reduced(data)[similar("item", "text")]
        assert set(map(tuple, graph.edge_index.t().tolist())) == set(map(tuple, exact.edge_index.t().tolist()))
