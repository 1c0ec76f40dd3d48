from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_mmrec.nn.loss import CLUB


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def build(num_pairs: int = 2, **kwargs: float) -> CLUB:
    torch.manual_seed(0)
    return CLUB(num_pairs, 4, 3, hidden_channels=5, **kwargs).double()


def q_in_numpy(club: CLUB, pair: int, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log-variance: two perceptrons with one hidden layer of five."""
    w1, b1, w2, b2 = np.split(club.weight[pair].numpy(), np.cumsum([40, 10, 30]))
    hidden = np.maximum(x @ w1.reshape(4, 10) + b1, 0)
    w2, b2 = w2.reshape(10, 3), b2.reshape(2, 3)
    return hidden[:, :5] @ w2[:5] + b2[0], np.tanh(hidden[:, 5:] @ w2[5:] + b2[1])


def log_q_in_numpy(club: CLUB, pair: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    mean, log_variance = q_in_numpy(club, pair, x)
    return (-0.5 * (np.log(2 * np.pi) + log_variance + (y - mean) ** 2 / np.exp(log_variance))).sum(1)


def test_log_likelihood_equals_its_equation() -> None:
    club, x, y = build(), normal(2, 9, 4), normal(2, 9, 3, seed=1)
    expected = [log_q_in_numpy(club, pair, x[pair].numpy(), y[pair].numpy()).mean() for pair in range(2)]
    np.testing.assert_allclose(club.log_likelihood(x, y).numpy(), expected, rtol=1e-12)


def test_bound_equals_its_equation() -> None:
    club, x = build(lr=1e-2), normal(2, 9, 4)
    y = x[..., :3] + 0.1 * normal(2, 9, 3, seed=1)
    club.fit(x, y, num_steps=100)
    torch.manual_seed(5)
    bound = club(x, y)
    torch.manual_seed(5)
    perm = torch.randperm(9).numpy()
    for pair in range(2):
        log_ratio = log_q_in_numpy(club, pair, x[pair].numpy(), y[pair].numpy())
        log_ratio = log_ratio - log_q_in_numpy(club, pair, x[pair].numpy(), y[pair].numpy()[perm])
        assert log_ratio.mean() > 0
        assert bound[pair].item() == pytest.approx(log_ratio.mean(), rel=1e-10)


@pytest.mark.parametrize("masked", [False, True])
def test_fit_equals_autograd_and_adam(masked: bool) -> None:
    club, x, y = build(lr=1e-2), normal(2, 30, 4), normal(2, 30, 3, seed=1)
    mask = normal(2, 30, seed=2) > 0 if masked else None
    slow = copy.deepcopy(club)
    weight = slow.weight.clone().requires_grad_()
    del slow.weight
    slow.weight = weight
    optimizer = torch.optim.Adam([weight], lr=1e-2)
    for _ in range(2):
        for _ in range(7):
            optimizer.zero_grad()
            (-slow.log_likelihood(x, y, mask)).sum().backward()
            optimizer.step()
        club.fit(x, y, mask, num_steps=7)
        torch.testing.assert_close(club.weight, weight.detach(), rtol=1e-9, atol=1e-12)
    assert club.step == 14


def test_fit_raises_the_likelihood_and_the_bound() -> None:
    club, x = build(1, lr=1e-2), normal(1, 200, 4)
    y = x[..., :3] + 0.5 * normal(1, 200, 3, seed=1)
    before = club.log_likelihood(x, y)
    assert club(x, y) < 0.5
    club.fit(x, y, num_steps=300)
    assert club.log_likelihood(x, y) > before + 0.5
    assert club(x, y) > 1


def test_pairs_do_not_touch_each_other() -> None:
    x, y = normal(2, 30, 4), normal(2, 30, 3, seed=1)
    both, first = build(), build(1)
    first.weight = both.weight[:1].clone()
    first.moments = both.moments[:, :1].clone()
    both.fit(x, y, num_steps=5)
    first.fit(x[:1], y[:1], num_steps=5)
    torch.testing.assert_close(both.weight[:1], first.weight)


def test_masked_samples_do_not_count() -> None:
    club, x, y = build(lr=1e-2), normal(2, 40, 4), normal(2, 40, 3, seed=1)
    mask = normal(2, 40, seed=2) > 0
    club.fit(x, y, mask, num_steps=20)
    other = build(lr=1e-2)
    junk = torch.where(mask.unsqueeze(-1), 0.0, 1e3)
    other.fit(x + junk, y + junk, mask, num_steps=20)
    torch.testing.assert_close(other.weight, club.weight)
    torch.manual_seed(1)
    bound = club(x, y, mask)
    torch.manual_seed(1)
    torch.testing.assert_close(club(x + junk, y + junk, mask), bound)
    torch.testing.assert_close(club.log_likelihood(x + junk, y + junk, mask), club.log_likelihood(x, y, mask))


def test_bound_is_never_negative_and_its_gradient_reaches_both_samples() -> None:
    club, x, y = build(1, lr=1e-2), normal(1, 30, 4), normal(1, 30, 3, seed=1)
    assert all(club(x, y) >= 0 for _ in range(20))
    y = x[..., :3].clone().requires_grad_()
    x = x.requires_grad_()
    club.fit(x, y, num_steps=100)
    club(x, y).sum().backward()
    assert x.grad.abs().sum() > 0
    assert y.grad.abs().sum() > 0
    assert not club.weight.requires_grad


def test_state_holds_the_estimator_and_its_optimizer() -> None:
    club, x, y = build(), normal(2, 30, 4), normal(2, 30, 3, seed=1)
    club.fit(x, y, num_steps=3)
    twin = CLUB(2, 4, 3, hidden_channels=5).double()
    twin.load_state_dict(club.state_dict())
    for part in (club, twin):
        part.fit(x, y, num_steps=4)
    assert torch.equal(club.weight, twin.weight)
    assert list(club.parameters()) == []
    twin.reset_parameters()
    assert twin.step == 0
    assert not twin.moments.any()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_pairs": 0}, r"^'num_pairs' must be positive \(got 0\)$"),
        ({"in_channels": 0}, r"^'in_channels' must be positive \(got 0\)$"),
        ({"hidden_channels": 0}, r"^'hidden_channels' must be positive \(got 0\)$"),
        ({"lr": 0.0}, r"^'lr' must be positive \(got 0.0\)$"),
        ({"lr": float("nan")}, r"^'lr' must be positive \(got nan\)$"),
    ],
)
def test_bad_arguments(kwargs: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CLUB(**kwargs)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((9, 4), (9, 3), r"^'x' must have shape \[1, num_samples, 4\] \(got \[9, 4\]\)$"),
        ((2, 9, 4), (2, 9, 3), r"^'x' must have shape \[1, num_samples, 4\] \(got \[2, 9, 4\]\)$"),
        ((1, 9, 4), (1, 9, 4), r"^'y' must have shape \[1, num_samples, 3\] \(got \[1, 9, 4\]\)$"),
        ((1, 0, 4), (1, 0, 3), r"^'x' must have shape \[1, num_samples, 4\] \(got \[1, 0, 4\]\)$"),
    ],
)
def test_bad_shapes(x: tuple[int, ...], y: tuple[int, ...], message: str) -> None:
    club = build(1)
    for call in (club, club.fit, club.log_likelihood):
        with pytest.raises(ValueError, match=message):
            call(normal(*x), normal(*y))


def test_negative_steps() -> None:
    with pytest.raises(ValueError, match=r"^'num_steps' must not be negative \(got -1\)$"):
        build(1).fit(normal(1, 9, 4), normal(1, 9, 3), num_steps=-1)


def test_masked_samples_may_be_nan() -> None:
    club, x, y = build(1), normal(1, 9, 4), normal(1, 9, 3)
    mask = torch.arange(9).unsqueeze(0) > 2
    x[~mask], y[~mask] = torch.nan, torch.nan
    club.fit(x, y, mask, num_steps=3)
    assert club.weight.isfinite().all()
    assert club(x, y, mask).isfinite().all()
