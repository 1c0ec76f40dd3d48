"""Tables of any source, in memory or in files: their columns and their rows, a chunk at a time."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from pyg_mmrec.datasets._files import did_you_mean, listing
from pyg_mmrec.utils.files import one_line, unreadable

#: A table in memory, or the path of one as CSV or Parquet.
Table: TypeAlias = pd.DataFrame | str | os.PathLike[str]

#: What a column can mean, with the names (lower case, letters and digits only) under which it is found.
ROLES: dict[str, frozenset[str]] = {
    "user": frozenset({"user", "userid", "uid", "customer", "customerid", "reviewerid"}),
    "item": frozenset({"item", "itemid", "iid", "product", "productid", "movieid", "asin"}),
    "rating": frozenset({"rating", "ratings"}),
    "time": frozenset({"time", "timestamp", "unixreviewtime"}),
    "split": frozenset({"split", "xlabel"}),
    "category": frozenset({"category", "maincategory", "genre"}),
    "text": frozenset({"title", "description", "text"}),
    "image": frozenset({"image", "imagepath", "imagefile"}),
}

_SEPARATORS = ("\t", ",", ";", "|", " ")
_PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Source:
    """A table that can be read in chunks.

    Attributes:
        name: What messages call it.
        fields: The names of its columns.
        frame: The table, where it is in memory.
        path: Its file, where it is in one.
        separator: The character between two fields of a CSV file.
    """

    name: str
    fields: tuple[str, ...]
    frame: pd.DataFrame | None = None
    path: Path | None = None
    separator: str = ""

    @property
    def typed(self) -> bool:
        """Whether the source knows texts from numbers, which CSV files do not."""
        return not self.separator

    def chunks(self, columns: Sequence[str], text: Sequence[str], size: int) -> Iterator[pd.DataFrame]:
        """The rows in order, ``size`` or fewer at a time.

        Args:
            columns: The columns to read.
            text: Those of them that a CSV file holds as texts, whatever they look like.
            size: Rows at a time.
        """
        if self.frame is not None:
            for start in range(0, len(self.frame), size):
                yield self.frame.iloc[start : start + size][list(columns)].reset_index(drop=True)
            return
        assert self.path is not None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                read = self._csv if self.separator else self._parquet
                yield from read(self.path, list(columns), text, size)
        except OSError as error:
            raise unreadable(self.path, error) from error
        except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
            line = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
            found = f" line {line[2]} has {line[3]} fields" if line else " has rows with more fields"
            raise ValueError(
                f"{self.name}{found} under a header of {len(self.fields)} columns separated by {self.separator!r}; "
                "quote fields that hold the separator"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.name} is no UTF-8 text ({error.reason}); save it as UTF-8") from error

    def _csv(self, path: Path, columns: list[str], text: Sequence[str], size: int) -> Iterator[pd.DataFrame]:
        reader = pd.read_csv(
            path,
            sep=self.separator,
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values=[""],
            index_col=False,
            encoding="utf-8-sig",
            low_memory=False,
            chunksize=size,
        )
        with reader:
            for chunk in reader:
                yield chunk[columns].reset_index(drop=True)

    def _parquet(self, path: Path, columns: list[str], text: Sequence[str], size: int) -> Iterator[pd.DataFrame]:
        with _parquet_file(path) as file:
            for batch in file.iter_batches(batch_size=size, columns=columns):
                yield batch.to_pandas()

    def read(self, columns: Sequence[str], text: Sequence[str]) -> pd.DataFrame:
        """All rows; see :meth:`chunks`."""
        size = 2**31 if self.frame is None else max(len(self.frame), 1)
        parts = list(self.chunks(columns, text, size))
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(columns))


def shown(value: Any) -> str:
    """A cell as messages show it."""
    return one_line(repr(value.item() if isinstance(value, np.generic) else value), 60)


def open_table(argument: str, table: Any) -> Source:
    """Finds the columns of a table.

    Args:
        argument: Name of the argument that gives it.
        table: A data frame or a path.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is neither, or a file without a header, or not in its format.
        ImportError: If a Parquet file is to be read without pyarrow.
    """
    if isinstance(table, pd.DataFrame):
        if not all(isinstance(name, str) for name in table.columns) or table.columns.has_duplicates:
            raise ValueError(f"{argument!r} must have texts that differ as names of its columns; rename its columns")
        return Source(f"{argument!r}", tuple(table.columns), frame=table)
    if not isinstance(table, str | os.PathLike) or not os.fspath(table) or "\0" in os.fsdecode(table):
        raise ValueError(f"{argument!r} must be a DataFrame or the path of a table (got {table!r})")
    path = Path(table)
    if not path.is_file():
        raise FileNotFoundError(f"{argument!r}: there is no file '{path}'")
    if path.suffix.lower() in _PARQUET:
        with _parquet_file(path) as file:
            return Source(str(path), tuple(file.schema_arrow.names), path=path)
    return _open_csv(path)


def _open_csv(path: Path) -> Source:
    """Finds the separator that makes most columns of the header."""
    headers = {}
    for separator in _SEPARATORS:
        try:
            header = pd.read_csv(path, sep=separator, nrows=0, dtype=str, index_col=False, encoding="utf-8-sig")
        except OSError as error:
            raise unreadable(path, error) from error
        except (ValueError, EOFError) as error:  # pandas' own errors, and of decoding, are among the first
            raise ValueError(
                f"{path} has no header line that can be read ({one_line(str(error))}); save it as CSV in UTF-8, or as "
                "Parquet"
            ) from error
        headers[separator] = tuple(header.columns)
    separator = max(_SEPARATORS, key=lambda key: len(headers[key]))
    return Source(str(path), headers[separator], path=path, separator=separator)


def _parquet_file(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(f"'{path}' needs pyarrow; install it with: pip install 'pyg-mmrec[tables]'") from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} is no valid Parquet file ({one_line(str(error))}); write it again") from error
    except OSError as error:
        raise unreadable(path, error) from error


def check_columns(columns: Any) -> dict[str, str | list[str]]:
    """The ``columns`` argument, from roles to names.

    Raises:
        ValueError: If it is no such dictionary or has an unknown role.
    """
    if columns is None:
        return {}
    if not isinstance(columns, Mapping):
        raise ValueError(f"'columns' must be a dictionary such as {{'user': 'buyer'}} (got {columns!r})")
    for role, name in columns.items():
        if role not in ROLES:
            hint = did_you_mean(str(role), ROLES)
            raise ValueError(f"'columns' has the unknown key {role!r}; the keys are {', '.join(ROLES)}{hint}")
        names = name if role == "text" and isinstance(name, Sequence) and not isinstance(name, str) else [name]
        if not all(isinstance(entry, str) for entry in names):
            raise ValueError(f"'columns' must name the {role} column by a text (got {name!r})")
    return dict(columns)


def find_columns(
    source: Source, columns: Mapping[str, Any], needed: Sequence[str] = (), optional: Sequence[str] = ()
) -> dict[str, str]:
    """The names of the columns with some roles.

    Args:
        source: The table.
        columns: Names by role that the user gave; a role that is not there is found by its usual names.
        needed: Roles that the table must have.
        optional: Roles that it may have.

    Raises:
        ValueError: If a role is missing or not unique.
    """
    found: dict[str, str] = {}
    for role in (*needed, *optional):
        if role in columns:
            require_columns(source, [columns[role]], f"columns={{{role!r}: ...}}")
            found[role] = columns[role]
            continue
        matches = usual_columns(source, role)
        if len(matches) > 1:
            raise ValueError(
                f"{source.name}: {' and '.join(matches)} can both be the {role} column; name one: "
                f"columns={{{role!r}: ...}}"
            )
        if matches:
            found[role] = matches[0]
        elif role in needed:
            raise ValueError(
                f"{source.name} has no {role} column but {listing(source.fields)}; name it: columns={{{role!r}: ...}}"
            )
    return found


def usual_columns(source: Source, role: str) -> list[str]:
    """The columns with a usual name of a role; case, punctuation and a type suffix do not matter."""
    return [name for name in source.fields if re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower()) in ROLES[role]]


def require_columns(source: Source, names: Sequence[str], given: str) -> None:
    """Refuses names of columns that a table lacks.

    Raises:
        ValueError: About the first.
    """
    for name in names:
        if name not in source.fields:
            hint = did_you_mean(name, source.fields)
            raise ValueError(
                f"{source.name} has no column {name!r}, as {given} says, but {listing(source.fields)}{hint}"
            )
