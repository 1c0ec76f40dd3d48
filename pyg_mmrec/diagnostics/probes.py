"""What can be read off representations: attributes, mutual information, alignment."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pyg_mmrec.nn.loss import CLUB

#: Items on which the bounds of mutual information are measured, at most, and as many for the choices before that.
MEASURED = 2048

#: The estimator of mutual information: width, learning rate, and how long it is fitted.
HIDDEN, LEARNING_RATE, STEPS_A_ROUND, MAX_ROUNDS, PATIENCE = 64, 3e-3, 10, 50, 2

#: Factors of the critic that the lower bound chooses from.
SCALES = tuple(2.0**k for k in range(-7, 4))


def linear_probe(x: Tensor, y: Tensor, *, num_folds: int = 5, seed: int = 0) -> tuple[float, float]:
    """Cross-validated accuracy of a linear classifier, and what the most frequent class alone would score.

    Columns are standardised on the train folds, the classifier is a logistic regression with an L2 penalty of weight
    one, and the folds hold the classes in equal shares.

    Args:
        x: ``[N, channels]`` representations.
        y: ``[N]`` int64 labels; -1 is unlabelled and left out, as are classes of fewer than ``num_folds`` rows.
        num_folds: Number of folds (default: 5).
        seed: Seed of the folds.

    Returns:
        Accuracy, the mean over the folds, and chance, both over the rows that count.

    Raises:
        ValueError: If the shapes do not fit, there are fewer than two folds, or fewer than two classes are left.

    Example:
        >>> y = torch.arange(60) % 3
        >>> linear_probe(torch.eye(3)[y], y)[0]
        1.0
        >>> round(linear_probe(torch.eye(3)[y], y)[1], 4)
        0.3333
    """
    if x.dim() != 2 or y.shape != x.shape[:1]:
        raise ValueError(f"'x' must be [N, channels] and 'y' [N] (got {tuple(x.shape)} and {tuple(y.shape)})")
    if num_folds < 2:
        raise ValueError(f"'num_folds' must be at least 2 (got {num_folds})")
    labelled = y >= 0
    _, place, count = y[labelled].unique(return_inverse=True, return_counts=True)
    frequent = count >= num_folds
    if int(frequent.sum()) < 2:
        raise ValueError(f"'y' needs two classes of {num_folds} rows or more (got {int(frequent.sum())})")
    rows = frequent[place]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    inputs, labels = x[labelled][rows].detach().cpu().numpy(), place[rows].cpu().numpy()
    accuracy = cross_val_score(classifier, inputs, labels, scoring="accuracy", cv=folds)
    return float(accuracy.mean()), int(count.max()) / len(labels)


def information_bounds(x: Tensor, y: Tensor, *, seed: int = 0) -> tuple[float, float]:
    r"""Estimated lower and upper bound of the mutual information of paired rows, in nats.

    A fresh :class:`~pyg_mmrec.nn.loss.CLUB` :math:`q(\mathbf{y} | \mathbf{x})` is fitted on half of the rows or more,
    until its likelihood on a quarter falls. On N other rows, a quarter as well,

    .. math::
        \frac{1}{N} \sum_i \ln \frac{q(\mathbf{y}_i | \mathbf{x}_i)^s}
        {\frac{1}{N} \sum_j q(\mathbf{y}_i | \mathbf{x}_j)^s} \lesssim \mathrm{I}(\mathbf{x}; \mathbf{y}) \lesssim
        \frac{1}{N} \sum_i \Big( \ln q(\mathbf{y}_i | \mathbf{x}_i) -
        \frac{1}{N} \sum_j \ln q(\mathbf{y}_i | \mathbf{x}_j) \Big)

    On the left is InfoNCE (`van den Oord et al. <https://arxiv.org/abs/1807.03748>`_; `Poole et al.
    <https://arxiv.org/abs/1905.06922>`_) with q as its critic, at most :math:`\ln N`; s is chosen on the second
    quarter. On the right is CLUB (`Cheng et al. <https://arxiv.org/abs/2006.12013>`_) over all pairs of rows. The left
    side is a lower bound for every q, up to sampling error; the right side is an upper bound only as far as q fits,
    and loose: for Gaussians of correlation :math:`\rho` and the best q it is :math:`\rho^2 / (1 - \rho^2)` a channel,
    where the information is :math:`-\ln(1 - \rho^2) / 2`. Read both beside those of an untrained model.

    Args:
        x: ``[N, channels]``; columns are standardised, as are those of y.
        y: ``[N, other_channels]``, row i belongs to row i of x.
        seed: Seed of the parts and of q; torch's global generator is left as it is.

    Returns:
        Lower and upper bound, neither below 0. Where q fits badly, the estimates may come in the wrong order.

    Raises:
        ValueError: If the rows do not match, are fewer than 8, or hold values that are not finite.

    Example:
        >>> x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
        >>> lower, upper = information_bounds(x, x + 1)
        >>> 1 < lower < upper
        True
        >>> max(information_bounds(x, x.roll(1, 0))) < 0.2
        True
    """
    _check_pairs(x, y, minimum=8)
    quarter = min(x.size(0) // 4, MEASURED)
    perm = torch.randperm(x.size(0), generator=torch.Generator().manual_seed(seed))
    fit, choose, measure = perm.split([x.size(0) - 2 * quarter, quarter, quarter])
    x, y = _standardized(x, fit), _standardized(y, fit)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        club = CLUB(1, x.size(1), y.size(1), hidden_channels=HIDDEN, lr=LEARNING_RATE)
    _fit(club, (x[fit], y[fit]), (x[choose], y[choose]))
    chosen = _log_likelihoods(club, x[choose], y[choose])
    scale = max(SCALES, key=lambda s: _info_nce(s * chosen))
    log_q = _log_likelihoods(club, x[measure], y[measure])
    upper = (log_q.diagonal().mean() - log_q.mean()).item()
    return max(0.0, _info_nce(scale * log_q)), max(0.0, upper)


def cosine_alignment(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Mean cosine of matching rows, and of all other pairs of rows.

    Args:
        one: ``[N, channels]``.
        other: ``[N, channels]``, row i belongs to row i of ``one``.

    Raises:
        ValueError: If the shapes differ, there are fewer than 2 rows, or values are not finite.

    Example:
        >>> cosine_alignment(torch.eye(4), torch.eye(4))
        (1.0, 0.0)
    """
    _check_pairs(one, other, minimum=2)
    if one.size(1) != other.size(1):
        raise ValueError(f"'other' must have as many columns as 'one', {one.size(1)} (got {other.size(1)})")
    one, other = (F.normalize(x.detach().cpu().double(), dim=1) for x in (one, other))
    same, n = (one * other).sum().item(), one.size(0)
    every = (one.sum(0) @ other.sum(0)).item()
    return same / n, (every - same) / (n * (n - 1))


def _check_pairs(x: Tensor, y: Tensor, minimum: int) -> None:
    if x.dim() != 2 or y.dim() != 2 or x.size(0) != y.size(0):
        raise ValueError(f"two matrices of as many rows are needed (got shapes {tuple(x.shape)} and {tuple(y.shape)})")
    if x.size(0) < minimum:
        raise ValueError(f"at least {minimum} rows are needed (got {x.size(0)})")
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("the rows hold values that are not finite")


def _standardized(x: Tensor, rows: Tensor) -> Tensor:
    """Zero mean and unit variance of each column over the given rows."""
    x = x.detach().cpu().double()
    std, mean = torch.std_mean(x[rows], dim=0)
    return ((x - mean) / std.clamp_min(1e-12)).float()


def _fit(club: CLUB, train: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor]) -> None:
    """Fits q until the likelihood of held-out rows has not risen for some rounds; keeps the weights of its best."""
    best, weight, since = -math.inf, club.weight, 0
    for _ in range(MAX_ROUNDS):
        club.fit(train[0].unsqueeze(0), train[1].unsqueeze(0), num_steps=STEPS_A_ROUND)
        likelihood = club.log_likelihood(held_out[0].unsqueeze(0), held_out[1].unsqueeze(0)).item()
        since += 1
        if likelihood > best:
            best, weight, since = likelihood, club.weight.clone(), 0
        if since == PATIENCE:
            break
    club.weight = weight


def _log_likelihoods(club: CLUB, x: Tensor, y: Tensor) -> Tensor:
    """``[N, N]`` ln q(y_i | x_j), rows i."""
    mean, log_variance = (z.squeeze(0).double() for z in club.conditional(x.unsqueeze(0)))
    y, precision = y.double(), (-log_variance).exp()
    error = y.square() @ precision.t() - 2 * y @ (mean * precision).t() + (mean.square() * precision).sum(1)
    return -(error + log_variance.sum(1) + y.size(1) * math.log(2 * math.pi)) / 2


def _info_nce(scores: Tensor) -> float:
    """Mean over i of score i, i less the logarithm of the mean exponential of row i."""
    return (scores.diagonal().mean() - scores.logsumexp(1).mean()).item() + math.log(scores.size(0))
