from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_mmrec.nn import Contributions, DeepInterest
from pyg_mmrec.nn import interest as module

ROW, PTR = torch.tensor([4, 0, 2, 5, 4]), torch.tensor([0, 2, 2, 5])


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def linear(lin: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    bias = 0 if lin.bias is None else lin.bias.detach().numpy()
    return lin.weight.detach().numpy() @ x + bias


def attention(net: DeepInterest, candidate: np.ndarray, history: np.ndarray) -> float:
    """With one map of the four parts: that of the difference is put on its two ends."""
    of_difference = np.random.default_rng(0).normal(size=net.candidate.weight.shape)
    parts = [
        net.candidate.weight.detach().numpy() - of_difference,
        net.history.weight.detach().numpy() + of_difference,
        of_difference,
        net.product.weight.detach().numpy(),
    ]
    x = np.concatenate([candidate, history, candidate - history, candidate * history])
    hidden = relu(np.concatenate(parts, axis=1) @ x + net.candidate.bias.detach().numpy())
    return float(linear(net.attention, hidden)[0])


def score(net: DeepInterest, candidate: np.ndarray, history: np.ndarray) -> float:
    user = sum((attention(net, candidate, item) * item for item in history), np.zeros_like(candidate))
    x = np.concatenate([user, candidate, user * candidate])
    for layer in net.predictor:
        x = linear(layer, x) if isinstance(layer, torch.nn.Linear) else relu(x)
    return float(x[0])


def net_and_table() -> tuple[DeepInterest, torch.Tensor]:
    return DeepInterest(3, attention_channels=4, predictor_channels=(5, 4)).double(), torch.randn(6, 3).double()


def test_scores_equal_eq_18_to_20() -> None:
    net, table = net_and_table()
    candidate = torch.tensor([[1, 5], [0, 2], [3, 3]])
    out = net(table, candidate, ROW, PTR)
    for b in range(3):
        history = table[ROW[PTR[b] : PTR[b + 1]]].numpy()
        for c in range(2):
            assert out[b, c].item() == pytest.approx(score(net, table[candidate[b, c]].numpy(), history))


@pytest.mark.parametrize("numbers", [2**22, 1])
def test_the_same_candidates_for_all(monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", numbers)
    net, table = net_and_table()
    candidate = torch.tensor([1, 5, 0, 2])
    expected = net(table, candidate.expand(3, -1), ROW, PTR)
    torch.testing.assert_close(net.score_all(table, candidate, ROW, PTR), expected)
    empty = torch.zeros(4, dtype=torch.long)
    nothing = net.score_all(table, candidate, ROW[:0], empty)
    torch.testing.assert_close(nothing, net(table, candidate.expand(3, -1), ROW[:0], empty))
    assert net.score_all(table, candidate[:0], ROW, PTR).shape == (3, 0)


def test_contributions_add_up_to_the_score() -> None:
    net, table = net_and_table()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_()
    for b in range(3):
        row = ROW[PTR[b] : PTR[b + 1]]
        found = net.contributions(table[1], table[row])
        assert isinstance(found, Contributions)
        assert found.candidate.shape == (3,)
        assert found.history.shape == (row.numel(), 3)
        total = found.bias + found.candidate.sum() + found.history.sum()
        expected = net(table, torch.tensor([[1]]), row, torch.tensor([0, row.numel()]))[0, 0]
        torch.testing.assert_close(total, expected.detach())


def test_bad_widths() -> None:
    with pytest.raises(ValueError, match=r"^'attention_channels' must be positive \(got 0\)$"):
        DeepInterest(3, attention_channels=0)
    with pytest.raises(ValueError, match=r"^'predictor_channels' must be positive \(got 0\)$"):
        DeepInterest(3, predictor_channels=(4, 0))
