from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS, similar
from pyg_mmrec.utils import (
    SparseOperator,
    interaction_operator,
    layer_mean,
    masked_mean,
    normalized_weight,
    similarity_operators,
    with_interactions,
    with_operators,
)

# (num_src, num_dst, edges); the third has empty rows and columns, the fourth repeats an edge, the fifth has no edge
GRAPHS = {
    "square": (3, 3, [[0, 1, 2, 2], [1, 0, 0, 2]]),
    "rectangular": (2, 4, [[0, 0, 1, 1, 0], [0, 1, 2, 3, 3]]),
    "empty rows": (5, 4, [[3, 1], [2, 2]]),
    "repeated": (3, 2, [[0, 0, 2, 0], [1, 1, 0, 1]]),
    "no edges": (3, 2, [[], []]),
}


def draw(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, int, int]:
    num_src, num_dst, edges = GRAPHS[name]
    edge_index = torch.tensor(edges, dtype=torch.long)
    generator = torch.Generator().manual_seed(1)
    return edge_index, torch.rand(edge_index.size(1), generator=generator, dtype=dtype) + 0.5, num_src, num_dst


def dense(edge_index: Tensor, weight: Tensor, num_src: int, num_dst: int) -> Tensor:
    """``[num_dst, num_src]``, entry by entry."""
    matrix = torch.zeros(num_dst, num_src, dtype=weight.dtype)
    for src, dst, w in zip(*edge_index.tolist(), weight, strict=True):
        matrix[dst, src] += w
    return matrix


def build(name: str, dtype: torch.dtype = torch.float32) -> tuple[SparseOperator, Tensor]:
    edge_index, weight, num_src, num_dst = draw(name, dtype)
    operator = SparseOperator.from_edge_index(edge_index, weight, num_src=num_src, num_dst=num_dst)
    return operator, dense(edge_index, weight, num_src, num_dst)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", GRAPHS)
def test_product_and_gradient_equal_the_dense_matrix(name: str, dtype: torch.dtype) -> None:
    operator, matrix = build(name, dtype)
    x = torch.rand(matrix.size(1), 3, dtype=dtype, requires_grad=True)
    grad = torch.rand(matrix.size(0), 3, dtype=dtype)
    out = operator @ x
    out.backward(grad)
    assert out.dtype == dtype
    assert operator.shape == tuple(matrix.shape)
    torch.testing.assert_close(operator.to_dense(), matrix)
    torch.testing.assert_close(out, matrix @ x)
    torch.testing.assert_close(x.grad, matrix.t() @ grad)


@pytest.mark.parametrize("name", GRAPHS)
def test_transpose(name: str) -> None:
    operator, matrix = build(name)
    x = torch.rand(matrix.size(0), 2)
    torch.testing.assert_close(operator.t() @ x, matrix.t() @ x)
    torch.testing.assert_close(operator.t().to_dense(), matrix.t())
    assert operator.t().t().rowptr is operator.rowptr


def test_without_weights_every_edge_counts_one() -> None:
    edge_index, _, num_src, num_dst = draw("repeated")
    operator = SparseOperator.from_edge_index(edge_index, num_src=num_src, num_dst=num_dst)
    assert operator.to_dense().tolist() == [[0, 0, 1], [3, 0, 0]]
    assert operator.num_edges == 4
    assert operator.col.dtype == torch.int32


def test_order_of_the_edges_does_not_matter() -> None:
    edge_index, weight, num_src, num_dst = draw("rectangular")
    perm = torch.tensor([4, 2, 0, 1, 3])
    one = SparseOperator.from_edge_index(edge_index, weight, num_src=num_src, num_dst=num_dst)
    two = SparseOperator.from_edge_index(edge_index[:, perm], weight[perm], num_src=num_src, num_dst=num_dst)
    assert torch.equal(one.col, two.col)
    assert torch.equal(one.value, two.value)
    assert torch.equal(one.value_t, two.value_t)


def test_vectors_and_non_contiguous_features() -> None:
    operator, matrix = build("rectangular")
    x = torch.rand(3, matrix.size(1)).t()
    assert not x.is_contiguous()
    torch.testing.assert_close(operator @ x, matrix @ x)
    torch.testing.assert_close(operator @ x[:, 0], matrix @ x[:, 0])


def test_gradient_that_is_expanded() -> None:
    operator, matrix = build("rectangular")
    x = torch.rand(matrix.size(1), 3, requires_grad=True)
    (operator @ x).sum().backward()
    torch.testing.assert_close(x.grad, matrix.t() @ torch.ones(matrix.size(0), 3))


@pytest.mark.parametrize("name", ["square", "rectangular", "empty rows", "repeated"])
def test_gradcheck_of_the_product(name: str) -> None:
    operator, matrix = build(name, torch.float64)
    x = torch.rand(matrix.size(1), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: operator @ x, (x,))
    assert torch.autograd.gradgradcheck(lambda x: operator @ x, (x,))
    assert torch.autograd.gradgradcheck(lambda x: (operator @ x).square(), (x,))


@pytest.mark.parametrize("num_layers", [0, 1, 2, 3])
def test_layer_mean_equals_powers_of_the_dense_matrix(num_layers: int) -> None:
    operator, matrix = build("rectangular", torch.float64)
    num_dst, num_src = matrix.shape
    src, dst = torch.rand(num_src, 3, dtype=torch.float64), torch.rand(num_dst, 3, dtype=torch.float64)
    block = torch.zeros(num_src + num_dst, num_src + num_dst, dtype=torch.float64)
    block[:num_src, num_src:], block[num_src:, :num_src] = matrix.t(), matrix
    x = torch.cat([src, dst])
    expected = sum(torch.linalg.matrix_power(block, power) @ x for power in range(num_layers + 1)) / (num_layers + 1)
    before = src.clone(), dst.clone()
    out = layer_mean(operator, src, dst, num_layers)
    torch.testing.assert_close(torch.cat(out), expected)
    assert torch.equal(src, before[0])
    assert torch.equal(dst, before[1])


@pytest.mark.parametrize("name", ["square", "rectangular", "empty rows"])
def test_gradcheck_of_layer_mean(name: str) -> None:
    operator, matrix = build(name, torch.float64)
    src, dst = (torch.rand(size, 2, dtype=torch.float64, requires_grad=True) for size in matrix.shape[::-1])
    assert torch.autograd.gradcheck(lambda src, dst: layer_mean(operator, src, dst, 2), (src, dst))
    assert torch.autograd.gradgradcheck(lambda src, dst: layer_mean(operator, src, dst, 2), (src, dst))


def test_layer_mean_when_only_one_side_is_used() -> None:
    operator, _ = build("rectangular", torch.float64)
    src = torch.rand(2, 2, dtype=torch.float64, requires_grad=True)
    dst = torch.rand(4, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda src: layer_mean(operator, src, dst, 3)[1], (src,))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    operator, matrix = build("rectangular")
    x = torch.rand(matrix.size(1), 3).to(dtype).requires_grad_()
    out = operator @ x
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, matrix @ x.float())
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    means = layer_mean(operator, x.detach(), torch.rand(matrix.size(0), 3).to(dtype), 2)
    assert [mean.dtype for mean in means] == [torch.float32, torch.float32]


def test_autocast_leaves_products_in_single_precision() -> None:
    operator, matrix = build("rectangular")
    src = torch.rand(matrix.size(1), 3, requires_grad=True)
    dst = torch.rand(matrix.size(0), 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, mean = operator @ src, layer_mean(operator, src, dst, 2)
        (out.sum() + mean[0].sum()).backward()
    assert out.dtype == mean[0].dtype == mean[1].dtype == torch.float32
    grad = src.grad
    src.grad = None
    torch.testing.assert_close(out, matrix @ src)
    torch.testing.assert_close(mean, layer_mean(operator, src, dst, 2))
    (operator @ src).sum().add(layer_mean(operator, src, dst, 2)[0].sum()).backward()
    torch.testing.assert_close(grad, src.grad)


def test_to_changes_the_dtype_of_the_weights_only() -> None:
    operator, matrix = build("rectangular")
    double = operator.to(torch.float64)
    assert double.value.dtype == double.value_t.dtype == torch.float64
    assert double.col.dtype == operator.col.dtype
    assert double.rowptr_t.dtype == operator.rowptr_t.dtype
    assert operator.value.dtype == torch.float32
    torch.testing.assert_close(double @ torch.eye(2, dtype=torch.float64), matrix.double())


def test_to_another_device() -> None:
    operator, _ = build("rectangular")
    assert operator.to("cpu").device == torch.device("cpu")
    moved = operator.to("meta")
    assert moved.device == torch.device("meta")
    assert {moved.rowptr.device.type, moved.col_t.device.type, moved.value_t.device.type} == {"meta"}
    assert moved.shape == operator.shape


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda operator: pickle.loads(pickle.dumps(operator))])
def test_copies(duplicate: Callable[[SparseOperator], SparseOperator]) -> None:
    operator, matrix = build("rectangular")
    twin = duplicate(operator)
    assert twin is not operator
    torch.testing.assert_close(twin.to_dense(), matrix)
    torch.testing.assert_close(twin.t().to_dense(), matrix.t())


def test_weights_are_constant() -> None:
    edge_index, weight, num_src, num_dst = draw("rectangular")
    weight.requires_grad_()
    operator = SparseOperator.from_edge_index(edge_index, weight, num_src=num_src, num_dst=num_dst)
    assert not (operator @ torch.rand(num_src, 1)).requires_grad


def test_repr() -> None:
    assert repr(build("rectangular")[0]) == "SparseOperator(shape=(4, 2), num_edges=5)"


@pytest.mark.parametrize(
    ("edge_index", "weight", "message"),
    [
        ([[0, 2], [0, 1]], None, "'edge_index' row 0 must lie in 0..1 (got 0..2)"),
        ([[0, 1], [0, 3]], None, "'edge_index' row 1 must lie in 0..2 (got 0..3)"),
        ([[-1, 1], [0, 1]], None, "'edge_index' row 0 must lie in 0..1 (got -1..1)"),
        ([[0, 1], [0, 1]], [1.0], "'edge_weight' must have shape (2,) (got (1,))"),
    ],
)
def test_bad_edges(edge_index: list[list[int]], weight: list[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match="'edge_") as error:
        SparseOperator.from_edge_index(
            torch.tensor(edge_index), None if weight is None else torch.tensor(weight), num_src=2, num_dst=3
        )
    assert str(error.value) == message


def test_features_that_do_not_fit() -> None:
    operator, _ = build("rectangular")
    with pytest.raises(ValueError, match=r"^the operator of shape \(4, 2\) needs 2 rows \(got 4\)$"):
        operator @ torch.rand(4, 3)
    with pytest.raises(ValueError, match=r"^the operator of shape \(4, 2\) cannot join 4 to 2 nodes$"):
        layer_mean(operator, torch.rand(4, 3), torch.rand(2, 3), 1)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("normalization", ["sym", "row", "none"])
@pytest.mark.parametrize("name", GRAPHS)
def test_normalized_weight_equals_a_loop(name: str, normalization: str, weighted: bool) -> None:
    edge_index, weight, num_src, num_dst = draw(name)
    w = weight.numpy() if weighted else np.ones(edge_index.size(1), dtype=np.float32)
    out_degree, in_degree = np.zeros(num_src), np.zeros(num_dst)
    edges = list(zip(*edge_index.tolist(), strict=True))
    for (src, dst), value in zip(edges, w, strict=True):
        out_degree[src] += value
        in_degree[dst] += value
    expected = []
    for (src, dst), value in zip(edges, w, strict=True):
        divisor = {"sym": np.sqrt(out_degree[src] * in_degree[dst]), "row": in_degree[dst], "none": 1.0}[normalization]
        expected.append(value / divisor)
    out = normalized_weight(
        edge_index,
        num_src,
        num_dst,
        weight if weighted else None,
        normalization,
    )
    np.testing.assert_allclose(out.numpy(), np.array(expected), rtol=1e-6)


@pytest.mark.parametrize("normalization", ["sym", "row"])
def test_edges_of_weight_zero_stay_zero(normalization: str) -> None:
    edge_index = torch.tensor([[0, 1], [0, 1]])
    weight = normalized_weight(edge_index, 2, 2, torch.tensor([0.0, 2.0]), normalization)
    assert weight.tolist() == [0.0, 1.0]


def test_unknown_normalization() -> None:
    with pytest.raises(ValueError, match=r"^'normalization' must be 'sym', 'row' or 'none' \(got 'max'\)$"):
        normalized_weight(torch.tensor([[0], [0]]), 1, 1, normalization="max")


def keys(data: HeteroData) -> dict[object, list[str]]:
    return {name: sorted(store.keys()) for name, store in data._global_store.items()} | {
        store._key: sorted(store.keys()) for store in data.stores[1:]
    }


def test_interaction_operator_is_normalised_symmetrically(tiny_data: HeteroData) -> None:
    edge_index = tiny_data[INTERACTS].edge_index
    weight = normalized_weight(edge_index, 40, 30)
    torch.testing.assert_close(interaction_operator(tiny_data).to_dense(), dense(edge_index, weight, 40, 30))


def test_interaction_operator_reads_weights_where_there_are_any(tiny_data: HeteroData) -> None:
    weight = torch.rand(tiny_data[INTERACTS].edge_index.size(1))
    tiny_data[INTERACTS].edge_weight = weight
    expected = dense(tiny_data[INTERACTS].edge_index, weight, 40, 30)
    torch.testing.assert_close(interaction_operator(tiny_data).to_dense(), expected)


def test_similarity_operators_send_neighbours_to_their_centre(tiny_data: HeteroData) -> None:
    operators = similarity_operators(tiny_data)
    assert list(operators) == ["image", "text"]
    store = tiny_data[similar("item", "text")]
    torch.testing.assert_close(operators["text"].to_dense(), dense(store.edge_index, store.edge_weight, 30, 30))
    torch.testing.assert_close(operators["text"].to_dense().sum(1), torch.ones(30))


def test_similarity_operators_of_users(tiny_data: HeteroData) -> None:
    edge_index = torch.tensor([[39, 1], [0, 5]])
    tiny_data[similar("user", "text")].edge_index = edge_index
    operator = similarity_operators(tiny_data, "user")["text"]
    torch.testing.assert_close(operator.to_dense(), dense(edge_index, torch.ones(2), 40, 40))


def test_similarity_operators_without_graphs() -> None:
    data = HeteroData()
    data["user"].num_nodes = data["item"].num_nodes = 2
    with pytest.raises(ValueError, match=r"^the data has no item-item graph: apply pyg_mmrec.transforms.ModalKNNGraph"):
        similarity_operators(data)


def test_with_operators_leaves_its_input_unchanged(tiny_data: HeteroData) -> None:
    before = keys(tiny_data)
    view = with_operators(tiny_data)
    assert keys(tiny_data) == before
    assert "operator" in view[INTERACTS]
    assert "operator" in view[similar("item", "image")]
    assert view["item"].x_image is tiny_data["item"].x_image
    assert view[INTERACTS].edge_index is tiny_data[INTERACTS].edge_index


def test_held_operators_are_used(tiny_data: HeteroData) -> None:
    view = with_operators(tiny_data)
    assert interaction_operator(view) is view[INTERACTS].operator
    assert similarity_operators(view)["text"] is view[similar("item", "text")].operator
    assert with_operators(view)[INTERACTS].operator is view[INTERACTS].operator
    torch.testing.assert_close(view[INTERACTS].operator.to_dense(), interaction_operator(tiny_data).to_dense())


def test_held_operators_move_with_the_data(tiny_data: HeteroData) -> None:
    moved = copy.copy(with_operators(tiny_data)).to("meta")
    assert moved[INTERACTS].operator.device == torch.device("meta")
    assert tiny_data[INTERACTS].edge_index.device == torch.device("cpu")


def test_with_interactions_normalises_the_other_edges_anew(tiny_data: HeteroData) -> None:
    tiny_data[INTERACTS].time = torch.arange(tiny_data[INTERACTS].edge_index.size(1))
    tiny_data[INTERACTS].edge_weight = torch.rand(tiny_data[INTERACTS].edge_index.size(1))
    data = with_operators(tiny_data)
    held, before = data[INTERACTS].operator, keys(data)
    kept = tiny_data[INTERACTS].edge_index[:, ::3]
    view = with_interactions(data, kept)
    assert keys(data) == before
    assert data[INTERACTS].operator is held
    assert sorted(view[INTERACTS].keys()) == ["edge_index", "edge_label_index", "operator"]
    assert torch.equal(view[INTERACTS].edge_label_index, data[INTERACTS].edge_label_index)
    expected = dense(kept, normalized_weight(kept, 40, 30), 40, 30)
    torch.testing.assert_close(interaction_operator(view).to_dense(), expected)
    assert similarity_operators(view)["text"] is data[similar("item", "text")].operator


def test_mean_is_over_the_sources_of_each_target() -> None:
    edge_index = torch.tensor([[0, 2, 2, 1, 2], [1, 1, 3, 3, 3]])  # nothing leads to 0 and 2
    operator = SparseOperator.from_edge_index(edge_index, torch.rand(5), num_src=3, num_dst=4)
    expected = torch.zeros(4, 3)
    for source, target in edge_index.t().tolist():
        expected[target, source] += 1 / int((edge_index[1] == target).sum())
    torch.testing.assert_close(operator.mean().to_dense(), expected)
    torch.testing.assert_close(operator.mean().t().to_dense(), expected.t())
    assert operator.mean().rowptr is operator.rowptr


def test_mean_of_no_edges() -> None:
    operator = SparseOperator.from_edge_index(torch.empty(2, 0, dtype=torch.long), num_src=3, num_dst=2)
    assert torch.equal(operator.mean() @ torch.ones(3, 2), torch.zeros(2, 2))


def test_masked_mean_is_over_the_sources_that_count() -> None:
    edge_index, weight, num_src, num_dst = draw("rectangular")
    mean = SparseOperator.from_edge_index(edge_index, weight, num_src=num_src, num_dst=num_dst).mean()
    x, mask = torch.randn(num_src, 3), torch.arange(num_src) % 2 > 0
    assert torch.equal(masked_mean(mean, x), mean @ x)
    out = masked_mean(mean, x, mask)
    for node in range(num_dst):
        sources = [j for j, i in edge_index.t().tolist() if i == node and mask[j]]
        torch.testing.assert_close(out[node], x[sources].mean(0) if sources else torch.zeros(3))
    assert masked_mean(mean, x, mask & False).abs().sum() == 0


def test_without_some_edges() -> None:
    edge_index = torch.stack([torch.randint(7, (40,)), torch.randint(5, (40,))]).unique(dim=1)
    weight = torch.rand(edge_index.size(1))
    operator = SparseOperator.from_edge_index(edge_index, weight, num_src=7, num_dst=5)
    gone = torch.randperm(edge_index.size(1))[:9]
    dense = operator.to_dense()
    dense[edge_index[1, gone], edge_index[0, gone]] = 0
    out = operator.without(edge_index[0, gone], edge_index[1, gone])
    assert torch.equal(out.to_dense(), dense)
    assert torch.equal(out.t().to_dense(), dense.t())
    no_edge = (operator.to_dense() == 0).nonzero()[:1]  # a pair that is no edge
    assert torch.equal(operator.without(no_edge[:, 1], no_edge[:, 0]).to_dense(), operator.to_dense())
    none = torch.zeros(0, dtype=torch.long)
    assert torch.equal(operator.without(none, none).to_dense(), operator.to_dense())
    assert torch.equal(operator.to_dense()[dense == 0].count_nonzero(), torch.tensor(9))
