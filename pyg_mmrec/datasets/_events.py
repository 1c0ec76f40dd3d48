"""Interaction tables with any ids, read a chunk at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyg_mmrec.datasets._inter import num_split_pairs, unique_pairs
from pyg_mmrec.datasets._numbering import Numbering
from pyg_mmrec.datasets._tables import Source, shown

Array = npt.NDArray[Any]

_SPLITS = {"train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "dev": 1, "test": 2}


def read_events(
    source: Source,
    columns: Mapping[str, str],
    users: Numbering,
    items: Numbering,
    *,
    min_rating: float | None = None,
    chunk_size: int,
) -> tuple[dict[str, Array], list[str]]:
    """Reads the interactions, each user-item pair once.

    Args:
        source: The table.
        columns: The column of each role that it has.
        users: Numbers the users.
        items: Numbers the items.
        min_rating: Rows with a lower rating are left out.
        chunk_size: Rows that are in memory at a time beside what is kept of them.

    Returns:
        ``user`` and ``item`` as nodes, int64, and, where there are such columns, ``rating`` as float32, ``time`` as
        int64 or, for decimals, float64, ``split`` as int64; notes about what was dropped.

    Raises:
        ValueError: If a value is not what its column needs (the message names the row), or no row is left.
    """
    parts: dict[str, list[Array]] = {role: [] for role in columns}
    text = [columns[role] for role in ("user", "item")]
    num_rows = 0
    dates: bool | None = None
    for chunk in source.chunks(list(columns.values()), text, chunk_size):
        rows = np.arange(num_rows, num_rows + len(chunk))
        num_rows += len(chunk)
        part: dict[str, Array] = {}
        if "rating" in columns:
            part["rating"] = _numbers(source, chunk[columns["rating"]], columns["rating"], rows)
        if "time" in columns:
            part["time"], dates = _times(source, chunk[columns["time"]], columns["time"], rows, dates)
        if "split" in columns:
            part["split"] = _splits(source, chunk[columns["split"]], columns["split"], rows)
        if min_rating is not None:
            liked = part["rating"] >= min_rating
            chunk, rows = chunk[liked], rows[liked]
            part = {role: values[liked] for role, values in part.items()}
        for role, numbering in (("user", users), ("item", items)):
            where = f"{source.name}: column {columns[role]!r}"
            part[role] = numbering.codes(chunk[columns[role]], where, rows, source.typed).astype(np.int32)
        known = part["user"] >= 0
        for role, values in part.items():
            parts[role].append((values.astype(np.float32) if role == "rating" else values)[known])
    if not num_rows:
        raise ValueError(f"{source.name} has no rows; add the interactions")
    table = {role: np.concatenate(parts.pop(role)) for role in list(parts)}
    return _unique(source, table, num_rows, min_rating)


def _unique(
    source: Source, table: dict[str, Array], num_rows: int, min_rating: float | None
) -> tuple[dict[str, Array], list[str]]:
    """Without repeated pairs: the first row stays, or the first with the smallest label of the split."""
    left, notes = len(table["user"]), []
    if not left:
        rule = "" if min_rating is None else f" of {min_rating} or more"
        raise ValueError(f"{source.name}: none of its {num_rows} rows has a known user and a rating{rule}")
    keep = unique_pairs(table)
    if len(keep) < left:
        notes.append(f"{source.name}: {left - len(keep)} of {left} rows repeat a user-item pair and are dropped")
        if several := num_split_pairs(table):
            notes.append(
                f"{source.name}: {several} user-item pairs are in more than one of train, validation and test; each "
                "stays in the first of these"
            )
        table = {role: values[keep] for role, values in table.items()}
    if "split" in table and not (table["split"] == 0).any():
        raise ValueError(f"{source.name}: no row is marked as train (0); check the labels of the split")
    wide = {role: table[role].astype(np.int64) for role in ("user", "item", "split") if role in table}
    return table | wide, notes


def _numbers(source: Source, column: pd.Series, name: str, rows: Array) -> Array:
    """Finite numbers, whole ones as int64."""
    if pd.api.types.is_bool_dtype(column.dtype):
        column = column.astype(object)
    values = pd.to_numeric(column, errors="coerce") if column.dtype.kind not in "iuf" else column
    array = values.to_numpy(np.int64) if values.dtype.kind in "iu" else values.to_numpy(np.float64, na_value=np.nan)
    _refuse(source, column, name, rows, ~np.isfinite(array), "a finite number")
    return array


def _times(source: Source, column: pd.Series, name: str, rows: Array, dates: bool | None) -> tuple[Array, bool | None]:
    """Numbers as they are, dates as seconds since 1970; whether they are dates, which the table's first row decides."""
    if not len(column):
        return np.empty(0, np.int64), dates
    if dates is None:
        first = column.iloc[0]
        dates = isinstance(first, pd.Timestamp) or pd.isna(pd.to_numeric(first, errors="coerce"))
    if not dates:
        return _numbers(source, column, name, rows), dates
    if column.dtype.kind in "iuf":
        _refuse(source, column, name, rows, np.ones(len(column), bool), "a date, as in the first row")
    stamps = pd.to_datetime(column, errors="coerce", utc=True, **_date_format(column))
    _refuse(source, column, name, rows, stamps.isna().to_numpy(), "a number or a date such as 2024-05-31T18:00:00")
    return stamps.dt.tz_localize(None).to_numpy().astype("datetime64[s]").astype(np.int64), dates


def _date_format(column: pd.Series) -> dict[str, Any]:
    return {} if pd.api.types.is_datetime64_any_dtype(column.dtype) else {"format": "ISO8601"}


def _splits(source: Source, column: pd.Series, name: str, rows: Array) -> Array:
    """0, 1 and 2, also from their names."""
    if column.dtype.kind in "iuf":
        label = column
    else:
        text = column.astype(str).str.strip().str.lower()
        label = pd.to_numeric(text.map(_SPLITS).fillna(pd.to_numeric(text, errors="coerce")))
    array = label.to_numpy(np.float64, na_value=np.nan)
    _refuse(source, column, name, rows, ~np.isin(array, (0, 1, 2)), "0, 1, 2, train, val or test")
    return array.astype(np.int8)


def _refuse(source: Source, column: pd.Series, name: str, rows: Array, bad: Array, rule: str) -> None:
    if bad.any():
        place = int(bad.argmax())
        value = column.iloc[place]
        found = "nothing" if pd.isna(value) else shown(value)
        raise ValueError(
            f"{source.name}: column {name!r} row {rows[place] + 1} has {found} but must be {rule}: correct it or drop "
            "the row"
        )
