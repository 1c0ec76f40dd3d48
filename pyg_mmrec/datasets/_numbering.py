"""From the ids of a table to nodes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyg_mmrec.datasets._tables import shown
from pyg_mmrec.utils import Ids

Ints = npt.NDArray[np.int64]

_CANONICAL = re.compile(r"0|-?[1-9][0-9]{0,17}")


class Numbering:
    """Numbers the ids of one node type, in the order in which they come.

    Ids are compared as texts, so that 501 in one table is '501' in another. They stay whole numbers where all are, and
    no table that knows texts from numbers has texts.

    Args:
        node_type: ``'user'`` or ``'item'``.
        ids: Ids that have the first numbers, and what kind the others are.
        frozen: Whether other ids get no number.
    """

    def __init__(self, node_type: str, ids: Ids | None = None, frozen: bool = False) -> None:
        self.node_type, self.frozen = node_type, frozen
        size = 0 if ids is None else ids.sizes()[node_type == "item"]
        self.known: list[str | int] = [] if ids is None else ids.of(node_type, range(size))
        self.number = {str(name): position for position, name in enumerate(self.known)}
        self._text = False

    def __len__(self) -> int:
        return len(self.number)

    def codes(self, column: pd.Series, where: str, rows: Ints, typed: bool) -> Ints:
        """The nodes of a column of ids, -1 for those without a number.

        Args:
            column: The ids.
            where: The table and the column, for the messages.
            rows: The row of each id in its table, from 0, likewise.
            typed: Whether texts are meant as such.

        Raises:
            ValueError: If an id is missing, or no text or whole number.
        """
        values: Any = column
        if isinstance(column.dtype, pd.CategoricalDtype):
            values = column.astype(object)
        if pd.api.types.is_float_dtype(values.dtype):
            whole = np.isfinite(values.to_numpy(np.float64, na_value=np.nan))
            whole &= values.to_numpy(np.float64, na_value=0.5) % 1 == 0
            self._refuse(values, ~whole, where, rows)
            values = values.astype(np.int64)
        code, unique = pd.factorize(values)
        names = [self._name(value, typed) for value in unique]
        bad = np.array([name is None for name in names] + [True])[code]  # the last is for -1, a missing value
        self._refuse(values, bad, where, rows)
        if self.frozen:
            node = [self.number.get(str(name), -1) for name in names]
        else:
            node = [self.number.setdefault(str(name), len(self.number)) for name in names]
        return np.array(node, dtype=np.int64)[code] if len(code) else np.empty(0, np.int64)

    def _name(self, value: Any, typed: bool) -> str | None:
        """An id as a text; None where it is none."""
        if isinstance(value, bool | np.bool_ | float | np.floating) or value is None or value is pd.NaT:
            return None
        if not isinstance(value, int | np.integer):
            self._text |= typed
        return str(value) or None

    def _refuse(self, values: pd.Series, bad: npt.NDArray[np.bool_], where: str, rows: Ints) -> None:
        if bad.any():
            place = int(bad.argmax())
            value = values.iloc[place]
            found = "no id" if pd.isna(value) or value == "" else f"the id {shown(value)}"
            raise ValueError(
                f"{where} row {rows[place] + 1} has {found}; an id is a text or a whole number: fill it in or drop the "
                "row"
            )

    def names(self) -> list[str | int]:
        """The ids by their numbers.

        Raises:
            ValueError: If an id is of another kind than the known ones.
        """
        texts = list(self.number)
        if not self.known:
            whole = not self._text and all(map(_CANONICAL.fullmatch, texts))
            return [int(name) for name in texts] if whole else list(texts)
        if isinstance(self.known[0], str):
            return list(texts)
        for name in texts[len(self.known) :]:
            if not _CANONICAL.fullmatch(name):
                raise ValueError(
                    f"'ids' has whole numbers as ids of {self.node_type}s but the tables have {name!r}: give it such "
                    "an id too"
                )
        return [int(name) for name in texts]


def core(user: Ints, item: Ints, sizes: Sequence[int], k: int) -> npt.NDArray[np.bool_]:
    """Which interactions are left when users and items with fewer than k are dropped until none is.

    Args:
        user: ``[num_interactions]``.
        item: ``[num_interactions]``.
        sizes: Numbers of users and of items.
        k: The least that is kept.

    Example:
        >>> core(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 1, 1]), (3, 2), 2)
        array([ True,  True,  True,  True, False])
    """
    kept = np.ones(len(user), dtype=bool)
    while True:
        count = [np.bincount(node[kept], minlength=size) for node, size in zip((user, item), sizes, strict=True)]
        left = kept & (count[0][user] >= k) & (count[1][item] >= k)
        if (left == kept).all():
            return kept
        kept = left
