from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_mmrec.metrics import dci, disentanglement, mutual_information_gap

SIZES = {"color": 3, "shape": 4, "material": 2}


@pytest.fixture(autouse=True)
def small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disentanglement, "NUM_TREES", 30)


def planted(n: int = 400, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(size, (n,), generator=generator) for name, size in SIZES.items()}


def own_dimensions(factor: dict[str, Tensor]) -> Tensor:
    """A dimension for each factor, of any order and scale."""
    return torch.stack([-3.0 * factor["material"], factor["color"] + 7.0, 0.01 * factor["shape"]], dim=1)


def rotated(code: Tensor, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centred = (code - code.mean(0)) / code.std(0)
    return centred @ torch.linalg.qr(torch.randn(code.size(1), code.size(1), generator=generator))[0]


def noisy(code: Tensor, num_channels: int) -> Tensor:
    return torch.cat([code, torch.randn(code.size(0), num_channels, generator=torch.Generator().manual_seed(5))], dim=1)


# The mutual information gap


def information(column: np.ndarray[Any, Any], classes: np.ndarray[Any, Any], num_bins: int) -> float:
    """Of a dimension in bins of equal width with a factor, from the table of joint frequencies."""
    low, high = column.min(), column.max()
    joint = np.zeros((num_bins, classes.max() + 1))
    for value, one in zip(column, classes, strict=True):
        joint[min(int((value - low) / (high - low) * num_bins), num_bins - 1), one] += 1 / len(column)
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    return float((joint[joint > 0] * np.log(joint[joint > 0] / independent[joint > 0])).sum())


@pytest.mark.parametrize("num_bins", [2, 5, 20])
def test_gap_equals_a_transcription(num_bins: int) -> None:
    rng = np.random.default_rng(num_bins)
    one, other = rng.integers(3, size=200), rng.integers(2, size=200)
    code = np.stack([one + rng.normal(size=200), other + rng.normal(size=200), one - other + rng.normal(size=200)], 1)
    expected = 0.0
    for classes in (one, other):
        share = np.bincount(classes) / 200
        found = sorted(information(column, classes, num_bins) for column in code.T)
        expected += (found[-1] - found[-2]) / -(share * np.log(share)).sum() / 2
    factor = {"one": torch.from_numpy(one), "other": torch.from_numpy(other)}
    assert mutual_information_gap(torch.from_numpy(code), factor, num_bins) == pytest.approx(expected, rel=1e-10)


def test_gap_by_hand() -> None:
    factor = {"half": torch.tensor([0, 0, 1, 1]), "last": torch.tensor([0, 0, 0, 1])}
    code = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    # the first dimension is 'half' and the second independent of it; of 'last' both say equally much
    assert mutual_information_gap(code, factor) == pytest.approx((1 + 0) / 2)
    code[:, 1] = factor["last"]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    shared = entropy - 0.5 * math.log(2)  # what 'half' and 'last' say of each other
    expected = ((math.log(2) - shared) / math.log(2) + (entropy - shared) / entropy) / 2
    assert mutual_information_gap(code, factor) == pytest.approx(expected)


def test_gap_of_separate_dimensions() -> None:
    factor = planted()
    code = own_dimensions(factor)
    assert mutual_information_gap(code, factor) > 0.95
    assert mutual_information_gap(noisy(code, 4), factor) > 0.85
    assert mutual_information_gap(torch.cat([code, code], dim=1), factor) == pytest.approx(0, abs=1e-12)
    assert mutual_information_gap(rotated(code), factor) < 0.3
    assert mutual_information_gap(torch.zeros(400, 3), factor) == pytest.approx(0, abs=1e-12)


def test_unknown_classes_are_left_out() -> None:
    factor = planted(300)
    code = torch.cat([own_dimensions(factor), torch.zeros(300, 1)], dim=1)
    code[200:] = code[:100].flip(0)  # says nothing of the last rows, in the same range
    partly = {name: classes.clone() for name, classes in factor.items()}
    for classes in partly.values():
        classes[200:] = -1
    kept = {name: classes[:200] for name, classes in factor.items()}
    assert mutual_information_gap(code, partly) == pytest.approx(mutual_information_gap(code[:200], kept), rel=1e-12)
    assert dci(code, partly) == dci(code[:200], kept)


# Disentanglement, completeness, informativeness


def test_dci_of_separate_dimensions() -> None:
    factor = planted()
    assert min(dci(noisy(own_dimensions(factor), 3), factor).values()) > 0.98


def test_noise_within_dimensions_is_no_lack_of_disentanglement(monkeypatch: pytest.MonkeyPatch) -> None:
    factor = planted(800)
    code = torch.stack([classes.float() for classes in factor.values()], dim=1)
    code += 0.4 * torch.randn(code.shape, generator=torch.Generator().manual_seed(0))
    found = dci(code, factor)
    monkeypatch.setattr(disentanglement, "DEPTHS", (None,))
    full = dci(code, factor)  # trees that fit the noise of other dimensions
    assert 0.7 < full["informativeness"] < found["informativeness"] < 0.95
    for name in ("disentanglement", "completeness"):
        assert found[name] > 0.7
        assert full[name] < 0.5


def test_dci_of_a_rotation() -> None:
    factor = planted()
    found = dci(rotated(own_dimensions(factor)), factor)
    assert found["disentanglement"] < 0.5
    assert found["completeness"] < 0.5
    assert found["informativeness"] > 0.9  # all is there, only not in single dimensions


def test_completeness_and_disentanglement_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randint(4, (600,), generator=generator) for _ in range(2))
    factor = {"one": one, "other": other}
    bits = torch.stack([one % 2, one // 2, other % 2, other // 2], dim=1).float()  # two dimensions for a factor
    found = dci(bits, factor)
    assert found["disentanglement"] > 0.95
    assert found["completeness"] == pytest.approx(0.5, abs=0.05)
    both = torch.stack([4 * one + other, torch.zeros_like(one)], dim=1).float()  # one dimension for two factors
    found = dci(both, factor)
    assert found["completeness"] == pytest.approx(1.0)
    assert found["disentanglement"] < 0.05


def test_codes_that_say_nothing() -> None:
    factor = planted(600)
    found = dci(torch.zeros(600, 3), factor)
    assert (found["disentanglement"], found["completeness"]) == (0.0, 0.0)
    chance = sum(int(torch.bincount(classes).max()) / 600 for classes in factor.values()) / 3
    assert found["informativeness"] == pytest.approx(chance, abs=0.05)


def test_dci_equals_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    importance = np.array([[0.7, 0.1], [0.2, 0.1], [0.1, 0.8], [0.0, 0.0]])
    columns = iter(importance.T)
    accuracy = iter([0.9, 0.6])

    def fitted(x: Any, classes: Any, seed: int) -> SimpleNamespace:
        value = next(accuracy)
        return SimpleNamespace(feature_importances_=next(columns), score=lambda x, y: value)

    monkeypatch.setattr(disentanglement, "_fitted", fitted)
    factor = planted(40)
    factor.pop("material")
    found = dci(torch.rand(40, 4), factor)

    def purity(shares: list[float]) -> float:
        return 1 + sum(p * math.log(p) for p in shares if p) / math.log(len(shares))

    rows = [[7 / 8, 1 / 8], [2 / 3, 1 / 3], [1 / 9, 8 / 9]]
    weights = [0.8 / 2, 0.3 / 2, 0.9 / 2]
    assert found["disentanglement"] == pytest.approx(sum(w * purity(row) for w, row in zip(weights, rows, strict=True)))
    assert found["completeness"] == pytest.approx((purity([0.7, 0.2, 0.1, 0.0]) + purity([0.1, 0.1, 0.8, 0.0])) / 2)
    assert found["informativeness"] == pytest.approx(0.75)


def test_equal_seeds_give_equal_values() -> None:
    factor = planted(200)
    code = rotated(own_dimensions(factor))
    found = [dci(code, factor, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


# Bad input


@pytest.mark.parametrize("metric", [mutual_information_gap, dci])
def test_bad_codes_and_factors(metric: Any) -> None:
    code, factor = torch.rand(20, 3), {"one": torch.arange(20) % 2, "other": torch.arange(20) % 3}
    shape = r"^'code' must be a float tensor of shape \[n, d\] with d at least 2 \(got "
    for bad in (torch.rand(20), torch.rand(20, 1), torch.arange(40).view(20, 2)):
        with pytest.raises(ValueError, match=shape):
            metric(bad, factor)
    with pytest.raises(ValueError, match=r"^'code' holds values that are not finite$"):
        metric(code / 0, factor)
    with pytest.raises(ValueError, match=r"^'factor' must name at least one factor \(got none\)$"):
        metric(code, {})
    with pytest.raises(ValueError, match=r"^'factor.one' must be int64 of shape \[20\] \(got torch.float32, \[20\]\)$"):
        metric(code, {"one": torch.rand(20)})
    with pytest.raises(ValueError, match=r"^'factor.one' must be int64 of shape \[20\] \(got torch.int64, \[19\]\)$"):
        metric(code, {"one": torch.arange(19)})
    with pytest.raises(ValueError, match=r"^'factor.one' must have two known classes or more \(got 1\)$"):
        metric(code, {"other": factor["other"], "one": torch.arange(20).clamp(max=1) - 1})


def test_bad_arguments() -> None:
    code, factor = torch.rand(20, 3), {"one": torch.arange(20) % 2}
    for value in (1, 0, 2.5, True):
        with pytest.raises(ValueError, match="'num_bins' must"):
            mutual_information_gap(code, factor, value)
    with pytest.raises(ValueError, match=r"^'factor' must name two factors or more \(got one\)$"):
        dci(code, factor)
    with pytest.raises(ValueError, match="'seed' must"):
        dci(code, factor, seed=-1)
    rare = torch.full((20,), -1)
    rare[:2] = torch.tensor([0, 1])  # one row in each half
    with pytest.raises(
        ValueError, match=r"^'factor.rare' has one class only in the half that trees are fitted on: label more rows$"
    ):
        dci(code, {"rare": rare, **factor})
