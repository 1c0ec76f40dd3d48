"""The two theorems of SEA that docs/models/sea_theory.md states, against sampling and against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.linalg import hadamard
from scipy.optimize import brentq
from scipy.special import betainc, gammaln, polygamma
from scipy.stats import kstest
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from pyg_mmrec.nn.loss import CLUB

Array = NDArray[np.float64]

P_VALUE = 1e-3
SIGMAS = 4  # a two-sided p-value of 6e-5

# Theorem 1


def angles(n: int, num_pairs: int, rectified: bool = False) -> Array:
    x, y = np.random.default_rng(n).standard_normal((2, num_pairs, n))
    if rectified:
        x, y = np.maximum(x, 0), np.maximum(y, 0)
    cosine = (x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1))
    return np.asarray(np.arccos(cosine), dtype=np.float64)


def density(theta: float, n: int) -> float:
    return math.exp(gammaln(n / 2) - gammaln((n - 1) / 2)) / math.sqrt(math.pi) * math.sin(theta) ** (n - 2)


def cdf(theta: Array, n: int) -> Array:
    """The squared cosine has a Beta(1/2, (n - 1)/2) distribution, and the two sides of the right angle are alike."""
    return np.asarray(0.5 + 0.5 * np.sign(theta - np.pi / 2) * betainc(0.5, (n - 1) / 2, np.cos(theta) ** 2))


def moment(n: int, order: int) -> float:
    return float(quad(lambda t: (t - math.pi / 2) ** order * density(t, n), 0, math.pi)[0])


def share_near_right_angle(n: int, degrees: float = 5) -> float:
    return float(betainc(0.5, (n - 1) / 2, math.sin(math.radians(degrees)) ** 2))


@pytest.mark.parametrize("n", [2, 3, 8, 32, 64, 512])
def test_density_has_mass_one_and_its_mean_at_the_right_angle(n: int) -> None:
    assert moment(n, 0) == pytest.approx(1, rel=1e-9)
    assert moment(n, 1) == pytest.approx(0, abs=1e-12)
    for theta in (0.5, 1.5, 2.0):
        assert cdf(np.array(theta), n) == pytest.approx(quad(density, 0, theta, args=(n,))[0], abs=1e-9)


@pytest.mark.parametrize("n", [2, 3, 8, 32, 64, 512])
def test_sampled_angles_have_the_density(n: int) -> None:
    assert kstest(cdf(angles(n, 5000), n), "uniform").pvalue > P_VALUE


def test_sampled_angles_tell_neighbouring_dimensions_apart() -> None:
    theta = angles(8, 20000)  # 5000 are too few: the two distribution functions are at most 0.02 apart
    assert kstest(cdf(theta, 8), "uniform").pvalue > P_VALUE
    for n in (7, 9):
        assert kstest(cdf(theta, n), "uniform").pvalue < P_VALUE


@pytest.mark.parametrize("n", [2, 3, 8, 32, 64, 512, 4096])
def test_variance_is_half_a_trigamma(n: int) -> None:
    assert moment(n, 2) == pytest.approx(polygamma(1, n / 2) / 2, rel=1e-9)


@pytest.mark.parametrize("n", [2, 3, 8, 32, 64, 512])
def test_sampled_variance_is_the_integral(n: int) -> None:
    variance = moment(n, 2)
    error = math.sqrt((moment(n, 4) - variance**2) / 5000)
    assert abs(((angles(n, 5000) - np.pi / 2) ** 2).mean() - variance) < SIGMAS * error
    if n == 8:  # where the approximation is 17% off, sampling tells
        assert abs(((angles(n, 5000) - np.pi / 2) ** 2).mean() - 1 / (n - 2)) > 2 * SIGMAS * error


def test_from_which_dimension_the_approximate_variance_is_how_close() -> None:
    sizes = np.arange(3, 1000)
    excess = 1 / (sizes - 2) / (polygamma(1, sizes / 2) / 2) - 1
    assert (np.diff(excess) < 0).all()
    assert (np.abs(excess[sizes >= 8] * sizes[sizes >= 8] - 1) < 0.4).all()  # about 1 / n
    first = {share: int(sizes[excess <= share][0]) for share in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)}
    assert first == {0.5: 5, 0.2: 8, 0.1: 13, 0.05: 23, 0.02: 53, 0.01: 103}
    closer = 1 / (sizes - 1) / (polygamma(1, sizes / 2) / 2) - 1
    assert (closer > 0).all()
    assert (closer * 3 * sizes**2 < 2).all()
    assert closer[sizes >= 8].max() < 0.01


@pytest.mark.parametrize(("n", "share"), [(2, 0.056), (8, 0.176), (32, 0.370), (64, 0.510), (512, 0.952)])
def test_share_of_almost_orthogonal_pairs(n: int, share: float) -> None:
    exact = share_near_right_angle(n)
    assert exact == pytest.approx(share, abs=5e-4)
    sampled = (np.abs(angles(n, 5000) - np.pi / 2) <= math.radians(5)).mean()
    assert abs(sampled - exact) < SIGMAS * math.sqrt(exact * (1 - exact) / 5000)


def test_a_common_mean_ends_orthogonality() -> None:
    theta = angles(512, 5000, rectified=True)
    assert np.cos(theta).mean() == pytest.approx(1 / np.pi, rel=0.01)
    assert (np.degrees(theta) < 85).all()


# Theorem 2: unit-variance Gaussians, correlation rho in each of d channels, q(u | g) = N(slope g, variance).


def information(rho: float, d: int = 1) -> float:
    return -d / 2 * math.log(1 - rho**2)


def club_value(rho: float, slope: float, variance: float, d: int = 1) -> float:
    """The variational form: E(u - slope g)^2 is 1 + slope^2 for independent g and u, less 2 slope rho for pairs."""
    return d * slope * rho / variance


def wrong(rho: float, r: float, d: int = 1) -> float:
    """The variational form under q of correlation r; r = rho is the true conditional."""
    return club_value(rho, r, 1 - r**2, d)


def standard_error(rho: float, r: float, size: int, d: int = 1) -> float:
    """Of an estimate under one permutation: mean(g u) has variance (1 + rho^2) / size, mean(g u') has 1 / size."""
    return abs(r) / (1 - r**2) * math.sqrt(d * (2 + rho**2) / size)


def divergences(rho: float, slope: float, variance: float) -> tuple[float, float]:
    """KL(p(g, u) || q(g, u)) and KL(p(g) p(u) || q(g, u)) by the general formula for Gaussians."""

    def normal(off_diagonal: float, last: float) -> MultivariateNormal:
        covariance = torch.tensor([[1.0, off_diagonal], [off_diagonal, last]], dtype=torch.float64)
        return MultivariateNormal(torch.zeros(2, dtype=torch.float64), covariance)

    q = normal(slope, slope**2 + variance)
    return float(kl_divergence(normal(rho, 1), q)), float(kl_divergence(normal(0, 1), q))


def pairs(rho: float | list[float], size: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """``[num_pairs, size, d]`` g and u, one pair of variables for each correlation."""
    generator = torch.Generator().manual_seed(seed)
    correlation = torch.tensor(rho).view(-1, 1, 1)
    x, noise = torch.randn(2, correlation.numel(), size, d, generator=generator)
    return x, correlation * x + (1 - correlation**2).sqrt() * noise


def linear_club(r: float, d: int) -> CLUB:
    """An estimator whose q is N(r g, 1 - r^2): each channel needs two ReLU units."""
    club = CLUB(1, d, d, hidden_channels=2 * d)
    club.weight.zero_()
    weight1, weight2, bias2 = club._split(club.weight)
    eye = torch.eye(d)
    weight1[0, :d, : 2 * d] = torch.cat([eye, -eye], dim=1)
    weight2[0, : 2 * d] = torch.cat([r * eye, -r * eye])
    bias2[0, 1] = math.atanh(math.log(1 - r**2))
    return club


def fitted(x: Tensor, y: Tensor, num_steps: int = 400) -> CLUB:
    torch.manual_seed(0)
    club = CLUB(x.size(0), x.size(2), y.size(2), lr=1e-2)
    club.fit(x, y, num_steps=num_steps)
    return club


RHO = [-0.99, -0.7, -0.2, 0.0, 0.1, 0.5, 0.9, 0.999]


@pytest.mark.parametrize("rho", RHO)
@pytest.mark.parametrize("r", [-0.6, 0.0, 0.3, 0.7])
def test_closed_form_is_the_definition(rho: float, r: float) -> None:
    node, weight = np.polynomial.hermite_e.hermegauss(8)  # exact: ln q is a quadratic form
    g, e = np.meshgrid(node, node)
    weights = np.outer(weight, weight) / weight.sum() ** 2
    joint = (rho * g + math.sqrt(1 - rho**2) * e - r * g) ** 2
    expected = (weights * ((e - r * g) ** 2 - joint)).sum() / (2 * (1 - r**2))
    assert wrong(rho, r) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("rho", RHO)
@pytest.mark.parametrize("r", [-0.6, 0.0, 0.3, 0.7])
def test_gap_is_the_difference_of_the_divergences(rho: float, r: float) -> None:
    joint, product = divergences(rho, r, 1 - r**2)
    gap = wrong(rho, r) - information(rho)
    assert gap == pytest.approx(product - joint, abs=1e-9)
    if rho != 0:
        assert (gap >= 0) == (joint <= product)  # Theorem 2
    written = 0.5 * ((1 - 2 * rho * r + r**2) / (1 - r**2) - 1 - math.log((1 - rho**2) / (1 - r**2)))
    assert joint == pytest.approx(written, abs=1e-9)
    assert product == pytest.approx(0.5 * ((1 + r**2) / (1 - r**2) - 1 + math.log(1 - r**2)), abs=1e-9)


def test_true_conditional_bounds_every_correlation_by_twice_the_information() -> None:
    for rho in np.linspace(-0.999, 0.999, 1999):
        assert wrong(rho, rho) >= 2 * information(rho)
    assert wrong(0.01, 0.01) / information(0.01) == pytest.approx(2, rel=1e-3)
    assert wrong(0.0, 0.0) == information(0.0) == 0


@pytest.mark.parametrize("d", [1, 4])
@pytest.mark.parametrize("rho", [0.3, 0.5, 0.7])
def test_estimate_is_the_closed_form(rho: float, d: int) -> None:
    x, y = pairs(rho, 20000, d)
    torch.manual_seed(0)
    bound = float(linear_club(rho, d)(x, y))
    assert abs(bound - wrong(rho, rho, d)) < SIGMAS * standard_error(rho, rho, 20000, d)
    assert bound > information(rho, d)


def test_standard_error_and_mean_of_repeated_estimates() -> None:
    rho, d, size, repeats = 0.6, 2, 400, 400
    club, estimates = linear_club(rho, d), []
    torch.manual_seed(0)
    for seed in range(repeats):
        estimates.append(float(club(*pairs(rho, size, d, seed))))
    error = standard_error(rho, rho, size, d)
    assert np.std(estimates) == pytest.approx(error, rel=SIGMAS / math.sqrt(2 * repeats))
    # A random permutation leaves one sample in place, on average.
    expected = wrong(rho, rho, d) * (1 - 1 / size)
    assert abs(np.mean(estimates) - expected) < SIGMAS * error / math.sqrt(repeats)


@pytest.mark.parametrize("d", [2, 4])
def test_fitted_q_comes_near_the_closed_form_and_bounds(d: int) -> None:
    rho, size, fresh = [0.3, 0.5, 0.7], 4000, 50000
    club = fitted(*pairs(rho, size, d))
    bounds = club(*pairs(rho, fresh, d, seed=1)).tolist()
    for r, bound in zip(rho, bounds, strict=True):
        # Sampling errors of the fitted slope and variance, and of the estimate.
        fit = wrong(r, r) * math.sqrt(d * ((1 - r**2) / r**2 + 2) / size)
        error = math.hypot(fit, standard_error(r, r, fresh, d))
        assert abs(bound - wrong(r, r, d)) < SIGMAS * error
        assert bound > information(r, d)


def test_unfitted_q_falls_below_the_information() -> None:
    x, y = pairs(0.7, 5000, 4)
    for seed in range(5):
        torch.manual_seed(seed)
        assert float(CLUB(1, 4, 4)(x, y)) < information(0.7, 4) / 2


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.8, 0.95])
def test_bound_fails_where_the_condition_fails(rho: float) -> None:
    info = information(rho)
    least = (math.sqrt(rho**2 + 4 * info**2) - rho) / (2 * info)
    assert 0 < least < rho
    assert wrong(rho, least) == pytest.approx(info, rel=1e-9)
    for r, holds in ((-rho, False), (0.0, False), (0.99 * least, False), (1.01 * least, True), (rho, True)):
        joint, product = divergences(rho, r, 1 - r**2)
        assert (joint <= product) == holds
        assert (wrong(rho, r) >= info) == holds


def test_estimate_under_too_weak_a_q_is_below_the_information() -> None:
    rho, r, d = 0.7, 0.25, 4
    torch.manual_seed(0)
    bound = float(linear_club(r, d)(*pairs(rho, 20000, d)))
    assert abs(bound - wrong(rho, r, d)) < SIGMAS * standard_error(rho, r, 20000, d)
    assert bound < information(rho, d)


@pytest.mark.parametrize("r", [-0.7, 0.4, 0.7])
def test_equality_for_independent_parts_whatever_q(r: float) -> None:
    joint, product = divergences(0.0, r, 1 - r**2)
    assert joint == pytest.approx(product)
    assert wrong(0.0, r) == information(0.0) == 0
    torch.manual_seed(0)
    assert float(linear_club(r, 2)(*pairs(0.0, 20000, 2))) < SIGMAS * standard_error(0.0, r, 20000, 2)


def test_fitted_q_finds_nothing_in_independent_parts() -> None:
    club = fitted(*pairs(0.0, 4000, 2))
    assert float(club(*pairs(0.0, 50000, 2, seed=1))) < 0.01


# What q of CLUB can reach: a diagonal log-variance in [-1, 1] and as many directions as hidden units


def in_reach(rho: float, d: int, scale: float = 1.0, units: int = 8) -> float:
    """The variational form under the likeliest q in reach, for g and u of standard deviation ``scale``."""
    variance = min(max(scale**2 * (1 - rho**2), math.exp(-1)), math.e)
    return min(d, units) * (scale * rho) ** 2 / variance


def test_bounded_variance_bounds_until_almost_full_correlation() -> None:
    last = brentq(lambda rho: in_reach(rho, 1) - information(rho), 0.9, 0.9999)
    assert last == pytest.approx(0.9978, abs=1e-4)
    for rho in np.linspace(0.001, last - 1e-4, 500):
        assert in_reach(rho, 1) > information(rho)
    assert in_reach(0.999, 1) < information(0.999)
    assert math.sqrt(1 - math.exp(-1)) == pytest.approx(0.795, abs=1e-3)
    assert in_reach(0.79, 1) == pytest.approx(wrong(0.79, 0.79))
    assert in_reach(0.8, 1) < wrong(0.8, 0.8)


@pytest.mark.parametrize(("rho", "scale"), [(0.95, 1.0), (0.7, 0.2), (0.7, 4.0)])
def test_fitted_q_comes_near_what_is_in_reach(rho: float, scale: float) -> None:
    x, y = pairs(rho, 4000, 2)
    club = fitted(scale * x, scale * y)
    x, y = pairs(rho, 50000, 2, seed=1)
    bound = float(club(scale * x, scale * y))
    assert bound == pytest.approx(in_reach(rho, 2, scale), rel=0.1)
    assert (bound > information(rho, 2)) == (scale >= 1)  # small raw heads hide their dependence


def test_eight_units_do_not_bound_thirty_two_channels() -> None:
    for rho in np.linspace(0.01, 0.99, 99):
        assert in_reach(rho, 32) < information(rho, 32)
        assert in_reach(rho, 8) > information(rho, 8)
    train, fresh = pairs(0.7, 2000, 32), pairs(0.7, 20000, 32, seed=1)
    bound = float(fitted(*train, num_steps=500)(*fresh))
    assert in_reach(0.7, 32) / 2 < bound < information(0.7, 32)
    torch.manual_seed(0)
    wide = CLUB(1, 32, 32, hidden_channels=64, lr=1e-2)
    wide.fit(*train, num_steps=200)
    assert float(wide(*fresh)) > information(0.7, 32)


def test_diagonal_covariance_misses_dependence_across_channels() -> None:
    d, k, rho = 32, 4, 0.95
    rotation = torch.tensor(hadamard(d) / math.sqrt(d), dtype=torch.float32)

    def spread(size: int, seed: int) -> tuple[Tensor, Tensor]:
        g, u = pairs(rho, size, k, seed)
        g_rest, u_rest = pairs(0.0, size, d - k, seed + 1)
        return torch.cat([g, g_rest], dim=-1) @ rotation, torch.cat([u, u_rest], dim=-1) @ rotation

    def value(rho: float) -> float:
        r = math.sqrt(k / d) * rho  # of each channel of u with its prediction
        return wrong(r, r, d)

    assert brentq(lambda rho: value(rho) - information(rho, k), 0.5, 0.99) == pytest.approx(0.92, abs=5e-3)
    bound = float(fitted(*spread(4000, 0))(*spread(20000, 2)))
    assert bound == pytest.approx(value(rho), rel=0.1)
    assert bound < information(rho, k)


def test_orthogonal_parts_may_determine_each_other() -> None:
    x, _ = pairs(0.0, 4000, 2)
    y = torch.stack([-x[..., 1], x[..., 0]], dim=-1)
    assert not (x * y).sum(-1).any()
    assert float(fitted(x, y)(x, y)) == pytest.approx(2 * math.e, rel=0.1)
