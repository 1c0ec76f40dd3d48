from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch_geometric.typing
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.typing import SparseTensor

from pyg_mmrec.nn.conv import Graph, LightGCNConv, ModalGraphConv, PropagationConv
from pyg_mmrec.utils import SparseOperator, normalized_weight

FORMS = [
    "operator",
    "edge_index",
    "EdgeIndex",
    "CSR",
    pytest.param(
        "SparseTensor",
        marks=pytest.mark.skipif(
            not torch_geometric.typing.WITH_TORCH_SPARSE, reason="torch_sparse is not installed (extra 'accel')"
        ),
    ),
]
SIZES = {"square": (5, 5), "rectangular": (4, 6)}


def draw(shape: str) -> tuple[Tensor, Tensor, int, int]:
    """A graph of ten distinct edges with weights, in no order; the last source and the last target have none."""
    num_src, num_dst = SIZES[shape]
    generator = torch.Generator().manual_seed(2)
    cell = torch.randperm((num_src - 1) * (num_dst - 1), generator=generator)[:10]
    edge_index = torch.stack([cell // (num_dst - 1), cell % (num_dst - 1)])
    return edge_index, torch.rand(10, generator=generator) + 0.1, num_src, num_dst


def express(form: str, edge_index: Tensor, weight: Tensor, num_src: int, num_dst: int) -> tuple[Graph, Tensor | None]:
    """A graph in one of the accepted forms, and the weights where the form does not hold them."""
    src, dst = edge_index
    if form == "operator":
        return SparseOperator.from_edge_index(edge_index, weight, num_src=num_src, num_dst=num_dst), None
    if form == "edge_index":
        return edge_index, weight
    if form == "EdgeIndex":
        return EdgeIndex(edge_index, sparse_size=(num_src, num_dst)), weight
    if form == "CSR":
        return torch.sparse_coo_tensor(edge_index.flip(0), weight, (num_dst, num_src)).to_sparse_csr(), None
    return SparseTensor(row=dst, col=src, value=weight, sparse_sizes=(num_dst, num_src)), None


def features(*sizes: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(3)
    for size in sizes:
        yield torch.rand(size, 3, generator=generator, requires_grad=True)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_propagation_equals_a_loop_over_edges(form: str, shape: str) -> None:
    edge_index, weight, num_src, num_dst = draw(shape)
    graph, edge_weight = express(form, edge_index, weight, num_src, num_dst)
    (x,) = features(num_src)
    upstream = torch.rand(num_dst, 3)
    out = PropagationConv()(x, graph, edge_weight, (num_src, num_dst) if form == "edge_index" else None)
    out.backward(upstream)
    expected, grad = np.zeros((num_dst, 3)), np.zeros((num_src, 3))
    for src, dst, w in zip(*edge_index.tolist(), weight.tolist(), strict=True):
        expected[dst] += w * x[src].detach().numpy()
        grad[src] += w * upstream[dst].numpy()
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(x.grad.numpy(), grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["edge_index", "EdgeIndex"])
def test_propagation_without_weights(form: str) -> None:
    edge_index, weight, num_src, num_dst = draw("square")
    graph, _ = express(form, edge_index, weight, num_src, num_dst)
    (x,) = features(num_src)
    ones = SparseOperator.from_edge_index(edge_index, num_src=num_src, num_dst=num_dst)
    torch.testing.assert_close(PropagationConv()(x, graph), ones @ x)


@pytest.mark.parametrize("form", ["edge_index", "EdgeIndex"])
def test_gradient_of_edge_weights(form: str) -> None:
    edge_index, weight, num_src, num_dst = draw("rectangular")
    graph, _ = express(form, edge_index, weight, num_src, num_dst)
    (x,) = features(num_src)
    weight.requires_grad_()
    PropagationConv()(x, graph, weight, (num_src, num_dst)).sum().backward()
    torch.testing.assert_close(weight.grad, x.detach()[edge_index[0]].sum(1))


def light_gcn_in_numpy(
    edge_index: Tensor, user: Tensor, item: Tensor, num_layers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 3 and 4 of LightGCN, edge by edge."""
    edges = list(zip(*edge_index.tolist(), strict=True))
    degree_user = np.bincount(edge_index[0], minlength=user.size(0))
    degree_item = np.bincount(edge_index[1], minlength=item.size(0))
    layers = [(user.detach().numpy().astype(float), item.detach().numpy().astype(float))]
    for _ in range(num_layers):
        users, items = layers[-1]
        next_users, next_items = np.zeros_like(users), np.zeros_like(items)
        for u, i in edges:
            norm = np.sqrt(degree_user[u]) * np.sqrt(degree_item[i])
            next_users[u] += items[i] / norm
            next_items[i] += users[u] / norm
        layers.append((next_users, next_items))
    users, items = zip(*layers, strict=True)
    return np.mean(users, axis=0), np.mean(items, axis=0)


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_light_gcn_equals_its_equations(form: str, shape: str, num_layers: int) -> None:
    edge_index, _, num_src, num_dst = draw(shape)
    weight = normalized_weight(edge_index, num_src, num_dst)
    graph, edge_weight = express(form, edge_index, weight, num_src, num_dst)
    user, item = features(num_src, num_dst)
    out = LightGCNConv(num_layers)(user, item, graph, edge_weight)
    for found, expected in zip(out, light_gcn_in_numpy(edge_index, user, item, num_layers), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_light_gcn_gradients_equal_those_of_a_dense_matrix(form: str, shape: str) -> None:
    edge_index, weight, num_src, num_dst = draw(shape)
    graph, edge_weight = express(form, edge_index, weight, num_src, num_dst)
    user, item = features(num_src, num_dst)
    upstream = torch.rand(num_src, 3), torch.rand(num_dst, 3)
    out = LightGCNConv(3)(user, item, graph, edge_weight)
    torch.autograd.backward(out, upstream)
    block = torch.zeros(num_src + num_dst, num_src + num_dst)
    block[edge_index[0], num_src + edge_index[1]] = weight
    block[num_src + edge_index[1], edge_index[0]] = weight
    mean = sum(torch.linalg.matrix_power(block, power) for power in range(4)) / 4
    torch.testing.assert_close(torch.cat([user.grad, item.grad]), mean.t() @ torch.cat(upstream))


@pytest.mark.parametrize("num_layers", [0, 1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_modal_graph_equals_its_equation(form: str, num_layers: int) -> None:
    edge_index, weight, num_nodes, _ = draw("square")
    if form in ("edge_index", "EdgeIndex"):  # these hold no weights
        weight = torch.ones_like(weight)
    edges = {"image": (edge_index, weight), "text": (edge_index.flip(0)[:, :7], weight[:7])}
    graphs = {name: express(form, *edge, num_nodes, num_nodes)[0] for name, edge in edges.items()}
    alpha = {"text": torch.tensor(0.9, requires_grad=True), "image": torch.tensor(0.1, requires_grad=True)}
    (x,) = features(num_nodes)
    upstream = torch.rand(num_nodes, 3)
    out = ModalGraphConv(num_layers)(x, graphs, alpha)
    out.backward(upstream)

    matrices = {}
    for name, ((src, dst), w) in edges.items():
        matrices[name] = torch.zeros(num_nodes, num_nodes)
        matrices[name][dst, src] = w
    twin = {name: weight.detach().requires_grad_() for name, weight in alpha.items()}
    (y,) = features(num_nodes)
    total = sum(twin[name] * matrix for name, matrix in matrices.items())
    expected = torch.linalg.matrix_power(total, num_layers) @ y
    expected.backward(upstream)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(x.grad, y.grad)
    if num_layers:
        for name in alpha:
            torch.testing.assert_close(alpha[name].grad, twin[name].grad)


def test_modal_graph_with_other_names() -> None:
    graph = torch.tensor([[0], [1]])
    with pytest.raises(
        ValueError,
        match=r"'graph_weights', must name the graphs \['image', 'text'\] \(got \['text'\]\)$",
    ):
        ModalGraphConv()(torch.rand(2, 1), {"text": graph, "image": graph}, {"text": 1.0})


@pytest.mark.parametrize("layer", [LightGCNConv, ModalGraphConv])
def test_number_of_layers(layer: type[LightGCNConv] | type[ModalGraphConv]) -> None:
    with pytest.raises(ValueError, match=r"^'num_layers' must not be negative \(got -1\)$"):
        layer(-1)
    assert repr(layer(3)) == f"{layer.__name__}(num_layers=3)"
    assert list(layer(3).parameters()) == []


def test_half_precision_features_on_an_operator() -> None:
    edge_index, weight, num_src, num_dst = draw("rectangular")
    graph, _ = express("operator", edge_index, weight, num_src, num_dst)
    user, item = features(num_src, num_dst)
    out = LightGCNConv(2)(user.bfloat16(), item.bfloat16(), graph)
    expected = LightGCNConv(2)(user.bfloat16().float(), item.bfloat16().float(), graph)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("shape", SIZES)
def test_plain_edges_compile_without_a_break(shape: str) -> None:
    edge_index, weight, num_src, num_dst = draw(shape)
    x, item = features(num_src, num_dst)
    layers = PropagationConv(), LightGCNConv(2)
    calls = (x, edge_index, weight, (num_src, num_dst)), (x, item, edge_index, weight)
    for layer, arguments in zip(layers, calls, strict=True):
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        out, expected = compiled(*arguments), layer(*arguments)
        torch.testing.assert_close(out, expected)
        sums = [(value[0] if isinstance(value, tuple) else value).sum() for value in (out, expected)]
        grads = [torch.autograd.grad(value, x) for value in sums]
        torch.testing.assert_close(*grads)


def fused_backward(num_src: int, num_dst: int, weight: Tensor | None) -> Tensor:
    """Gradient of PyG's fused product with a transposed graph."""
    edge_index, _, _, _ = draw("rectangular")
    graph = EdgeIndex(edge_index, sparse_size=(num_src, num_dst)).sort_by("col").values.fill_cache_()
    x = torch.rand(num_src, 3, requires_grad=True)
    out = graph.matmul(x, input_value=weight, transpose=True)
    torch.testing.assert_close(out, PropagationConv()(x, edge_index, size=(num_src, num_dst)))
    out.sum().backward()
    assert x.grad is not None
    return x.grad


@pytest.mark.xfail(
    strict=True,
    raises=RuntimeError,
    reason="PyG 2.8.1 gives the transposed product's backward matrix the forward's shape, so only square graphs work; "
    "once this passes, EdgeIndex may take the fused path in PropagationConv",
)
@pytest.mark.parametrize("weighted", [False, True])
def test_fused_product_of_pyg_fails_in_backward_on_rectangular_graphs(weighted: bool) -> None:
    grad = fused_backward(4, 6, torch.ones(10) if weighted else None)
    out_degree = torch.bincount(draw("rectangular")[0][0], minlength=4)
    torch.testing.assert_close(grad, out_degree.unsqueeze(1).expand(4, 3).float())


def test_fused_product_of_pyg_works_on_square_graphs() -> None:
    out_degree = torch.bincount(draw("rectangular")[0][0], minlength=6)
    torch.testing.assert_close(fused_backward(6, 6, None), out_degree.unsqueeze(1).expand(6, 3).float())


def test_edge_index_does_not_take_the_fused_path() -> None:
    edge_index, _, num_src, num_dst = draw("rectangular")
    graph = EdgeIndex(edge_index, sparse_size=(num_src, num_dst)).sort_by("col").values.fill_cache_()
    (x,) = features(num_src)
    PropagationConv()(x, graph).sum().backward()
    torch.testing.assert_close(x.grad[:, 0], torch.bincount(edge_index[0], minlength=num_src).float())
