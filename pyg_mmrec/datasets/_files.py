"""The files of a data set: finding them, and reading features and neighbour graphs without running anything in them."""

from __future__ import annotations

import difflib
import json
import os
import pickle
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from torch import Tensor

from pyg_mmrec.utils.files import one_line, unreadable

T = TypeVar("T")

_FEATURES = re.compile(r"([^.].*)_feat\.(npy|npz|pt)")
_NEIGHBORS = re.compile(r"([^.].*)_knn([0-9]+)\.npz")


@dataclass(frozen=True)
class RawFiles:
    """The files that a data set is read from.

    Attributes:
        inter: The interaction table.
        features: The feature file of each modality, sorted by modality.
        neighbors: The neighbour graph of each modality, sorted by modality.
    """

    inter: Path
    features: dict[str, Path]
    neighbors: dict[str, Path]

    def paths(self) -> list[Path]:
        """All files, the interaction table first."""
        return [self.inter, *self.features.values(), *self.neighbors.values()]


def listing(names: Iterable[str]) -> str:
    """Some names on one line, shortened."""
    return one_line(", ".join(sorted(names)), 200) or "nothing"


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a message that offers the nearest names, empty where nothing is near."""
    near = difflib.get_close_matches(name, list(names), n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise unreadable(folder, error) from error


def find_folder(root: Path, name: str, needed: Sequence[str]) -> Path:
    """The folder ``<root>/<name>``, once it has all files that are needed.

    Args:
        root: The folder of the data sets.
        name: The data set.
        needed: Names of files in its folder.

    Raises:
        FileNotFoundError: If the folder or one of the files is missing.
        ValueError: If ``name`` is not a folder's name, or the folder cannot be read.
    """
    if not isinstance(name, str) or not name or Path(name).name != name or name == ".." or "\0" in name:
        raise ValueError(f"'name' must be the name of a folder in 'root' (got {name!r})")
    folder = root / name
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; pass the folder that holds {name}/{needed[0]} as 'root'")
    if not folder.is_dir():
        entries = _entries(root)
        folders = [entry for entry in entries if (root / entry).is_dir()]
        fix = did_you_mean(name, folders)
        if needed[0] in entries:
            fix = f"; the file {needed[0]} lies in {root} itself: pass its parent folder as 'root'"
        raise FileNotFoundError(f"no folder {folder}; {root} has the folders: {listing(folders)}{fix}")
    entries = _entries(folder)
    for file in needed:
        if file not in entries:
            fix = did_you_mean(file, entries)
            raise FileNotFoundError(f"no file {folder / file}; {folder} has: {listing(entries)}{fix}")
    return folder


def find_files(
    root: Path, name: str, modalities: Sequence[str] | None = None, num_neighbors: int | None = None
) -> RawFiles:
    """Finds the files of ``<root>/<name>`` that are to be read.

    Args:
        root: The folder of the data sets.
        name: The data set.
        modalities: The modalities to read; all that are found by default.
        num_neighbors: The ``k`` of the neighbour graphs to read; the only one there is by default.

    Raises:
        FileNotFoundError: If the folder or its interaction table is missing.
        ValueError: If ``name`` is not a folder's name, or a modality is unknown, has two feature files, or its graph is
            missing or not unique.
    """
    inter = find_folder(root, name, [f"{name}.inter"]) / f"{name}.inter"
    entries = _entries(inter.parent)
    features: dict[str, list[str]] = {}
    neighbors: dict[str, dict[int, str]] = {}
    for entry in entries:
        if match := _FEATURES.fullmatch(entry):
            features.setdefault(match[1], []).append(entry)
        elif match := _NEIGHBORS.fullmatch(entry):
            neighbors.setdefault(match[1], {})[int(match[2])] = entry
    found = sorted({*features, *neighbors})
    for modality in modalities or ():
        if modality not in found:
            raise ValueError(
                f"{inter.parent} has no {modality}_feat.npy, .npz or .pt and no {modality}_knn<k>.npz; "
                f"its modalities: {listing(found)}{did_you_mean(modality, found)}"
            )
    wanted = found if modalities is None else sorted(set(modalities))
    return RawFiles(
        inter,
        {m: inter.parent / _only_features(inter.parent, features[m]) for m in wanted if m in features},
        _choose_neighbors(inter.parent, {m: neighbors[m] for m in wanted if m in neighbors}, num_neighbors),
    )


def _only_features(folder: Path, names: list[str]) -> str:
    if len(names) > 1:
        raise ValueError(f"{folder} has {' and '.join(names)} for one modality; keep one of them")
    return names[0]


def _choose_neighbors(folder: Path, found: dict[str, dict[int, str]], k: int | None) -> dict[str, Path]:
    chosen = {}
    for modality, names in found.items():
        if k is None and len(names) > 1:
            fix = " or ".join(f"num_neighbors={size}" for size in sorted(names))
            raise ValueError(f"{folder} has {' and '.join(sorted(names.values()))}; pass {fix}")
        if k is not None and k not in names:
            raise ValueError(
                f"{folder} has no {modality}_knn{k}.npz but {listing(names.values())}; change num_neighbors"
            )
        chosen[modality] = folder / (next(iter(names.values())) if k is None else names[k])
    if k is not None and not found:
        raise ValueError(f"{folder} has no neighbour graph <modality>_knn{k}.npz to read; drop num_neighbors={k}")
    return chosen


def _parse(path: Path, load: Callable[[], T]) -> T:
    """Calls a format's reader; whatever it makes of foreign bytes becomes one line about the file."""
    try:
        return load()
    except Exception as error:  # the readers raise a dozen types
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(path, error) from error
        if isinstance(error, pickle.UnpicklingError) or "allow_pickle" in str(error):
            raise ValueError(
                f"{path} is no plain {path.suffix} file: pickled Python objects are never loaded; save a numeric array"
            ) from error
        reason = one_line(str(error)) or type(error).__name__
        raise ValueError(f"{path} is truncated or not a valid {path.suffix} file ({reason}); write it again") from error


def _load_numpy(path: Path) -> npt.NDArray[np.generic]:
    loaded = _parse(path, lambda: np.load(path, allow_pickle=False))
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded:
        names = loaded.files
        if len(names) != 1 and "feat" not in names:
            raise ValueError(f"{path} must hold one array, or one named 'feat' (got {listing(names)}); save only one")
        array: npt.NDArray[np.generic] = _parse(path, lambda: loaded[names[0] if len(names) == 1 else "feat"])
    if not isinstance(array, np.ndarray):  # what is in the archive need not be in NumPy's format
        raise ValueError(f"{path} holds no array; save one with np.savez")
    return array


def read_arrays(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, npt.NDArray[np.generic]]:
    """Reads arrays of a ``.npz`` file by name.

    Args:
        path: The file.
        names: Arrays that it must hold.
        optional: Arrays that are read where it holds them.

    Raises:
        ValueError: If the file is broken, holds Python objects or lacks an array.
    """
    loaded = _parse(path, lambda: np.load(path, allow_pickle=False))
    if isinstance(loaded, np.ndarray):
        raise ValueError(f"{path} must hold the arrays {', '.join(names)} by name; save them with np.savez")
    with loaded:
        for name in names:
            if name not in loaded.files:
                raise ValueError(f"{path} has no array {name!r} but {listing(loaded.files)}; save it with np.savez")
        wanted = [*names, *(name for name in optional if name in loaded.files)]
        arrays = _parse(path, lambda: {name: loaded[name] for name in wanted})
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # what is in the archive need not be in NumPy's format
            raise ValueError(f"{path}: {name!r} is no array; save it with np.savez")
    return arrays


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        ValueError: If it is broken.
    """
    return _parse(path, lambda: json.loads(path.read_text(encoding="utf-8-sig")))


def _load_torch(path: Path) -> npt.NDArray[np.generic]:
    tensor = _parse(path, lambda: torch.load(path, map_location="cpu", weights_only=True))
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
        kind = tensor.layout if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ValueError(f"{path} must hold one dense tensor (got {kind}); save features.to_dense() with torch.save")
    if tensor.is_floating_point():
        tensor = tensor.float()
    array: npt.NDArray[np.generic] = _parse(path, lambda: tensor.detach().numpy())
    return array


def read_features(path: Path) -> tuple[Tensor, Tensor | None, str]:
    """Reads the features of one modality, one row per item.

    Args:
        path: A ``.npy`` file, a ``.npz`` file with one array or one named ``feat``, or a ``.pt`` file with one tensor,
            of any real or integer dtype.

    Returns:
        The ``[num_items, channels]`` float32 features; the ``[num_items]`` mask of the items that have some, None if
        all have; a note about those that have none, or that all are the same, or an empty text. Rows of zeros, and rows
        with NaN or infinite values, which become zeros, count as missing.

    Raises:
        ValueError: If the file is broken, holds Python objects, or is not a numeric matrix with at least one good row.
    """
    return clean_features(load_matrix(path), str(path), path.name)


def load_matrix(path: Path) -> npt.NDArray[np.generic]:
    """The array of a ``.npy``, ``.npz`` or ``.pt`` file, see :func:`read_features`.

    Raises:
        ValueError: If the file is broken or holds Python objects.
    """
    return _load_torch(path) if path.suffix == ".pt" else _load_numpy(path)


def clean_features(
    array: npt.NDArray[np.generic], source: str, short: str | None = None
) -> tuple[Tensor, Tensor | None, str]:
    """Checks the features of one modality, one row per item, and finds what is missing; see :func:`read_features`.

    Args:
        array: The features.
        source: Where they come from, for the errors.
        short: Likewise for the notes (default: the same).

    Raises:
        ValueError: If they are not a numeric matrix with at least one good row.
    """
    short = source if short is None else short
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{source} has the dtype {array.dtype}, which is not a real number; save it as float32")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{source} must have the shape [items, channels] (got {list(array.shape)}); reshape it")
    with np.errstate(over="ignore"):
        features = np.array(array, dtype=np.float32, order="C")
    broken = ~np.isfinite(features).all(axis=1)
    features[broken] = 0
    present = (features != 0).any(axis=1)
    if present.all():
        return torch.from_numpy(features), None, _constant(short, features)
    num_missing, num_broken = int((~present).sum()), int(broken.sum())
    counts = f"{num_broken} rows with NaN or infinite values, {num_missing - num_broken} rows of zeros"
    if not present.any():
        raise ValueError(f"{source} has no usable row ({counts}); extract the features again")
    note = f"{short}: {num_missing} of {len(present)} items have no features ({counts}) and are marked as missing"
    return torch.from_numpy(features), torch.from_numpy(present), note


def _constant(source: str, features: npt.NDArray[np.float32]) -> str:
    """A note where rows tell nothing about their items."""
    if len(features) < 2 or (features != features[0]).any():
        return ""
    return f"{source}: all {len(features)} items have the same features, which tell nothing about them"


def _check_csr(matrix: Any) -> None:
    """Checks a matrix before SciPy's compiled code, which trusts the row pointers, reads it."""
    pointers = matrix.indptr
    if pointers[0] != 0 or (np.diff(pointers) < 0).any() or pointers[-1] != len(matrix.indices):
        raise ValueError("the row pointers do not fit the entries")
    matrix.check_format(full_check=True)


def read_neighbors(path: Path) -> scipy.sparse.csr_matrix[np.float32]:
    """Reads a square neighbour graph, row = item, columns = its neighbours.

    Args:
        path: A ``.npz`` file written by :func:`scipy.sparse.save_npz` in the CSR format.

    Returns:
        The matrix in float32; entries that are stored twice are summed.

    Raises:
        ValueError: If the file is broken, or is not a square CSR matrix of finite numbers.
    """
    loaded: Any = _parse(path, lambda: scipy.sparse.load_npz(path))
    if loaded.format != "csr":
        raise ValueError(f"{path} must hold a CSR matrix (got {loaded.format}); save matrix.tocsr()")
    if loaded.dtype.kind not in "fiub":
        raise ValueError(f"{path} has the dtype {loaded.dtype}, which is not a real number; save it as float32")
    _parse(path, lambda: _check_csr(loaded))
    with np.errstate(over="ignore"):
        matrix = scipy.sparse.csr_matrix(loaded, dtype=np.float32)
    matrix.sum_duplicates()
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{path} must be square, one row and one column per item (got {list(matrix.shape)})")
    bad = np.flatnonzero(~np.isfinite(matrix.data))
    if bad.size:
        row = int(np.searchsorted(matrix.indptr, bad[0], side="right")) - 1
        raise ValueError(f"{path} row {row}: a weight is {matrix.data[bad[0]]}; compute the graph without NaN rows")
    return matrix
