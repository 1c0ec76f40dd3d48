from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.nn import OneHotFields, PairMLP, XavierEmbedding, pair_products, pairs, score_pairs


@pytest.fixture
def data() -> HeteroData:
    data = HeteroData()
    data["item"].category = torch.tensor([1, -1, 0, 1, 2])
    return data


def fields(num_categories: int = 3) -> OneHotFields:
    torch.manual_seed(0)
    return OneHotFields(4, 5, num_categories, 6)


def test_fields_are_rows_of_their_tables(data: HeteroData) -> None:
    module, item = fields(), torch.tensor([[4, 1], [1, 0]])
    user, found = module.users(torch.tensor([2, 2])), module.items(data, item)
    assert torch.equal(user, module.user_emb.weight[[2, 2]])
    assert found.shape == (2, 2, 2, 6)
    assert torch.equal(found[..., 0, :], module.item_emb.weight[item])
    assert torch.equal(found[0, 0, 1], module.category_emb.weight[2])
    assert torch.equal(found[1, 1, 1], module.category_emb.weight[1])
    assert torch.equal(module.users(), module.user_emb.weight)
    assert torch.equal(module.items(data), module.items(data, torch.arange(5)))
    assert module.num_item_fields == 2


def test_an_unknown_category_is_zero_and_trains_nothing(data: HeteroData) -> None:
    module = fields()
    found = module.items(data, torch.tensor([1]))
    assert found[0, 1].abs().sum() == 0
    found.sum().backward()
    assert module.category_emb.weight.grad.abs().sum() == 0
    assert module.item_emb.weight.grad[1].abs().sum() > 0


def test_without_categories_the_data_is_not_read() -> None:
    module = fields(0)
    assert module.category_emb is None
    assert module.num_item_fields == 1
    assert torch.equal(module.items(HeteroData()), module.item_emb.weight.unsqueeze(1))


def test_all_tables_are_drawn_anew() -> None:
    module, other = fields(), fields()
    module.reset_parameters()
    tables = [part for part in module.children() if isinstance(part, XavierEmbedding)]
    assert len(tables) == 3
    for one, two in zip(module.parameters(), other.parameters(), strict=True):
        assert not torch.equal(one, two)
    torch.manual_seed(5)
    module.reset_parameters()
    torch.manual_seed(5)
    other.reset_parameters()
    assert all(map(torch.equal, module.parameters(), other.parameters()))


@pytest.mark.parametrize(("num_categories", "channels"), [(-1, 6), (2.0, 6), (2, 0)])
def test_fields_of_no_size(num_categories: Any, channels: int) -> None:
    with pytest.raises(ValueError, match=r"'num_categories' must|'hidden_channels', must be positive"):
        OneHotFields(4, 5, num_categories, channels)


@pytest.mark.parametrize("widths", [[7], [7, 5], [7, 5, 3]])
def test_perceptron_is_one_on_the_concatenation(widths: list[int]) -> None:
    torch.manual_seed(0)
    mlp = PairMLP(3, 4, widths, dropout=0.5).eval()
    for parameter in mlp.parameters():
        torch.nn.init.uniform_(parameter, -1, 1)
    user, item = torch.randn(6, 3), torch.randn(5, 4)
    both = torch.cat([user.unsqueeze(1).expand(-1, 5, -1), item.expand(6, -1, -1)], dim=-1)
    whole = torch.nn.Sequential(mlp.first, mlp.rest)
    found = mlp(mlp.users(user).unsqueeze(1) + mlp.items(item))
    torch.testing.assert_close(found, whole(both).squeeze(-1))


def test_perceptron_leaves_out_neurons_in_training() -> None:
    torch.manual_seed(0)
    mlp = PairMLP(1, 1, [20_000], dropout=0.3).double()
    last = mlp.rest[-1]
    torch.nn.init.constant_(last.weight, 1 / 20_000)
    hidden = torch.ones(20_000, dtype=torch.float64)
    assert mlp(hidden).item() == pytest.approx(1.0, abs=0.02)  # what is kept is scaled up
    assert mlp(hidden).item() != mlp(hidden).item()
    assert mlp.eval()(hidden).item() == pytest.approx(1.0)


def test_perceptron_starts_xavier_uniform() -> None:
    torch.manual_seed(0)
    mlp = PairMLP(30, 50, [100, 60])
    for layer in (mlp.first, mlp.rest[2], mlp.rest[5]):
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert layer.bias.abs().max() == 0


def by_loop(user: Tensor, item: Tensor, candidates: Tensor | None) -> Tensor:
    if candidates is None:
        candidates = torch.arange(item.size(0))
    rows = [candidates if candidates.dim() == 1 else candidates[row] for row in range(len(user))]
    return torch.stack([torch.stack([u @ item[i] for i in row]) for u, row in zip(user, rows, strict=True)])


CANDIDATES = {
    "all": None,
    "the same": torch.tensor([3, 3, 0, 6]),
    "by user": torch.arange(30).view(5, 6) * 5 % 7,
}


@pytest.mark.parametrize("numbers", [1, 8, 20, 50, 10_000])
@pytest.mark.parametrize("case", CANDIDATES)
def test_scores_in_blocks_equal_a_loop(case: str, numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "NUMBERS_AT_ONCE", numbers)
    torch.manual_seed(0)
    user, item, sizes = torch.randn(5, 4), torch.randn(7, 4), []

    def logits(one: Tensor, other: Tensor) -> Tensor:
        out = pair_products(one, other)
        assert out.shape == (one.size(0), other.size(1))
        sizes.append(out.numel() * 4)
        return out

    found = score_pairs(logits, user, item, CANDIDATES[case])
    torch.testing.assert_close(found, by_loop(user, item, CANDIDATES[case]))
    assert max(sizes) <= max(4, numbers)


def test_nobody_and_nothing_to_score() -> None:
    user, item = torch.randn(3, 4), torch.randn(7, 4)
    assert score_pairs(pair_products, user[:0], item).shape == (0, 7)
    assert score_pairs(pair_products, user, item, torch.empty(0, dtype=torch.long)).shape == (3, 0)
    assert score_pairs(pair_products, user, item, torch.empty(3, 0, dtype=torch.long)).shape == (3, 0)
