"""Tables of items or users: features, categories, texts and images by node."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from pyg_mmrec.datasets._files import clean_features, load_matrix
from pyg_mmrec.datasets._numbering import Ints
from pyg_mmrec.datasets._tables import Source, find_columns, require_columns, shown, usual_columns
from pyg_mmrec.typing import ITEM, feature_key, mask_key

#: Where the features of a modality are: a prefix of columns, a column of lists, columns, a file, or an array.
Features: TypeAlias = str | os.PathLike[str] | Sequence[str] | npt.NDArray[Any] | Tensor

_NUMBERED = re.compile(r"x_(.+?)_([0-9]+)")
_FILES = (".npy", ".npz", ".pt")


@dataclass
class NodeColumns:
    """What the columns of a table of nodes hold."""

    id: str
    category: str | None = None
    texts: list[str] = field(default_factory=list)
    image: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)  #: column by name
    columns: dict[str, list[str]] = field(default_factory=dict)  #: columns by modality
    arrays: dict[str, Any] = field(default_factory=dict)  #: file or array by modality

    def names(self) -> list[str]:
        """All columns, each once."""
        return list(dict.fromkeys([*self.text(), *(name for names in self.columns.values() for name in names)]))

    def text(self) -> list[str]:
        """Those that hold texts, whatever they look like."""
        single = [self.id, self.category, self.image, *self.texts, *self.attributes.values()]
        return list(dict.fromkeys(name for name in single if name))


def node_columns(
    source: Source,
    node_type: str,
    columns: Mapping[str, Any],
    features: Mapping[str, Features] | None = None,
    attributes: Sequence[str] | None = None,
) -> NodeColumns:
    """Finds what the columns of a table of nodes hold.

    Raises:
        ValueError: If a column is missing or not unique.
    """
    given = columns.get(node_type)  # the interactions may call it by this name, and this table by a usual one
    own = columns if given is None or given in source.fields else {k: v for k, v in columns.items() if k != node_type}
    found = NodeColumns(find_columns(source, own, [node_type])[node_type])
    if node_type == ITEM:
        other = find_columns(source, columns, optional=["category", "image"])
        found.category, found.image = other.get("category"), other.get("image")
        text = columns.get("text")
        found.texts = usual_columns(source, "text") if text is None else [text] if isinstance(text, str) else list(text)
        require_columns(source, found.texts, "columns={'text': ...}")
        prefix = "attr_"
        usual = {name.removeprefix(prefix): name for name in source.fields if name.startswith(prefix)}
        found.attributes = usual if attributes is None else {name.removeprefix(prefix): name for name in attributes}
        require_columns(source, list(found.attributes.values()), "'attributes'")
    for modality, where in (_usual_features(source) if features is None else features).items():
        if not re.fullmatch(r"[^.\s]+", str(modality)):
            raise ValueError(f"'features' must name modalities by a word without a dot (got {modality!r})")
        if isinstance(where, np.ndarray | Tensor) or (
            isinstance(where, str | os.PathLike) and Path(where).suffix in _FILES and where not in source.fields
        ):
            found.arrays[modality] = where
        else:
            found.columns[modality] = _feature_columns(source, modality, where)
    return found


def _usual_features(source: Source) -> dict[str, Any]:
    """Columns ``x_<modality>`` of lists, and ``x_<modality>_<number>``."""
    numbered = {match[1] for name in source.fields if (match := _NUMBERED.fullmatch(name))}
    usual = {modality: f"x_{modality}_" for modality in sorted(numbered)}
    single = [name for name in source.fields if name.startswith("x_") and not _NUMBERED.fullmatch(name)]
    return usual | {name.removeprefix("x_"): name for name in single}


def _feature_columns(source: Source, modality: str, where: Any) -> list[str]:
    if not isinstance(where, str):
        names = list(where) if isinstance(where, Sequence) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise ValueError(
                f"'features' must give {modality!r} a prefix of columns, a list of columns, a file or an array "
                f"(got {where!r})"
            )
        require_columns(source, names, f"features={{{modality!r}: ...}}")
        return names
    if where in source.fields:
        return [where]
    numbered = {
        int(name[len(where) :]): name for name in source.fields if re.fullmatch(re.escape(where) + r"[0-9]+", name)
    }
    if not numbered:
        raise ValueError(
            f"{source.name} has no column {where!r} and none {where}0, {where}1, ..., as "
            f"features={{{modality!r}: ...}} says; name a prefix, a column, a list of columns or a file .npy"
        )
    return [numbered[number] for number in sorted(numbered)]


class NodeTable:
    """A table of nodes, read.

    Args:
        source: The table.
        columns: What its columns hold.
    """

    def __init__(self, source: Source, columns: NodeColumns) -> None:
        self.source, self.columns = source, columns
        self.frame = source.read(columns.names(), columns.text())

    def ids(self) -> pd.Series:
        """The id of each row."""
        return self.frame[self.columns.id]

    def check_unique(self, node: Ints) -> None:
        """Refuses two rows of one node.

        Raises:
            ValueError: About the first.
        """
        repeat = pd.Series(node).duplicated().to_numpy()
        if repeat.any():
            row = int(repeat.argmax())
            raise ValueError(
                f"{self.source.name}: column {self.columns.id!r} row {row + 1} has {shown(self.ids().iloc[row])} "
                "again; keep one row of each"
            )

    def features(self, node: Ints, size: int) -> tuple[dict[str, Tensor], list[str]]:
        """By key, the features and masks of ``size`` nodes.

        Args:
            node: ``[num_rows]``, the node of each row, -1 for none.
            size: Number of nodes.

        Returns:
            ``x_<modality>`` and, where some nodes lack it, ``mask_<modality>``; notes about what is missing.
        """
        found: dict[str, Tensor] = {}
        notes: list[str] = []
        kept = torch.from_numpy(node >= 0)
        target = torch.from_numpy(node[node >= 0])
        for modality in sorted({*self.columns.columns, *self.columns.arrays}):
            rows, mask, note = clean_features(self._matrix(modality), f"{self.source.name}: {modality!r}")
            notes += [note] if note else []
            x = torch.zeros(size, rows.size(1))
            x[target] = rows[kept]
            has = torch.zeros(size, dtype=torch.bool)
            has[target] = True if mask is None else mask[kept]
            found[feature_key(modality)] = x
            if not has.all():
                found[mask_key(modality)] = has
        return found, notes

    def _matrix(self, modality: str) -> npt.NDArray[Any]:
        """``[num_rows, channels]``, NaN where a row has none."""
        if modality in self.columns.arrays:
            given = self.columns.arrays[modality]
            if isinstance(given, Tensor):
                given = given.detach().cpu().numpy()
            array = given if isinstance(given, np.ndarray) else load_matrix(Path(given))
            if array.ndim != 2 or len(array) != len(self.frame):
                raise ValueError(
                    f"features={{{modality!r}: ...}} must have a row for each of the {len(self.frame)} rows of "
                    f"{self.source.name} (got the shape {list(array.shape)})"
                )
            return array
        names = self.columns.columns[modality]
        numeric = all(pd.api.types.is_numeric_dtype(self.frame[name].dtype) for name in names)
        if len(names) == 1 and not numeric:
            return self._lists(names[0])
        return np.stack([self._number_column(name) for name in names], axis=1)

    def _number_column(self, name: str) -> npt.NDArray[np.float64]:
        column = self.frame[name]
        values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
        bad = np.isnan(values) & column.notna().to_numpy() & (column.astype(str).str.lower() != "nan").to_numpy()
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(
                f"{self.source.name}: column {name!r} row {row + 1} has {shown(column.iloc[row])} but must be a number"
            )
        return values

    def _lists(self, name: str) -> npt.NDArray[np.float64]:
        """A column of lists, or of texts such as ``[0.5, 1.5]``."""
        rows: list[npt.NDArray[np.float64] | None] = []
        for row, value in enumerate(self.frame[name]):
            entries: Any = re.split(r"[\s,;]+", value.strip(" []()")) if isinstance(value, str) else value
            empty = (
                entries == [""] if isinstance(entries, list) else pd.api.types.is_scalar(entries) and pd.isna(entries)
            )
            try:
                rows.append(None if empty else np.asarray(entries, dtype=np.float64))
            except (TypeError, ValueError):
                raise ValueError(
                    f"{self.source.name}: column {name!r} row {row + 1} has {shown(value)} but must be a "
                    "list of numbers"
                ) from None
        widths = {vector.shape: row for row, vector in reversed(list(enumerate(rows))) if vector is not None}
        if len(widths) != 1 or any(len(shape) != 1 for shape in widths):
            found = " and ".join(f"{list(shape)} in row {row + 1}" for shape, row in sorted(widths.items()))
            raise ValueError(
                f"{self.source.name}: column {name!r} must have lists of one length (got {found or 'no list'})"
            )
        width = next(iter(widths))
        return np.stack([np.full(width, np.nan) if vector is None else vector for vector in rows])

    def labels(self, column: str, node: Ints, size: int) -> tuple[Tensor, list[str]]:
        """The values of a column as numbers by node, in the order in which they come, and their names."""
        values = self.by_node(column, node, size)
        code, names = pd.factorize(np.array([value or None for value in values], dtype=object))
        return torch.from_numpy(code.astype(np.int64)), [str(name) for name in names]

    def by_node(self, column: str, node: Ints, size: int) -> list[str]:
        """The texts of a column by node, empty where there are none."""
        values = [""] * size
        cells = self.frame[column]
        for target, value, missing in zip(node.tolist(), cells, cells.isna(), strict=True):
            if target >= 0 and not missing:
                values[target] = str(value).strip()
        return values
