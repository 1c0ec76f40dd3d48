"""Checks of arguments, by one rule for the whole package.

An int is an ``int``: no text, no bool, no float such as 64.0 and no NumPy scalar, which JSON cannot write. A number is
a finite ``int`` or ``float``. A flag is True or False.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Literal

_MAX_INT = 2**63 - 1


def check_int(low: int, **values: Any) -> None:
    """Refuses what is no int from ``low`` on.

    Args:
        low: The least that is allowed.
        values: The arguments by name.

    Raises:
        ValueError: About the first that is refused.

    Example:
        >>> check_int(1, hidden_channels=64)
        >>> check_int(1, hidden_channels=64.0)
        Traceback (most recent call last):
        ...
        ValueError: 'hidden_channels' must be an int (got 64.0)
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"'{name}' must be an int (got {value!r})")
        if value < low:
            rule = {0: "not be negative", 1: "be positive"}.get(low, f"be at least {low}")
            raise ValueError(f"'{name}' must {rule} (got {value})")
        if value > _MAX_INT:
            raise ValueError(f"'{name}' must be at most {_MAX_INT} (got {value})")


def check_number(**values: Any) -> None:
    """Refuses what is no finite number.

    Raises:
        ValueError: About the first that is refused.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"'{name}' must be a number, an int or a float (got {value!r})")
        if not math.isfinite(value):
            raise ValueError(f"'{name}' must be finite (got {value})")


def check_positive(**values: Any) -> None:
    """Refuses what is no finite number above 0.

    Raises:
        ValueError: About the first that is refused.
    """
    check_number(**values)
    for name, value in values.items():
        if value <= 0:
            raise ValueError(f"'{name}' must be positive (got {value})")


def check_not_negative(**values: Any) -> None:
    """Refuses what is no finite number from 0 on.

    Raises:
        ValueError: About the first that is refused.
    """
    check_number(**values)
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"'{name}' must not be negative (got {value})")


def check_between(**values: Any) -> None:
    """Refuses what is no number above 0 and below 1.

    Raises:
        ValueError: About the first that is refused.
    """
    check_number(**values)
    for name, value in values.items():
        if not 0 < value < 1:
            raise ValueError(f"'{name}' must lie between 0 and 1 (got {value})")


def check_share(**values: Any) -> None:
    """Refuses what is no number from 0 to 1.

    Raises:
        ValueError: About the first that is refused.
    """
    check_number(**values)
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"'{name}' must lie in [0, 1] (got {value})")


def check_part(**values: Any) -> None:
    """Refuses what is no number from 0 to below 1.

    Raises:
        ValueError: About the first that is refused.
    """
    check_number(**values)
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"'{name}' must lie in [0, 1) (got {value})")


def check_flag(**values: Any) -> None:
    """Refuses what is neither True nor False.

    Raises:
        ValueError: About the first that is refused.
    """
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"'{name}' must be True or False (got {value!r})")


def check_choice(choices: Collection[Any], **values: Any) -> None:
    """Refuses what is not among the choices.

    Raises:
        ValueError: About the first that is refused.

    Example:
        >>> check_choice(("squared", "norm"), l2_form="cubed")
        Traceback (most recent call last):
        ...
        ValueError: 'l2_form' must be 'squared' or 'norm' (got 'cubed')
    """
    *others, last = map(repr, choices)
    for name, value in values.items():
        if value not in choices:
            raise ValueError(f"'{name}' must be {', '.join(others)} or {last} (got {value!r})")


def check_names(**values: Any) -> None:
    """Refuses what is no list or tuple of texts, such as a single text.

    Raises:
        ValueError: About the first that is refused.
    """
    for name, value in values.items():
        if isinstance(value, str):
            raise ValueError(f"'{name}' must be a list of names, [{value!r}] (got {value!r})")
        if not isinstance(value, Sequence) or not all(isinstance(entry, str) for entry in value):
            raise ValueError(f"'{name}' must be a list of names (got {value!r})")


def check_by_name(check: Callable[..., None], **values: Any) -> None:
    """Refuses what is no dictionary from names to values that pass another check.

    Args:
        check: The check of the values.
        values: The arguments by name.

    Raises:
        ValueError: About the first that is refused.

    Example:
        >>> check_by_name(check_not_negative, graph_weights={"image": -1})
        Traceback (most recent call last):
        ...
        ValueError: 'graph_weights.image' must not be negative (got -1)
    """
    for name, value in values.items():
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise ValueError(f"'{name}' must be a dictionary from names to values (got {value!r})")
        check(**{f"{name}.{key}": entry for key, entry in value.items()})


def check_channels(in_channels: Any, needed_by: str = "") -> None:
    """Refuses what is no dictionary from modalities to widths.

    Args:
        in_channels: The dictionary.
        needed_by: Name of the model where it must not be empty.

    Raises:
        ValueError: About the first entry that is refused.
    """
    check_by_name(partial(check_int, 1), in_channels=in_channels)
    if needed_by and not in_channels:
        raise ValueError(f"'in_channels' names no modality: {needed_by} needs item features x_<modality>")


def check_path(**values: Any) -> None:
    """Refuses what names no file or folder.

    Raises:
        ValueError: About the first that is refused.
    """
    for name, value in values.items():
        if not isinstance(value, str | os.PathLike) or not os.fspath(value) or "\0" in os.fsdecode(value):
            raise ValueError(f"'{name}' must be a path, a text or a pathlib.Path (got {value!r})")


def check_function(**values: Any) -> None:
    """Refuses what is neither None nor can be called.

    Raises:
        ValueError: About the first that is refused.
    """
    for name, value in values.items():
        if value is not None and not callable(value):
            raise ValueError(f"'{name}' must be a function or None (got {value!r})")


def check_batch_size(batch_size: int | Literal["auto"]) -> None:
    """Refuses what is neither a positive int nor ``'auto'``.

    Raises:
        ValueError: If it is refused.
    """
    if batch_size != "auto":
        check_int(1, batch_size=batch_size)


def check_neighbors(number: int) -> None:
    """Refuses what is no number of neighbours.

    Raises:
        ValueError: If it is no int from -1 on, or is 0.
    """
    check_int(-1, neighbors=number)
    if number == 0:
        raise ValueError("'neighbors' must be -1, for all, or positive (got 0)")
