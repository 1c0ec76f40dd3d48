"""The record of finished runs."""

from __future__ import annotations

import datetime
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock

from pyg_mmrec.training.run_folder import environment
from pyg_mmrec.utils.files import one_line, unreadable, write_atomically

#: How pandas reads the very floats that it wrote; from 3.1 on it does so by itself.
_AT_LEAST_3_1 = tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1)
EXACT: dict[str, Any] = {} if _AT_LEAST_3_1 else {"float_precision": "round_trip"}


class Ledger:
    """A CSV file with one row for each finished run: what is in it is not run again.

    A comparison that is stopped, or killed, goes on where it was. Several processes may share one file.

    Args:
        path: The file; made, with its folder, when the first run is finished.
        key: Columns that tell one run from another, such as data set, model, arguments and seed.

    Raises:
        ValueError: If the file is there and cannot be read or lacks one of the columns.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     ledger = Ledger(Path(folder, 'runs.csv'), key=['model', 'seed'])
        ...     first = ledger.run({'model': 'SEA', 'seed': 0}, lambda: {'recall': 0.25})
        ...     again = ledger.run({'model': 'SEA', 'seed': 0}, lambda: {'recall': 0.75})
        >>> first['recall'], again['recall']
        (0.25, 0.25)
    """

    def __init__(self, path: str | Path, key: Sequence[str]) -> None:
        self.path = Path(path)
        self.key = list(key)
        self.rows()

    def rows(self) -> pd.DataFrame:
        """All finished runs, in the order in which they ended."""
        return self._table(self._content())

    def find(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The row of a run, None if it is not there.

        Args:
            key: A value for each column of the key; mappings count as JSON.

        Raises:
            ValueError: If ``key`` has other columns.
        """
        if set(key) != set(self.key):
            raise ValueError(f"'key' must have {', '.join(self.key)} (got {', '.join(key)})")
        content = self._content()
        as_text = self._table(content, dtype=dict.fromkeys(self.key, str), keep_default_na=False)
        same = (as_text[self.key] == pd.Series({name: self.text(key[name]) for name in self.key})).all(axis=1)
        rows = self._table(content)[same].to_dict("records")
        return {str(name): value for name, value in rows[0].items()} if rows else None

    def run(self, key: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """The row of a run, which is made if it is not there.

        The row has the key, what ``make`` gives, and the date, the threads and the versions of torch and PyG.

        Args:
            key: What tells the run, as in :meth:`find`.
            make: Does the run.
        """
        found = self.find(key)
        if found is not None:
            return found
        versions = environment()["versions"]
        row = dict(make())
        row |= {name: self.text(value) if isinstance(value, Mapping) else value for name, value in key.items()}
        row |= {"date": datetime.date.today().isoformat(), "threads": torch.get_num_threads()}
        row |= {"torch": versions["torch"], "torch_geometric": versions["torch-geometric"]}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            known = self.find(key)  # by another process, in the meantime
            if known is None:
                table = pd.DataFrame([*self.rows().to_dict("records"), row])
                write_atomically(self.path, lambda path: table.to_csv(path, index=False))
        return known or row

    def rewrite(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        """Replaces the rows by what a function makes of them, while no other process writes.

        Args:
            change: Gets the rows of :meth:`rows`; where it gives the same, nothing is written.
        """
        with FileLock(f"{self.path}.lock") if self.path.exists() else nullcontext():
            rows = self.rows()
            table = change(rows)
            if not table.equals(rows):
                write_atomically(self.path, lambda path: table.to_csv(path, index=False))

    @staticmethod
    def text(value: Any) -> str:
        """A value of the key as the file has it: a mapping as JSON."""
        return json.dumps(dict(value), sort_keys=True) if isinstance(value, Mapping) else str(value)

    def _content(self) -> str:
        """The file's text; that of a table without rows where there is none."""
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ",".join(self.key)
        except OSError as error:
            raise unreadable(self.path, error) from None

    def _table(self, content: str, **options: Any) -> pd.DataFrame:
        """The file's text as a table."""
        try:
            table: pd.DataFrame = pd.read_csv(io.StringIO(content), **EXACT, **options)
        except ValueError as error:  # pandas' own errors are among these
            raise ValueError(
                f"{self.path} is no table of runs ({one_line(str(error))}): repair it, or move it away to begin anew"
            ) from None
        if missing := [name for name in self.key if name not in table]:
            raise ValueError(
                f"{self.path} lacks the columns {', '.join(missing)}: it is the record of another comparison, choose "
                "another file"
            )
        return table
