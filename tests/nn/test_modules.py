from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.nn import (
    Critic,
    CrossModalAttention,
    FilterGate,
    ModalProjection,
    ViewAttention,
    XavierEmbedding,
    reset_xavier,
)


@pytest.fixture
def data() -> HeteroData:
    """Five items, the third without an image."""
    data = HeteroData()
    generator = torch.Generator().manual_seed(0)
    data["item"].num_nodes = 5
    data["item"].x_image = torch.rand(5, 4, generator=generator)
    data["item"].x_text = torch.rand(5, 3, generator=generator)
    data["item"].mask_image = torch.tensor([True, True, False, True, True])
    return data


def projection(bias: bool = True) -> ModalProjection:
    torch.manual_seed(0)
    module = ModalProjection({"image": 4, "text": 3}, 2, bias=bias)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1, 1)
    return module


def test_gate_equals_its_equation() -> None:
    torch.manual_seed(0)
    gate = FilterGate(4, 3)
    x, behavior = torch.randn(5, 4), torch.randn(5, 3)
    logit = x.numpy() @ gate.lin.weight.detach().numpy().T + gate.lin.bias.detach().numpy()
    expected = 1 / (1 + np.exp(-logit)) * behavior.numpy()
    np.testing.assert_allclose(gate(x, behavior).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_gate_passes_gradients_to_both_inputs() -> None:
    gate = FilterGate(4, 3).double()
    inputs = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(gate, tuple(part.requires_grad_() for part in inputs))


def test_gate_is_drawn_anew() -> None:
    torch.manual_seed(0)
    gate = FilterGate(4, 3)
    before = gate.lin.weight.detach().clone()
    gate.reset_parameters()
    assert not torch.equal(gate.lin.weight, before)
    torch.manual_seed(0)
    gate.reset_parameters()
    assert torch.equal(gate.lin.weight, before)


def test_attention_equals_its_equation() -> None:
    torch.manual_seed(0)
    attention, views = ViewAttention(3), torch.randn(5, 2, 3)
    attention.reset_parameters()
    first, _, last = attention
    assert first.bias.abs().sum() == 0
    with torch.no_grad():
        first.bias.uniform_(-1, 1)
    hidden = np.tanh(views.numpy() @ first.weight.detach().numpy().T + first.bias.detach().numpy())
    weight = np.exp(hidden @ last.weight.detach().numpy().T)
    expected = (weight / weight.sum(1, keepdims=True) * views.numpy()).sum(1)
    np.testing.assert_allclose(attention(views).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(attention(views[:, :1]), views[:, 0])


@pytest.mark.parametrize("num_heads", [1, 2])
def test_cross_modal_attention_equals_its_equation(num_heads: int) -> None:
    torch.manual_seed(0)
    attention, views = CrossModalAttention(6, num_heads), torch.randn(5, 3, 6)
    wq, wk = (lin.weight.detach().numpy() for lin in (attention.query, attention.key))
    expected, width = np.zeros((5, 3, 6)), 6 // num_heads
    for node, x in enumerate(views.numpy()):
        for head in range(num_heads):
            own = slice(head * width, (head + 1) * width)
            weight = np.exp((x @ wq.T)[:, own] @ (x @ wk.T)[:, own].T / np.sqrt(width))
            expected[node][:, own] = weight / weight.sum(1, keepdims=True) @ x[:, own]
    np.testing.assert_allclose(attention(views).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(attention(views.flip(1)), attention(views).flip(1))
    torch.testing.assert_close(attention(views[:, :1]), views[:, :1])


def test_cross_modal_attention_needs_heads_that_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"^'num_heads' must divide the width, 'hidden_channels', 6 \(got 4\)$"):
        CrossModalAttention(6, 4)


def test_critic_equals_its_equation() -> None:
    torch.manual_seed(0)
    critic, x = Critic(4, 3).eval(), torch.randn(5, 4)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.uniform_(-1, 1)
    first, norm, _, _, second, _, _, last = critic
    w1, b1, g, b, w2, b2, w3 = (
        part.detach().numpy()
        for part in (first.weight, first.bias, norm.weight, norm.bias, second.weight, second.bias, last.weight)
    )
    hidden = x.numpy() @ w1.T + b1
    hidden = (hidden - hidden.mean(1, keepdims=True)) / np.sqrt(hidden.var(1, keepdims=True) + 1e-5) * g + b
    hidden = np.where(hidden > 0, hidden, 0.2 * hidden) @ w2.T + b2
    expected = np.where(hidden > 0, hidden, 0.2 * hidden) @ w3.T
    np.testing.assert_allclose(critic(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(critic(x[:2]), critic(x)[:2])  # no row reads another
    assert not torch.equal(critic.train()(x), critic(x))  # dropout


def test_critic_of_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"^'in_channels' must be positive \(got 0\)$"):
        Critic(0)
    with pytest.raises(ValueError, match=r"^'dropout' must lie in \[0, 1\) \(got 1.0\)$"):
        Critic(4, dropout=1.0)


@pytest.mark.parametrize("bias", [False, True])
def test_projection_equals_its_equation(data: HeteroData, bias: bool) -> None:
    module = projection(bias)
    out = module(data)
    assert list(out) == ["image", "text"]
    for name, z in out.items():
        lin = module.lins[name]
        expected = data["item"][f"x_{name}"].numpy() @ lin.weight.detach().numpy().T
        if bias:
            expected = expected + lin.bias.detach().numpy()
        if name == "image":
            expected[2] = 0
        np.testing.assert_allclose(z.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert (lin.bias is not None) == bias


@pytest.mark.parametrize("index", [[1, 4, 1, 2, 1], [[0, 0], [2, 3], [4, 0]], [3], []], ids=str)
def test_rows_of_an_index_equal_the_full_projection(data: HeteroData, index: list[int]) -> None:
    rows = torch.tensor(index, dtype=torch.long)
    full, part = projection(), projection()
    upstream = torch.rand(*rows.shape, 2)
    for module, out in ((full, full(data)), (part, part(data, rows))):
        chosen = {name: z[rows] if module is full else z for name, z in out.items()}
        assert {z.shape for z in chosen.values()} == {(*rows.shape, 2)}
        sum((z * upstream).sum() for z in chosen.values()).backward()
    for name, z in part(data, rows).items():
        torch.testing.assert_close(z, full(data)[name][rows])
    for one, two in zip(full.parameters(), part.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def test_every_row_is_projected_once(data: HeteroData) -> None:
    module = projection()
    rows = []
    module.lins["text"].register_forward_hook(lambda lin, inputs, out: rows.append(inputs[0].size(0)))
    module(data, torch.tensor([[3, 3, 1], [1, 3, 3]]))
    assert rows == [2]


def test_items_without_a_modality_give_no_gradient(data: HeteroData) -> None:
    module = projection()
    module(data, torch.tensor([2, 2]))["image"].sum().backward()
    assert module.lins["image"].weight.grad.abs().sum() == 0
    assert module.lins["image"].bias.grad.abs().sum() == 0


def test_features_that_are_parameters_get_gradients(data: HeteroData) -> None:
    data["item"].x_text = torch.nn.Parameter(data["item"].x_text)
    projection()(data, torch.tensor([1, 1, 4]))["text"].sum().backward()
    assert (data["item"].x_text.grad.abs().sum(1) > 0).tolist() == [False, True, False, False, True]


def test_projection_leaves_its_inputs_unchanged(data: HeteroData) -> None:
    before = {key: value.clone() for key, value in data["item"].items() if key != "num_nodes"}
    projection()(data)
    assert all(torch.equal(data["item"][key], value) for key, value in before.items())


def test_projection_starts_without_a_shift() -> None:
    module = ModalProjection({"image": 4000}, 50)
    bound = (6 / 4050) ** 0.5
    assert module.lins["image"].bias.abs().max() == 0
    assert 0.99 * bound < module.lins["image"].weight.abs().max() <= bound


def test_projection_of_another_width(data: HeteroData) -> None:
    data["item"].x_text = torch.rand(5, 7)
    with pytest.raises(
        ValueError, match=r"^data\['item'\].x_text must have width 3, as the model was built for \(got width 7\)$"
    ):
        projection()(data)
    del data["item"].x_text
    with pytest.raises(ValueError, match=r"^data\['item'\].x_text must have width 3, .* \(got nothing\)$"):
        projection()(data, torch.tensor([0]))


def test_embedding_is_xavier_uniform() -> None:
    torch.manual_seed(0)
    table = XavierEmbedding(300, 64)
    bound = (6 / (300 + 64)) ** 0.5
    assert 0.99 * bound < table.weight.abs().max() <= bound
    assert table.weight.mean().abs() < 0.05 * bound
    torch.testing.assert_close(table.weight.std(), torch.tensor(bound / 3**0.5), rtol=0.02, atol=0)
    assert torch.equal(table(torch.tensor([[4, 2]])), table.weight[[4, 2]].unsqueeze(0))


def test_embedding_is_drawn_anew() -> None:
    torch.manual_seed(0)
    table = XavierEmbedding(3, 4)
    before = table.weight.detach().clone()
    table.reset_parameters()
    assert not torch.equal(table.weight, before)


def test_maps_of_all_depths_are_drawn_xavier_uniform() -> None:
    inner = torch.nn.Sequential(torch.nn.Linear(300, 100), torch.nn.LayerNorm(100), torch.nn.Linear(100, 2, bias=False))
    module = torch.nn.ModuleDict({"net": inner, "table": XavierEmbedding(200, 100)})
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7)
    torch.manual_seed(0)
    reset_xavier(module)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for name in ("net.0.weight", "table.weight"):
        bound = (6 / sum(state[name].shape)) ** 0.5
        assert 0.99 * bound < state[name].abs().max() <= bound
        assert abs(state[name].std() - bound / 3**0.5) < 0.01 * bound
    assert not state["net.0.bias"].any()
    torch.testing.assert_close(state["net.1.weight"], torch.ones(100))
    assert not state["net.1.bias"].any()
    torch.manual_seed(0)
    reset_xavier(module)
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())
