from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from pyg_mmrec.diagnostics import cosine_alignment, information_bounds, linear_probe
from pyg_mmrec.diagnostics.probes import _info_nce, _log_likelihoods
from pyg_mmrec.nn.loss import CLUB


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classes(num_rows: int, num_classes: int, seed: int = 0) -> Tensor:
    return torch.randint(num_classes, (num_rows,), generator=torch.Generator().manual_seed(seed))


def correlated(num_rows: int, channels: int, rho: float) -> tuple[Tensor, Tensor]:
    x = normal(num_rows, channels)
    return x, rho * x + math.sqrt(1 - rho**2) * normal(num_rows, channels, seed=1)


class TestLinearProbe:
    def test_equals_the_folds_by_hand(self) -> None:
        y = classes(300, 4)
        x = (torch.eye(4)[y] + normal(300, 4)).double()
        hits = []
        for train, test in StratifiedKFold(4, shuffle=True, random_state=3).split(x, y):
            mean, std = x[train].numpy().mean(0), x[train].numpy().std(0)
            model = LogisticRegression(max_iter=1000).fit((x[train].numpy() - mean) / std, y[train].numpy())
            hits.append((model.predict((x[test].numpy() - mean) / std) == y[test].numpy()).mean())
        accuracy, chance = linear_probe(x, y, num_folds=4, seed=3)
        assert accuracy == pytest.approx(np.mean(hits), abs=1e-12)
        assert chance == y.bincount().max().item() / 300

    def test_what_is_there_and_what_is_not(self) -> None:
        y = classes(1000, 8)
        x = torch.eye(8)[y] @ normal(8, 32, seed=1) + 0.1 * normal(1000, 32, seed=2)
        assert linear_probe(x, y)[0] > 0.99
        accuracy, chance = linear_probe(x, classes(1000, 8, seed=5))
        assert abs(accuracy - 1 / 8) < 4 * math.sqrt(1 / 8 * 7 / 8 / 1000)
        assert 1 / 8 <= chance < 1 / 6

    def test_a_linear_classifier_cannot_tell_exclusive_or(self) -> None:
        bits = torch.stack([classes(800, 2), classes(800, 2, seed=1)], 1)
        x = bits + 0.05 * normal(800, 2, seed=2)
        assert linear_probe(x, bits[:, 0])[0] == 1.0
        assert linear_probe(x, bits[:, 0] ^ bits[:, 1])[0] < 0.6

    def test_unlabelled_rows_and_rare_classes_are_left_out(self) -> None:
        y = classes(200, 3)
        x = torch.eye(3)[y] + normal(200, 3)
        expected = linear_probe(x, 10 * y)  # labels need not be consecutive
        more = torch.cat([x, 100 * normal(9, 3, seed=4)])
        assert linear_probe(more, torch.cat([10 * y, torch.tensor([-1] * 5 + [99] * 4)])) == expected

    def test_columns_may_have_any_scale(self) -> None:
        y = classes(200, 3)
        x = (torch.eye(3)[y] + normal(200, 3)).double()
        assert linear_probe(1e4 * x + 5, y) == linear_probe(x, y)

    @pytest.mark.parametrize(
        ("x", "y", "num_folds", "message"),
        [
            (
                torch.zeros(9),
                torch.zeros(9),
                5,
                r"^'x' must be \[N, channels\] and 'y' \[N\] \(got \(9,\) and \(9,\)\)",
            ),
            (torch.zeros(9, 2), torch.zeros(8), 5, r"^'x' must be .* \(got \(9, 2\) and \(8,\)\)$"),
            (torch.zeros(9, 2), torch.zeros(9), 1, r"^'num_folds' must be at least 2 \(got 1\)$"),
            (torch.zeros(9, 2), torch.arange(9) // 8, 5, r"^'y' needs two classes of 5 rows or more \(got 1\)$"),
            (torch.zeros(9, 2), -torch.ones(9), 5, r"^'y' needs two classes of 5 rows or more \(got 0\)$"),
        ],
    )
    def test_bad_input(self, x: Tensor, y: Tensor, num_folds: int, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            linear_probe(x, y.long(), num_folds=num_folds)


class TestInformationBounds:
    @pytest.mark.parametrize("rho", [0.3, 0.5, 0.7])
    def test_correlated_gaussians(self, rho: float) -> None:
        """CLUB tends to rho^2 / (1 - rho^2) a channel, InfoNCE to the information from below."""
        information, club = -2 * math.log(1 - rho**2), 4 * rho**2 / (1 - rho**2)
        lower, upper = information_bounds(*correlated(8000, 4, rho))
        assert upper == pytest.approx(club, rel=0.12)
        assert 0.75 * information < lower < information + 0.05

    def test_independent_gaussians(self) -> None:
        lower, upper = information_bounds(normal(2000, 8), normal(2000, 8, seed=1))
        assert 0 <= lower <= upper < 0.1

    def test_the_lower_bound_ends_at_the_logarithm_of_the_rows(self) -> None:
        x = normal(400, 16)
        lower, upper = information_bounds(x, x)
        assert 0.9 * math.log(100) < lower <= math.log(100) + 1e-12  # up to rounding
        assert upper > 2 * math.log(100)

    def test_location_and_scale_of_columns_tell_nothing(self) -> None:
        x, y = (z.double() for z in correlated(2000, 3, 0.6))
        assert information_bounds(50 * x, y - 3) == pytest.approx(information_bounds(x, y), rel=1e-4)

    def test_constant_columns_tell_nothing(self) -> None:
        constant = torch.full((2000, 4), 0.1)
        assert information_bounds(normal(2000, 4), constant) == pytest.approx((0, 0), abs=1e-3)
        assert information_bounds(constant, normal(2000, 4)) == pytest.approx((0, 0), abs=1e-3)

    def test_the_seed_decides(self) -> None:
        x, y = correlated(200, 3, 0.6)
        torch.manual_seed(4)
        first, state = information_bounds(x, y, seed=1), torch.get_rng_state()
        torch.manual_seed(4)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(5)
        assert information_bounds(x, y, seed=1) == first
        assert information_bounds(x, y, seed=2) != first

    def test_log_likelihoods_of_all_pairs(self) -> None:
        """Row i and column j hold ln q(y_i | x_j): the means of its diagonals are those of shifted pairs."""
        club, x, y = CLUB(1, 4, 3, lr=1e-2).double(), normal(9, 4).double(), normal(9, 3, seed=1).double()
        club.fit(x.unsqueeze(0), y.unsqueeze(0), num_steps=50)
        log_q = _log_likelihoods(club, x, y)
        for shift in range(9):
            expected = club.log_likelihood(x.roll(shift, 0).unsqueeze(0), y.unsqueeze(0)).item()
            i = torch.arange(9)
            assert log_q[i, (i - shift) % 9].mean().item() == pytest.approx(expected, rel=1e-10)

    def test_info_nce_equals_its_equation(self) -> None:
        scores = normal(6, 6).double()
        s = scores.numpy()
        terms = [s[i, i] - np.log(np.mean([np.exp(s[i, j]) for j in range(6)])) for i in range(6)]
        assert _info_nce(scores) == pytest.approx(np.mean(terms), rel=1e-12)


class TestCosineAlignment:
    def test_equals_its_loops(self) -> None:
        one, other = normal(12, 5), normal(12, 5, seed=1) + 0.5
        cosine = [[np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for b in other.numpy()] for a in one.numpy()]
        same = np.mean([cosine[i][i] for i in range(12)])
        different = np.mean([cosine[i][j] for i in range(12) for j in range(12) if i != j])
        assert cosine_alignment(one, other) == pytest.approx((same, different), rel=1e-5)

    def test_aligned_rows(self) -> None:
        x = normal(1000, 16)
        same, different = cosine_alignment(x, 3 * x)
        assert same == pytest.approx(1)
        assert abs(different) < 0.01
        assert abs(cosine_alignment(x, normal(1000, 16, seed=1))[0]) < 0.04

    def test_widths_must_be_equal(self) -> None:
        with pytest.raises(ValueError, match=r"^'other' must have as many columns as 'one', 3 \(got 4\)$"):
            cosine_alignment(normal(5, 3), normal(5, 4))


@pytest.mark.parametrize("measure", [information_bounds, cosine_alignment])
def test_pairs_must_match(measure: Callable[[Tensor, Tensor], tuple[float, float]]) -> None:
    with pytest.raises(
        ValueError, match=r"^two matrices of as many rows are needed \(got shapes \(9, 2\) and \(8, 2\)\)"
    ):
        measure(normal(9, 2), normal(8, 2))
    with pytest.raises(ValueError, match=r"^at least \d rows are needed \(got 1\)$"):
        measure(normal(1, 2), normal(1, 2))
    with pytest.raises(ValueError, match="not finite"):
        measure(normal(9, 2), normal(9, 2) / 0)
