"""``pyg-mmrec recommend``: where the rows go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from pyg_mmrec.retrieval import Retriever, recommendation_tables, write_recommendations


def write(
    retriever: Retriever, user: Tensor, k: int, exclude_seen: bool, names: Sequence[str] | None, output: str
) -> None:
    """Writes recommendations to a file, or as CSV to standard output, a pipe or a device."""
    path = Path(output)
    if output and (path.is_file() or not path.exists()):
        write_recommendations(retriever, path, user, k, exclude_seen, names=names)
        return
    tables = recommendation_tables(retriever, user, k, exclude_seen, names)
    for number, table in enumerate(tables):
        table.to_csv(output or sys.stdout, index=False, header=number == 0, mode="w" if number == 0 else "a")
