"""What all reports need."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import pandas as pd


def require_matplotlib() -> None:
    """Raises an ImportError that says how to install matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("plots need matplotlib: pip install 'pyg-mmrec[plot]'")


def write_tables(folder: str | Path, tables: Mapping[str, pd.DataFrame]) -> Path:
    """Writes each table as ``<name>.csv``; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    return folder
