"""How far the dimensions of a code keep known factors apart."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import entropy
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import mutual_info_score
from sklearn.model_selection import train_test_split
from torch import Tensor

from pyg_mmrec.utils.checks import check_int

Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]

#: The forests of :func:`dci`: trees in each, and the depths to choose from.
NUM_TREES, DEPTHS = 100, (4, 8, None)


def mutual_information_gap(code: Tensor, factor: dict[str, Tensor], num_bins: int = 20) -> float:
    r"""Whether one dimension of a code alone tells of each factor: the mutual information gap (MIG).

    From `"Isolating Sources of Disentanglement in VAEs" <https://arxiv.org/abs/1802.04942>`_ (Eq. 6): with
    :math:`z_{(1)}` and :math:`z_{(2)}` the dimensions that hold the most and the second most about a factor v,

    .. math::
        \mathrm{MIG} = \frac{1}{K} \sum_{v} \frac{\mathrm{I}(z_{(1)}; v) - \mathrm{I}(z_{(2)}; v)}{\mathrm{H}(v)}

    Dimensions are cut into bins of equal width between their least and their largest value, as `Locatello et al.
    <https://arxiv.org/abs/1811.12359>`_ do. One is reached only where each factor is in a single dimension: two
    dimensions that hold the same factor equally well leave no gap.

    Args:
        code: ``[n, d]`` float, d at least 2.
        factor: By name ``[n]`` int64 classes; -1 is unknown and left out for that factor.
        num_bins: Bins of a dimension (default: 20, Locatello et al.).

    Raises:
        ValueError: If the shapes do not fit, the code is not finite, or a factor has fewer than two known classes.

    Example:
        >>> color, shape = torch.arange(60) % 3, torch.arange(60) // 30
        >>> factor = {'color': color, 'shape': shape}
        >>> round(mutual_information_gap(torch.stack([color, shape], dim=1).float(), factor), 6)
        1.0
        >>> mutual_information_gap(torch.stack([color, color, shape, shape], dim=1).float(), factor)
        0.0
    """
    check_int(2, num_bins=num_bins)
    x, known = _checked(code, factor)
    bins = np.stack([_binned(column, num_bins) for column in x.T])  # [d, n]
    gaps = []
    for rows, classes in known.values():
        information = np.sort([mutual_info_score(classes, column[rows]) for column in bins])
        gaps.append((information[-1] - information[-2]) / entropy(np.bincount(classes)))
    return float(np.mean(gaps))


def dci(code: Tensor, factor: dict[str, Tensor], seed: int = 0) -> dict[str, float]:
    r"""Disentanglement, completeness and informativeness of a code.

    From `"A Framework for the Quantitative Evaluation of Disentangled Representations"
    <https://openreview.net/forum?id=By-7dz-AZ>`_. For each factor, trees are fitted on one half of its known rows;
    :math:`R_{ij}` is the importance of dimension i for factor j, and H the entropy to the base of the number of
    entries:

    .. math::
        \mathrm{D} = \sum_i \frac{\sum_j R_{ij}}{\sum_{kj} R_{kj}} \Big(1 - \mathrm{H}\Big(\frac{R_{i \cdot}}
        {\sum_j R_{ij}}\Big)\Big), \qquad
        \mathrm{C} = \frac{1}{K} \sum_j \Big(1 - \mathrm{H}\Big(\frac{R_{\cdot j}}{\sum_i R_{ij}}\Big)\Big)

    D is high where a dimension serves one factor only, C where a factor is served by one dimension only. The
    informativeness is the accuracy on the other half, the mean over the factors; read it beside that of the most
    frequent class.

    The trees are extremely randomised ones that see all dimensions at each cut. Of three depths, the least counts
    whose accuracy out of bag is within one standard error of the best: trees of full depth fit noise in all dimensions,
    which looks like a lack of disentanglement.

    Args:
        code: ``[n, d]`` float, d at least 2.
        factor: By name ``[n]`` int64 classes, two factors or more; -1 is unknown and left out for that factor.
        seed: Seed of the halves and of the trees.

    Returns:
        ``disentanglement``, ``completeness`` and ``informativeness``, all between 0 and 1.

    Raises:
        ValueError: If the shapes do not fit, the code is not finite, there is one factor only, or a factor has fewer
            than two known classes in the half that trees are fitted on.

    Example:
        >>> color, shape = torch.arange(60) % 3, torch.arange(60) // 30
        >>> found = dci(torch.stack([color, shape], dim=1).float(), {'color': color, 'shape': shape})
        >>> {name: round(value, 6) for name, value in found.items()}
        {'disentanglement': 1.0, 'completeness': 1.0, 'informativeness': 1.0}
    """
    check_int(0, seed=seed)
    x, known = _checked(code, factor)
    if len(known) < 2:
        raise ValueError(f"'factor' must name two factors or more (got {', '.join(known)})")
    columns, accuracies = [], []
    for name, (rows, classes) in known.items():
        fit, rest, target, truth = train_test_split(x[rows], classes, test_size=0.5, random_state=seed)
        if np.unique(target).size < 2:
            raise ValueError(
                f"'factor.{name}' has one class only in the half that trees are fitted on: label more rows"
            )
        forest = _fitted(fit, target, seed)
        columns.append(forest.feature_importances_)
        accuracies.append(forest.score(rest, truth))
    importance = np.stack(columns, axis=1)  # [d, K]
    share = importance.sum(1) / max(importance.sum(), np.finfo(np.float64).tiny)
    return {
        "disentanglement": float(share @ _purity(importance)),
        "completeness": float(_purity(importance.T).mean()),
        "informativeness": float(np.mean(accuracies)),
    }


def _checked(code: Tensor, factor: dict[str, Tensor]) -> tuple[Doubles, dict[str, tuple[Ints, Ints]]]:
    """The code, and for each factor the rows where it is known with their classes."""
    if code.dim() != 2 or code.size(1) < 2 or not code.is_floating_point():
        raise ValueError(
            f"'code' must be a float tensor of shape [n, d] with d at least 2 (got {code.dtype}, {list(code.shape)})"
        )
    if not code.isfinite().all():
        raise ValueError("'code' holds values that are not finite")
    if not factor:
        raise ValueError("'factor' must name at least one factor (got none)")
    known = {}
    for name, classes in factor.items():
        if classes.dtype != torch.int64 or classes.shape != code.shape[:1]:
            raise ValueError(
                f"'factor.{name}' must be int64 of shape [{code.size(0)}] (got {classes.dtype}, {list(classes.shape)})"
            )
        rows = (classes >= 0).nonzero().flatten()
        number, place = classes[rows].unique(return_inverse=True)
        if number.numel() < 2:
            raise ValueError(f"'factor.{name}' must have two known classes or more (got {number.numel()})")
        known[name] = rows.cpu().numpy(), place.cpu().numpy()
    return code.detach().cpu().double().numpy(), known


def _binned(column: Doubles, num_bins: int) -> Ints:
    """Bins of equal width; the largest value belongs to the last."""
    edges = np.histogram_bin_edges(column, num_bins)
    return np.digitize(column, edges[1:-1])


def _fitted(x: Doubles, classes: Ints, seed: int) -> ExtraTreesClassifier:
    """The forest of the least depth whose accuracy out of bag is within one standard error of the best."""
    forests = [
        ExtraTreesClassifier(
            NUM_TREES, max_depth=depth, max_features=None, bootstrap=True, oob_score=True, random_state=seed
        ).fit(x, classes)
        for depth in DEPTHS
    ]
    best = max(float(forest.oob_score_) for forest in forests)
    least = best - math.sqrt(best * (1 - best) / len(classes))
    return next(forest for forest in forests if forest.oob_score_ >= least)


def _purity(importance: Doubles) -> Doubles:
    """One less the entropy of each row, which is 1 where all is in one entry; 0 for rows of zeros."""
    used = importance.sum(1) > 0
    purity = np.zeros(len(importance))
    purity[used] = 1 - entropy(importance[used], base=importance.shape[1], axis=1)
    return purity
