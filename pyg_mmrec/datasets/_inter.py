"""Interaction tables: finding the separator and the columns, reading the rows, checking them."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pyg_mmrec.datasets._files import did_you_mean
from pyg_mmrec.typing import USER
from pyg_mmrec.utils.files import one_line, unreadable

#: What a column can mean, with the names (lower case, letters and digits only) under which it is found.
ROLES: dict[str, frozenset[str]] = {
    "user": frozenset({"user", "userid", "uid"}),
    "item": frozenset({"item", "itemid", "iid"}),
    "rating": frozenset({"rating", "ratings"}),
    "time": frozenset({"time", "timestamp", "unixreviewtime"}),
    "split": frozenset({"split", "xlabel"}),
}

_SEPARATORS = ("\t", ",", ";", "|", " ")
MAX_ID = 2**31 - 1
_MAX_HEADER = 2**16
_INTEGER = re.compile(r"[ \t]*[-+]?[0-9]+[ \t]*")
_DECIMAL = re.compile(r"[ \t]*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?[ \t]*")

#: Smallest and largest value of a role, whether it is an integer, and what to say about it.
_RULES: dict[str, tuple[float, float, bool, str]] = {
    "user": (0, MAX_ID, True, f"a whole number in 0..{MAX_ID}; number the users 0, 1, 2, ... in every file"),
    "item": (0, MAX_ID, True, f"a whole number in 0..{MAX_ID}; number the items 0, 1, 2, ... in every file"),
    "rating": (-3.4e38, 3.4e38, False, "a finite number; fill it in or drop the row"),
    "time": (-9.2e18, 9.2e18, False, "a finite number; fill it in or drop the row"),
    "split": (0, 2, True, "0 (train), 1 (validation) or 2 (test); relabel or drop the row"),
}

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Header:
    """The first line of an interaction table.

    Attributes:
        separator: The character between two fields.
        fields: The names of all columns, in file order.
        columns: Position of the column of each role that the table has.
    """

    separator: str
    fields: tuple[str, ...]
    columns: dict[str, int]

    def name(self, role: str) -> str:
        """The file's own name of a role's column."""
        return self.fields[self.columns[role]]


def _canonical(field: str) -> str:
    return re.sub(r"[^a-z0-9]", "", field.partition(":")[0].lower())


def _match(fields: tuple[str, ...], columns: Mapping[str, str]) -> dict[str, list[int]]:
    """Positions of the columns that may have a role: those named in ``columns``, else those with a known name."""
    named = set(columns.values())
    return {
        role: [
            position
            for position, field in enumerate(fields)
            if (field == columns[role] if role in columns else field not in named and _canonical(field) in aliases)
        ]
        for role, aliases in ROLES.items()
    }


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            while line := file.readline(_MAX_HEADER):
                if line.strip():
                    break
    except OSError as error:
        raise unreadable(path, error) from error
    if not line:
        raise ValueError(f"{path} is empty; it needs a header line such as userID<tab>itemID<tab>x_label")
    if "\0" in line:
        raise ValueError(f"{path} is not a text table (binary or UTF-16); save it as UTF-8 text")
    return line.rstrip("\r\n")


def check_options(separator: str | None, columns: Mapping[str, str]) -> None:
    """Checks the arguments that describe a table.

    Raises:
        ValueError: If ``separator`` is not one character, or ``columns`` has an unknown role or one name twice.
    """
    if separator is not None and (not isinstance(separator, str) or len(separator) != 1 or separator in "\r\n"):
        raise ValueError(f"'separator' must be one character, such as '\\t' or ',' (got {separator!r})")
    if not isinstance(columns, Mapping) or not all(isinstance(part, str) for pair in columns.items() for part in pair):
        raise ValueError(f"'columns' must be a dictionary such as {{'user': 'uid', 'item': 'iid'}} (got {columns!r})")
    for role in columns:
        if role not in ROLES:
            keys = ", ".join(ROLES)
            raise ValueError(f"'columns' has the unknown key {role!r}; the keys are {keys}{did_you_mean(role, ROLES)}")
    if len(set(columns.values())) < len(columns):
        raise ValueError(f"'columns' gives one column two meanings (got {dict(columns)})")


def read_header(path: Path, separator: str | None = None, columns: Mapping[str, str] | None = None) -> Header:
    """Reads the first line of a table and finds what its columns mean.

    Args:
        path: The table.
        separator: The character between two fields; found by trying tab, comma, semicolon, bar and space by default.
        columns: Column names by role (``user``, ``item``, ``rating``, ``time``, ``split``); a role that is not named
            is found by its usual names. Case, punctuation and a type suffix (``user_id:token``) do not matter there.

    Raises:
        ValueError: If the table is empty, or its user or item column is missing or not unique.
    """
    columns = {} if columns is None else columns
    check_options(separator, columns)
    line = _first_line(path)
    splits = {
        candidate: tuple(field.strip() for field in line.split(candidate))
        for candidate in (_SEPARATORS if separator is None else (separator,))
    }
    complete = [key for key, fields in splits.items() if all(_match(fields, columns)[r] for r in ("user", "item"))]
    chosen = complete[0] if complete else max(splits, key=lambda key: len(splits[key]))
    fields = splits[chosen]
    matches = _match(fields, columns)
    _check_header(path, chosen, fields, matches, columns)
    return Header(chosen, fields, {role: positions[0] for role, positions in matches.items() if positions})


def _check_header(
    path: Path, separator: str, fields: tuple[str, ...], matches: dict[str, list[int]], columns: Mapping[str, str]
) -> None:
    found = one_line(", ".join(fields), 200)
    if len(fields) == 1:
        other = next((key for key in _SEPARATORS if len(fields[0].split(key)) > 1), None)
        fix = "pass the separator of the file as 'separator'" if other is None else f"pass separator={other!r}"
        raise ValueError(f"{path} line 1: only one column found with separator {separator!r}: {found}; {fix}")
    for role, positions in matches.items():
        if len(positions) > 1:
            names = " and ".join(fields[position] for position in positions)
            raise ValueError(
                f"{path} line 1: {names} can both be the {role} column; name one: columns={{{role!r}: ...}}"
            )
        if role in columns and not positions:
            raise ValueError(f"{path} line 1: no column {columns[role]!r} for {role!r}; the header has: {found}")
        if role in ("user", "item") and not positions:
            headless = all(re.fullmatch(r"[-+0-9.eE]+", field) for field in fields)
            fix = "add a header line" if headless else f"name it: columns={{{role!r}: ...}}"
            raise ValueError(f"{path} line 1: no {role} column; the header has: {found}; {fix}")


def read_interactions(path: Path, header: Header) -> dict[str, Array]:
    """Reads the columns of a table that have a role, in file order.

    Fields are never quoted: a quotation mark is a character like any other, so that one in a title swallows no rows.

    Args:
        path: The table.
        header: What :func:`read_header` found.

    Returns:
        ``user``, ``item`` and ``split`` as int64, ``rating`` as float32, ``time`` as int64 or, where the file writes
        decimals, float64.

    Raises:
        ValueError: If there are no rows, a row has more fields than the header, or a value is not what its column
            needs (the message names the line).
    """
    frame = _read_rows(path, header)
    if frame.empty:
        raise ValueError(f"{path} has a header but no rows; add the interactions below it")
    table: dict[str, Array] = {}
    for role in header.columns:
        low, high, integer, _ = _RULES[role]
        values = frame[role]
        kinds = "i" if integer else "iuf"
        if values.dtype.kind not in kinds or not values.between(low, high).all():
            raise _bad_value(path, header, role)
        table[role] = values.to_numpy(np.float32 if role == "rating" else None, copy=True)
    if "split" in table and not (table["split"] == 0).any():
        raise ValueError(f"{path}: column {header.name('split')!r} marks no row as train (0); check the labels")
    return table


def _read_rows(path: Path, header: Header, text: bool = False) -> pd.DataFrame:
    role_of = {position: role for role, position in header.columns.items()}
    names = [role_of.get(position, f"column {position}") for position in range(len(header.fields))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=header.separator,
                header=0,
                names=names,
                index_col=False,
                dtype=str if text else {name: str for name in names if name not in header.columns},
                keep_default_na=not text,
                quoting=csv.QUOTE_NONE,
                encoding="utf-8-sig",
                encoding_errors="replace",
                low_memory=False,
            )
    except OSError as error:
        raise unreadable(path, error) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        line = re.search(r"in line (\d+), saw (\d+)", str(error))
        where = f" line {line[1]}: {line[2]} fields" if line else ": rows with more fields"
        raise ValueError(
            f"{path}{where} under a header of {len(header.fields)} columns separated by {header.separator!r}; "
            "quoting is not supported, so use a separator that no field contains"
        ) from error


def _bad_value(path: Path, header: Header, role: str) -> ValueError:
    """The error about the first value of a column that breaks its rule; reads the column again, as text."""
    low, high, integer, rule = _RULES[role]
    number = _INTEGER if integer else _DECIMAL
    text = _read_rows(path, header, text=True)[role].fillna("").tolist()
    row = next(i for i, value in enumerate(text) if not (number.fullmatch(value) and low <= float(value) <= high))
    other = next((key for key in _SEPARATORS if key in text[row].strip(" ")), None)
    hint = "" if other is None else f" (is the row separated by {other!r} and the header by {header.separator!r}?)"
    return ValueError(
        f"{path} line {line_number(path, row, header.separator)}: column {header.name(role)!r} has "
        f"{one_line(text[row], 60)!r} but must be {rule}{hint}"
    )


def line_number(path: Path, row: int, separator: str) -> int:
    """The line, counted from 1, on which a data row (counted from 0) stands; blank lines hold no row."""
    blank = " \t\r\n".replace(separator, "")
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = (number for number, line in enumerate(file, start=1) if line.strip(blank))
        return next(number for count, number in enumerate(lines) if count == row + 1)


def unique_pairs(table: dict[str, Array]) -> npt.NDArray[np.intp]:
    """Positions of the rows to keep so that no user-item pair is repeated, in file order.

    The first row of a pair is kept; where its rows disagree on the split, the first of those with the smallest label,
    so that no train pair is also a test pair.

    Example:
        >>> table = {"user": np.array([0, 0, 1]), "item": np.array([5, 5, 5]), "split": np.array([2, 0, 0])}
        >>> unique_pairs(table)
        array([1, 2])
    """
    keys = (table["item"], table["user"])
    order = np.lexsort((table["split"], *keys) if "split" in table else keys)  # stable: file order within a pair
    user, item = table["user"][order], table["item"][order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    return np.sort(order[first])


def num_split_pairs(table: dict[str, Array]) -> int:
    """How many user-item pairs have rows in more than one part of the split.

    Example:
        >>> table = {"user": np.array([0, 0, 1]), "item": np.array([5, 5, 5]), "split": np.array([2, 0, 0])}
        >>> num_split_pairs(table)
        1
    """
    if "split" not in table:
        return 0
    frame = pd.DataFrame({role: table[role] for role in ("user", "item", "split")})
    return int((frame.groupby(["user", "item"])["split"].nunique() > 1).sum())


def without_repeats(table: dict[str, Array], path: Path) -> tuple[dict[str, Array], list[str]]:
    """Drops repeated pairs; notes them and the users without interactions.

    Args:
        table: As :func:`read_interactions` gives it.
        path: The file that it comes from, for the notes.
    """
    notes = []
    num_rows = len(table["user"])
    keep = unique_pairs(table)
    if len(keep) < num_rows:
        notes.append(f"{path.name}: {num_rows - len(keep)} of {num_rows} rows repeat a user-item pair and are dropped")
        several = num_split_pairs(table)
        if several:
            notes.append(
                f"{path.name}: {several} user-item pairs are in more than one of train, validation and test; each "
                "stays in the first of these"
            )
        table = {role: values[keep] for role, values in table.items()}
    return table, notes + absent_ids(path, USER, table["user"])


def absent_ids(path: Path, node_type: str, node: Array) -> list[str]:
    """Notes how many ids below the largest have no row."""
    num_nodes = int(node.max()) + 1
    num_absent = num_nodes - len(np.unique(node))
    if not num_absent:
        return []
    return [f"{path.name}: {num_absent} of {num_nodes} {node_type}s (ids 0..{num_nodes - 1}) have no interaction"]
