from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_mmrec.benchmark import format_tests, holm, paired_tests


@pytest.fixture
def values() -> pd.DataFrame:
    """Three models on 200 users: the second a little better than the first, the third like the first."""
    rng = np.random.default_rng(0)
    base = rng.random(200)
    noise = rng.normal(0, 0.1, (2, 200))
    return pd.DataFrame({"A": base, "B": base + 0.05 + noise[0], "C": base + noise[1]})


def test_pairs_and_counts(values: pd.DataFrame) -> None:
    table = paired_tests(values)
    assert list(zip(table["model"], table["other"], strict=True)) == [("A", "B"), ("A", "C"), ("B", "C")]
    for row in table.itertuples():
        a, b = values[row.model], values[row.other]
        assert row.difference == pytest.approx((a - b).mean())
        assert (row.wins, row.ties, row.losses) == ((a > b).sum(), (a == b).sum(), (a < b).sum())
    only = paired_tests(values, "A")
    assert list(zip(only["model"], only["other"], strict=True)) == [("B", "A"), ("C", "A")]
    assert only["difference"][0] == pytest.approx(-table["difference"][0])


def test_a_difference_is_found_and_noise_is_not(values: pd.DataFrame) -> None:
    table = paired_tests(values).set_index(["model", "other"])
    for test in ("t_test", "wilcoxon"):
        assert table[f"{test}_holm"]["A", "B"] < 1e-6
        assert table[f"{test}_holm"]["A", "C"] > 0.05
    assert table["high"]["A", "B"] < 0
    assert table["low"]["A", "C"] < 0 < table["high"]["A", "C"]


def test_t_test_equals_its_formula(values: pd.DataFrame) -> None:
    """By numerical integration of Student's density."""
    d = (values["A"] - values["C"]).to_numpy()
    t = abs(d.mean() / (d.std(ddof=1) / np.sqrt(len(d))))
    x = np.linspace(-60, 60, 2_000_001)
    density = (1 + x**2 / (len(d) - 1)) ** (-len(d) / 2)
    p = density[np.abs(x) > t].sum() / density.sum()
    table = paired_tests(values[["A", "C"]])
    assert table["t_test"][0] == pytest.approx(p, abs=1e-4)


def test_wilcoxon_equals_all_signs() -> None:
    """The exact distribution: every sign of every rank is equally likely."""
    d = np.array([0.3, -0.1, 0.4, 0.7, -0.2, 0.6, 0.5])
    rank = np.abs(d).argsort().argsort() + 1
    found = rank[d > 0].sum()
    sums = [sum(r for r, s in zip(rank, signs, strict=True) if s) for signs in itertools.product([0, 1], repeat=7)]
    tail = min(np.mean([s >= found for s in sums]), np.mean([s <= found for s in sums]))
    values = pd.DataFrame({"A": d, "B": np.zeros(7)})
    assert paired_tests(values)["wilcoxon"][0] == pytest.approx(2 * tail)


def test_intervals_hold_their_confidence() -> None:
    """Of 300 samples of a known mean, the 90 % intervals hold it in about 90 %: 4 standard errors are 7 points."""
    rng, held = np.random.default_rng(1), 0
    for seed in range(300):
        values = pd.DataFrame({"A": rng.normal(0.2, 1, 100), "B": np.zeros(100)})
        row = paired_tests(values, confidence=0.9, num_samples=200, seed=seed).iloc[0]
        held += row["low"] <= 0.2 <= row["high"]
    assert abs(held / 300 - 0.9) < 0.07


def test_models_that_never_differ(values: pd.DataFrame) -> None:
    row = paired_tests(values.assign(B=values["A"])[["A", "B"]]).iloc[0]
    assert row["difference"] == row["low"] == row["high"] == 0
    assert row["t_test"] == row["wilcoxon_holm"] == 1
    assert row["ties"] == 200
    even = paired_tests(pd.DataFrame({"A": [1.0, 2.0, 3.0], "B": [0.5, 1.5, 2.5]})).iloc[0]
    assert (even["difference"], even["t_test"]) == (0.5, 0)


def test_text_marks_what_both_tests_find(values: pd.DataFrame) -> None:
    lines = format_tests(paired_tests(values)).splitlines()
    assert [("*" in line) for line in lines[1:]] == [True, False, True]
    assert lines[1].startswith("A - B")


def test_same_seed_same_intervals(values: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(paired_tests(values, seed=3), paired_tests(values, seed=3))
    assert paired_tests(values, seed=3)["low"][0] != paired_tests(values, seed=4)["low"][0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_equals_its_definition(p: list[float]) -> None:
    found = holm(np.array(p))
    order = sorted(range(len(p)), key=lambda i: p[i])
    highest = 0.0
    for step, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - step) * p[index]))
        assert found[index] == pytest.approx(highest)
    assert (found >= np.array(p) - 1e-12).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "D"}, r"^'baseline' must be one of A, B, C \(got 'D'\)$"),
        ({"confidence": 1.0}, r"^'confidence' must lie between 0 and 1 \(got 1.0\)$"),
        ({"num_samples": 0}, r"^'num_samples' must be positive \(got 0\)$"),
    ],
)
def test_bad_arguments(values: pd.DataFrame, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_tests(values, **change)


def test_bad_values(values: pd.DataFrame) -> None:
    for part, found in (
        (values[["A"]], "200 users, A"),
        (values[:1], "1 users, A, B, C"),
        (values[["A", "A"]], "200 users, A, A"),
    ):
        with pytest.raises(ValueError, match=rf"two models with different names at least \(got {found}\)$"):
            paired_tests(part)
    with pytest.raises(ValueError, match=r"^'values' lacks values of some users: "):
        paired_tests(values.where(values > 0.1))
