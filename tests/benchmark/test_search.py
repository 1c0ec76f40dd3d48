from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pyg_mmrec.benchmark import Range, num_points, search_points
from pyg_mmrec.benchmark.search import ROUND, STARTUP, Space

Point = dict[str, Any]
MIXED: Space = {"rate": Range(1e-4, 1e-1, log=True), "layers": Range(1, 4), "layout": [None, {"a": [1, 2]}]}


def bowl(point: Point) -> float:
    """Best at a rate of 0.01 and two layers; four layers fail."""
    return math.nan if point["layers"] == 4 else -((math.log10(point["rate"]) + 2) ** 2) - abs(point["layers"] - 2)


def search(space: Space, trials: int, value: Callable[[Point], float], seed: int = 0) -> list[list[Point]]:
    """All rounds of a search."""
    course = search_points(space, trials, seed)
    rounds = [next(course)]
    try:
        while True:
            rounds.append(course.send([value(point) for point in rounds[-1]]))
    except StopIteration:
        return rounds


def points(rounds: list[list[Point]]) -> list[Point]:
    return [point for points in rounds for point in points]


def test_a_grid_is_tried_in_one_round_and_no_point_twice() -> None:
    space = {"a": [1, 2, 3], "b": [None, {"x": 1}]}
    (all_points,) = search(space, 100, lambda point: 0.0)
    assert len(all_points) == 6 == num_points(space, 100)
    assert all(point in all_points for point in ({"a": a, "b": b} for a in (1, 2, 3) for b in (None, {"x": 1})))
    (some,) = search(space, 4, lambda point: math.nan)
    assert some == all_points[:4]
    assert [search(space, 6, len, seed)[0] for seed in range(5)].count(all_points) < 5


def test_points_stay_in_their_space() -> None:
    for point in points(search(MIXED, 20, bowl)):
        assert 1e-4 <= point["rate"] <= 1e-1
        assert point["layers"] in (1, 2, 3, 4)
        assert isinstance(point["layers"], int)
        assert point["layout"] in MIXED["layout"]  # type: ignore[operator]


def test_a_larger_budget_goes_on_where_a_smaller_one_ended() -> None:
    long = points(search(MIXED, 21, bowl))
    assert len(long) == 21
    for trials in (1, 7, STARTUP, STARTUP + 1, STARTUP + ROUND, 18):
        assert points(search(MIXED, trials, bowl)) == long[:trials]
    assert points(search(MIXED, 21, bowl, seed=1))[:3] != long[:3]


def test_the_first_points_do_not_depend_on_values_and_later_ones_do() -> None:
    one, two = search(MIXED, 30, bowl), search(MIXED, 30, lambda point: point["rate"])
    assert one[0] == two[0]
    assert [len(found) for found in one] == [STARTUP, *[ROUND] * 5]
    assert one[1:] != two[1:]


def test_the_search_goes_where_values_are_good() -> None:
    space = {"x": Range(0.0, 1.0)}
    found = points(search(space, 40, lambda point: -abs(point["x"] - 0.9)))
    distance = [abs(point["x"] - 0.9) for point in found]
    assert np.mean(distance[20:]) < 0.6 * np.mean(distance[:10])  # the first are random


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "the search space is empty"),
        ({"a": []}, r"'a' must be a list of choices or a range of low and high \(got \[\]\)"),
        ({"a": "bc"}, "'a' must be a list of choices"),
        ({"a": [1, 2, 1]}, r"'a' has a choice twice \(got \[1, 2, 1\]\)"),
    ],
)
def test_spaces_that_are_refused(space: Space, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(search_points(space, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 1), r"'low' must be below 'high' \(got 2 and 1\)"),
        ((1, 1), "'low' must be below 'high'"),
        (("1", 2), r"'low' must be a number"),
        ((0, 2, True), r"'low' must be positive \(got 0\)"),
        ((1, 2, 1), r"'log' must be True or False \(got 1\)"),
    ],
)
def test_ranges_that_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Range(*arguments)


def test_a_budget_is_positive() -> None:
    with pytest.raises(ValueError, match=r"'trials' must be positive \(got 0\)"):
        next(search_points(MIXED, 0))


def test_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"^a search needs Optuna: pip install 'pyg-mmrec\[tune\]'$"):
        next(search_points(MIXED, 1))
