"""Whether models differ by more than chance."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from pyg_mmrec.utils.checks import check_int


def paired_tests(
    values: pd.DataFrame,
    baseline: str | None = None,
    *,
    confidence: float = 0.95,
    num_samples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compares models on the same users, pair by pair.

    Each pair gets the paired t-test and the Wilcoxon signed-rank test (differences of zero are dropped), two-sided,
    with p-values corrected for the number of pairs by Holm's method, and a bootstrap interval of the mean difference
    (percentiles). Users are the sample: a small p-value says that the same trained models would differ on other users
    like these, not that other training seeds would give the same order. Pass means over seeds to have less of the
    latter's noise.

    Args:
        values: A metric, one row a user and one column a model, as :meth:`Evaluator.by_user
            <pyg_mmrec.evaluation.Evaluator.by_user>` gives it.
        baseline: The model that all others are compared with (default: every pair is compared).
        confidence: Of the intervals (default: 0.95).
        num_samples: Bootstrap samples (default: 2000).
        seed: Seed of the bootstrap samples.

    Returns:
        A row for each pair: ``model`` and ``other``, the mean ``difference`` of the two with its interval ``low`` and
        ``high``, ``t_test`` and ``wilcoxon`` (p-values), ``t_test_holm`` and ``wilcoxon_holm`` (corrected), and the
        numbers of users for whom the first is better (``wins``), equal (``ties``) or worse (``losses``).

    Raises:
        ValueError: If there are fewer than two models or two users, a value is missing, or an argument is out of range.

    Example:
        >>> values = pd.DataFrame({'SEA': [0.5, 0.3, 0.8, 0.6], 'VBPR': [0.4, 0.1, 0.6, 0.6]})
        >>> paired_tests(values)[['model', 'other', 'difference', 'wins', 'ties', 'losses']]
          model other  difference  wins  ties  losses
        0   SEA  VBPR       0.125     3     1       0
    """
    names = list(values.columns)
    check_int(1, num_samples=num_samples)
    check_int(0, seed=seed)
    if not 0 < confidence < 1:
        raise ValueError(f"'confidence' must lie between 0 and 1 (got {confidence})")
    if len(names) < 2 or len(set(names)) < len(names) or len(values) < 2:
        found = f"{len(values)} users, {', '.join(map(str, names))}"
        raise ValueError(f"'values' must have two users and two models with different names at least (got {found})")
    if values.isna().any(axis=None):
        raise ValueError("'values' lacks values of some users: compare models on the users that all of them have")
    if baseline is not None and baseline not in names:
        raise ValueError(f"'baseline' must be one of {', '.join(names)} (got {baseline!r})")
    pairs = itertools.combinations(names, 2) if baseline is None else ((n, baseline) for n in names if n != baseline)
    rng, rows = np.random.default_rng(seed), []
    for model, other in pairs:
        difference = values[model].to_numpy(np.float64) - values[other].to_numpy(np.float64)
        rows.append({"model": model, "other": other, **_compare(difference, confidence, num_samples, rng)})
    table = pd.DataFrame(rows)
    for test in ("t_test", "wilcoxon"):
        table[f"{test}_holm"] = holm(table[test].to_numpy())
    tests = ["t_test", "t_test_holm", "wilcoxon", "wilcoxon_holm"]
    return table[["model", "other", "difference", "low", "high", *tests, "wins", "ties", "losses"]]


def format_tests(table: pd.DataFrame) -> str:
    """Paired tests as text: ``*`` stands where both corrected p-values are below 0.05.

    Args:
        table: What :func:`paired_tests` gave.
    """
    rows = [
        {
            "difference": f"{row['difference']:+.4f}" + ("*" if _both_below(row, 0.05) else " "),
            "interval": f"[{row['low']:+.4f}, {row['high']:+.4f}]",
            "t-test": f"{row['t_test_holm']:.2g}",
            "Wilcoxon": f"{row['wilcoxon_holm']:.2g}",
            "better/equal/worse": f"{row['wins']}/{row['ties']}/{row['losses']}",
        }
        for row in table.to_dict("records")
    ]
    shown = pd.DataFrame(rows)
    shown.index = pd.Index(table["model"] + " - " + table["other"])
    return shown.to_string()


def _both_below(row: Mapping[Any, Any], level: float) -> bool:
    return bool(max(row["t_test_holm"], row["wilcoxon_holm"]) < level)


def _compare(
    difference: NDArray[np.float64], confidence: float, num_samples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """The tests of one pair; models that never differ have p-values of one."""
    row: dict[str, Any] = {"difference": difference.mean()}
    row |= {"wins": (difference > 0).sum(), "ties": (difference == 0).sum(), "losses": (difference < 0).sum()}
    if not difference.any():
        return row | {"low": 0.0, "high": 0.0, "t_test": 1.0, "wilcoxon": 1.0}
    means = [difference[rng.integers(len(difference), size=len(difference))].mean() for _ in range(num_samples)]
    row["low"], row["high"] = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    even = np.ptp(difference) == 0  # no spread at all: the t statistic is infinite
    row["t_test"] = 0.0 if even else stats.ttest_1samp(difference, 0).pvalue
    row["wilcoxon"] = stats.wilcoxon(difference).pvalue
    return row


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values of a family of tests, corrected by Holm's method.

    Args:
        p: ``[n]`` p-values.

    Returns:
        ``[n]`` p-values, each at most 1 and none below the one given: those below a level may be called significant
        together, with a chance of any error of at most this level.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    order = p.argsort()
    corrected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    out = np.empty_like(corrected)
    out[order] = corrected
    return out
