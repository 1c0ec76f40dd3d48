"""Which points of a search space are tried."""

from __future__ import annotations

import math
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyg_mmrec.utils.checks import check_flag, check_int, check_number, check_positive
from pyg_mmrec.utils.seeds import derive_seed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: Trials of a space with ranges that are drawn at random, and those that are chosen at a time from there on.
STARTUP, ROUND = 10, 4


@dataclass(frozen=True)
class Range:
    """Numbers to search, both ends included: ints where both ends are, else floats.

    Attributes:
        low: The least.
        high: The largest.
        log: Search their logarithms.

    Raises:
        ValueError: If an end is no number, they are not in order, or ``log`` is set and one is not positive.

    Example:
        >>> Range(1e-4, 1e-1, log=True)
        Range(low=0.0001, high=0.1, log=True)
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        check_number(low=self.low, high=self.high)
        check_flag(log=self.log)
        if self.log:
            check_positive(low=self.low, high=self.high)
        if not self.low < self.high:
            raise ValueError(f"'low' must be below 'high' (got {self.low} and {self.high})")


#: For each argument that is searched, its choices or its range.
Space = Mapping[str, Sequence[Any] | Range]


def num_points(space: Space, trials: int) -> int:
    """How many points :func:`search_points` gives: a space of choices alone may have fewer than the budget.

    Args:
        space: What is searched.
        trials: The budget.

    Example:
        >>> num_points({'num_layers': [1, 2, 3]}, trials=10)
        3
    """
    sizes = [math.inf if isinstance(values, Range) else len(values) for values in space.values()]
    return int(min(trials, math.prod(sizes)))


def search_points(space: Space, trials: int, seed: int = 0) -> Generator[list[dict[str, Any]], Sequence[float], None]:
    """Rounds of points; after each its values are sent, larger being better and NaN for a point that failed.

    A space of choices alone is a grid: its points come in an order drawn from the seed, none twice, all in one round.
    Where there is a range, Optuna's tree-structured Parzen estimator chooses: the first ten points are drawn at random,
    then each round has four that the values of all earlier rounds suggest. So the points depend on the space, the seed
    and the values alone: not on how many are evaluated at a time, nor on where a search was stopped. A larger budget
    goes on where a smaller one ended.

    Args:
        space: For each name a sequence of choices, or a :class:`Range`.
        trials: The budget: at most so many points.
        seed: Seed of the choice (default: 0).

    Raises:
        ImportError: If Optuna is not installed.
        ValueError: If the space is empty or an argument is out of range.

    Example:
        >>> rounds = search_points({'num_layers': [1, 2, 3]}, trials=10)
        >>> sorted(point['num_layers'] for point in next(rounds))
        [1, 2, 3]
    """
    check_space(space)
    check_int(1, trials=trials)
    check_int(0, seed=seed)
    if not any(isinstance(values, Range) for values in space.values()):
        yield _grid(space, num_points(space, trials), seed)
        return
    history: list[tuple[dict[str, Any], float]] = []
    while len(history) < trials:
        start = len(history)
        size = min(ROUND if start else STARTUP, trials - start)
        codes: list[dict[str, Any]] = []
        for number in range(start, start + size):
            codes.append(_suggest(space, history, codes, derive_seed(seed, number) % 2**32))
        values = yield [_decode(space, code) for code in codes]
        history += zip(codes, values, strict=True)


def check_space(space: Space) -> None:
    """Refuses a space without a name, a name without a choice, and choices that are equal.

    Raises:
        ValueError: About the first that is refused.
    """
    if not space:
        raise ValueError("the search space is empty: name an argument with its choices or range")
    for name, values in space.items():
        if isinstance(values, Range):
            continue
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(f"'{name}' must be a list of choices or a range of low and high (got {values!r})")
        if len({repr(value) for value in values}) < len(values):
            raise ValueError(f"'{name}' has a choice twice (got {list(values)!r})")


def _optuna() -> Any:
    """Optuna, without its report of every study."""
    try:
        import optuna
    except ImportError:
        raise ImportError("a search needs Optuna: pip install 'pyg-mmrec[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _grid(space: Space, size: int, seed: int) -> list[dict[str, Any]]:
    """The first points of a grid in random order."""
    optuna, fixed = _optuna(), _distributions(space)
    choices = {name: list(range(len(values))) for name, values in space.items() if not isinstance(values, Range)}
    study = optuna.create_study(sampler=optuna.samplers.GridSampler(choices, seed=seed))
    return [_decode(space, study.ask(fixed).params) for _ in range(size)]


def _suggest(
    space: Space, history: Sequence[tuple[dict[str, Any], float]], asked: Sequence[dict[str, Any]], seed: int
) -> dict[str, Any]:
    """The next point, after those with a value and those that were asked for in the same round."""
    optuna, fixed = _optuna(), _distributions(space)
    state = optuna.trial.TrialState
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # options that older versions try out
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for code, value in history:  # one pruned at once ranks below all that have a value
            known = {"state": state.PRUNED} if math.isnan(value) else {"value": value}
            study.add_trial(optuna.create_trial(params=code, distributions=fixed, **known))
        for code in asked:
            study.add_trial(optuna.create_trial(params=code, distributions=fixed, state=state.RUNNING))
        params: dict[str, Any] = study.ask(fixed).params
    return params


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    """Optuna's form of a space; it sees the places of choices in their lists, which may hold anything."""
    kinds = _optuna().distributions
    found: dict[str, BaseDistribution] = {}
    for name, values in space.items():
        if not isinstance(values, Range):
            found[name] = kinds.CategoricalDistribution(range(len(values)))
        elif isinstance(values.low, int) and isinstance(values.high, int):
            found[name] = kinds.IntDistribution(values.low, values.high, log=values.log)
        else:
            found[name] = kinds.FloatDistribution(values.low, values.high, log=values.log)
    return found


def _decode(space: Space, code: Mapping[str, Any]) -> dict[str, Any]:
    """A point of the space from what Optuna sees of it."""
    return {name: code[name] if isinstance(values, Range) else values[code[name]] for name, values in space.items()}
