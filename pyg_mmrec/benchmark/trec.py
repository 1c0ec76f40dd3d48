"""Rankings and held-out items in the files that other evaluation tools read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch_geometric.data import HeteroData

from pyg_mmrec.evaluation import RankedLists
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils.files import write_atomically


def write_run(path: str | Path, lists: RankedLists, name: str) -> None:
    """Writes ranked lists as a TREC run, one line an item: user, ``Q0``, item, rank, score, name.

    Tools order a run by its score and break ties in their own ways. The score that is written is therefore the number
    of places from the end, so that they all read the very order that :class:`~pyg_mmrec.evaluation.Evaluator` graded.

    Args:
        path: The file.
        lists: What :meth:`Evaluator.rank <pyg_mmrec.evaluation.Evaluator.rank>` gave.
        name: Of the run, without spaces.

    Raises:
        ValueError: If the name is empty or has a space.
    """
    if not name or any(letter.isspace() for letter in name):
        raise ValueError(f"'name' must be a word without spaces (got {name!r})")
    k = lists.item.size(1)

    def lines() -> Iterator[str]:
        for user, items in zip(lists.user.tolist(), lists.item.tolist(), strict=True):
            for place, item in enumerate(items):
                if item >= 0:
                    yield f"{user} Q0 {item} {place + 1} {k - place} {name}\n"

    _write(Path(path), lines())


def write_qrels(path: str | Path, data: HeteroData) -> None:
    """Writes the held-out interactions of a view as TREC judgements, one line each: user, 0, item, 1.

    Args:
        path: The file.
        data: The validation or test view of a split.
    """
    pairs = data[INTERACTS].edge_label_index.t().unique(dim=0).tolist()
    _write(Path(path), (f"{user} 0 {item} 1\n" for user, item in pairs))


def _write(path: Path, lines: Iterator[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)

    write_atomically(path, write)
