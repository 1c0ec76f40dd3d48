"""Recommendations for many users as tables on disk."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from tqdm import tqdm

from pyg_mmrec.retrieval.retriever import Retriever
from pyg_mmrec.typing import ITEM, USER
from pyg_mmrec.utils.checks import check_flag, check_int
from pyg_mmrec.utils.files import write_atomically, write_json
from pyg_mmrec.utils.hashing import tensor_hash

#: Ends of file names that mean Parquet.
PARQUET = (".parquet", ".pq")
#: Raised when the meaning of a job's parts changes.
FORMAT = 1
ROWS_AT_ONCE = 2**20


def recommendation_tables(
    retriever: Retriever,
    user: Tensor | None = None,
    k: int = 10,
    exclude_seen: bool = True,
    names: Sequence[str] | None = None,
) -> Iterator[pd.DataFrame]:
    """The k best items of each user as rows ``user``, ``rank`` from 1, ``item``, ``score``, a block of users at a time.

    Users and items are called by their own ids where the retriever has ids. A user with fewer than k items left gets
    fewer rows.

    Args:
        retriever: Ranks the items.
        user: ``[n]`` user nodes, in the order of the rows (default: all).
        k: Items for each user (default: 10).
        exclude_seen: Leave out what a user has had (default: True).
        names: ``[n]`` What the rows call the users, where some have no node (default: as said).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from pyg_mmrec.models import Popularity
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 3
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 1, 1], [2, 2, 0]])
        >>> pd.concat(recommendation_tables(Retriever(Popularity.from_data(data), data), k=1))
           user  rank  item  score
        0     0     1     0    1.0
        1     1     1     1    0.0
    """
    own = _names(retriever)
    user = torch.arange(retriever.num_users) if user is None else user
    retriever.check_k(k)
    if names is not None and len(names) != user.numel():
        raise ValueError(f"'names' must have one for each of the {user.numel()} users (got {len(names)})")
    if names is None and (user < 0).any():
        raise ValueError("'names' is missing: users of whom nothing is known, whose node is -1, need it")
    users = own[USER][user.numpy()] if names is None else np.array(names, dtype=object)
    rank = np.arange(1, k + 1, dtype=np.int32)
    for block, called in zip(user.split(retriever.block_size), _split(users, retriever.block_size), strict=True):
        scores, items = retriever(block, k, exclude_seen)
        kept = (items >= 0).cpu().flatten().numpy()
        columns = {
            "user": called.repeat(k),
            "rank": np.tile(rank, block.numel()),
            "item": own[ITEM][items.cpu().flatten().numpy()],
            "score": scores.float().cpu().flatten().numpy(),
        }
        yield pd.DataFrame({name: column[kept] for name, column in columns.items()})


def write_recommendations(
    retriever: Retriever,
    path: str | Path,
    user: Tensor | None = None,
    k: int = 10,
    exclude_seen: bool = True,
    part_size: int = 65_536,
    names: Sequence[str] | None = None,
) -> None:
    """Writes the rows of :func:`recommendation_tables` into a file, which is whole or not there.

    Finished parts are kept in the hidden folder ``.NAME.parts`` beside it until the file is complete, so the same call
    goes on after a job that was killed. The parts of another job are discarded. Memory does not grow with the number of
    users; on disk the parts and the file take twice the file's size for a while.

    Args:
        retriever: Ranks the items.
        path: The file; Parquet where its name ends with ``.parquet`` or ``.pq`` (extra ``tables``), else CSV.
        user: ``[n]`` user nodes, in the order of the rows (default: all).
        k: Items for each user (default: 10).
        exclude_seen: Leave out what a user has had (default: True).
        part_size: Users of a part (default: 65,536).
        names: ``[n]`` What the rows call the users, where some have no node.

    Raises:
        ImportError: If pyarrow is needed and not installed.
        OSError: If the file cannot be written; what was there before is kept.
        ValueError: If an argument is out of range, or another process writes the file.
    """
    path = Path(path)
    check_int(1, part_size=part_size)
    check_flag(exclude_seen=exclude_seen)
    retriever.check_k(k)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder of '{path}' is not there: make it first")
    is_parquet = path.suffix.lower() in PARQUET
    if is_parquet:
        _import_pyarrow()
    user = torch.arange(retriever.num_users) if user is None else user
    job = _job(retriever, user, names, k, exclude_seen, is_parquet, part_size)
    with _parts_of(path, job) as parts, tqdm(total=user.numel(), unit="user", disable=None) as bar:
        files = []
        for number, some in enumerate(user.split(part_size)):
            files.append(parts / f"{number:06d}")
            if not files[-1].exists():
                called = None if names is None else names[number * part_size :][:part_size]
                tables = recommendation_tables(retriever, some, k, exclude_seen, called)
                write_atomically(files[-1], partial(_write_parquet if is_parquet else _write_csv, tables))
            bar.update(some.numel())
        write_atomically(path, partial(_join_parquet if is_parquet else _join_csv, files))


@contextmanager
def _parts_of(path: Path, job: dict[str, Any]) -> Iterator[Path]:
    """The folder of a job's parts, without those of another job; removed once the job is done."""
    parts = path.with_name(f".{path.name}.parts")
    parts.mkdir(exist_ok=True)
    try:
        with FileLock(parts / ".lock", timeout=0):
            _keep_own(parts, job)
            yield parts
            shutil.rmtree(parts)
    except Timeout:
        raise ValueError(f"'{path}' is being written by another process: wait until it ends") from None


def _keep_own(parts: Path, job: dict[str, Any]) -> None:
    """Removes the parts of another job."""
    path = parts / "job.json"
    try:
        same = json.loads(path.read_text(encoding="utf-8")) == job
    except (OSError, ValueError):
        same = False
    if not same:
        for other in parts.glob("[!.]*"):
            other.unlink()
        write_json(path, job)


def _split(users: Any, size: int) -> Iterator[Any]:
    """Pieces of an array."""
    return (users[start : start + size] for start in range(0, max(len(users), 1), size))


def _names(retriever: Retriever) -> dict[str, Any]:
    """Arrays of the ids by node."""
    sizes = {USER: retriever.num_users, ITEM: retriever.num_items}
    if retriever.ids is None:
        return {node_type: np.arange(size) for node_type, size in sizes.items()}
    every = {node_type: retriever.ids.of(node_type, range(size)) for node_type, size in sizes.items()}
    return {key: np.array(ids, dtype=object if isinstance(ids[0], str) else np.int64) for key, ids in every.items()}


def _job(
    retriever: Retriever,
    user: Tensor,
    names: Sequence[str] | None,
    k: int,
    exclude_seen: bool,
    is_parquet: bool,
    part_size: int,
) -> dict[str, Any]:
    """What the parts of a job depend on."""
    tensors = [value for value in retriever.model.state_dict().values() if isinstance(value, Tensor)]
    tensors += [value for value in retriever.representations[:2] if value is not None]
    ids = None
    if retriever.ids is not None or names is not None:
        called = [list(own) for own in _names(retriever).values()], names
        ids = hashlib.sha256(repr(called).encode()).hexdigest()
    settings = {
        "k": k,
        "fallback": retriever.fallback,
        "exclude_seen": exclude_seen,
        "is_parquet": is_parquet,
        "part_size": part_size,
    }
    return {
        "format": FORMAT,
        "content": tensor_hash(*(value.detach() for value in tensors), *retriever.seen, user),
        "ids": ids,
        "fallback": retriever.fallback,
        **settings,
    }


def _write_parquet(tables: Iterator[pd.DataFrame], path: Path) -> None:
    """Writes a part; its first table says what the columns hold."""
    pyarrow, parquet = _import_pyarrow()
    first = next(tables)
    names = {name: pyarrow.int64() if first[name].dtype == np.int64 else pyarrow.string() for name in (USER, ITEM)}
    schema = {"user": names[USER], "rank": pyarrow.int32(), "item": names[ITEM], "score": pyarrow.float32()}
    with parquet.ParquetWriter(path, pyarrow.schema(schema.items())) as writer:
        for table in chain([first], tables):
            writer.write_table(pyarrow.Table.from_pandas(table, pyarrow.schema(schema.items()), preserve_index=False))


def _write_csv(tables: Iterator[pd.DataFrame], path: Path) -> None:
    """Writes a part, without the names of the columns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        for table in tables:
            table.to_csv(file, index=False, header=False, lineterminator="\n")


def _join_parquet(files: list[Path], path: Path) -> None:
    """One file of all parts."""
    _, parquet = _import_pyarrow()
    with parquet.ParquetWriter(path, parquet.read_schema(files[0])) as writer:
        for file in files:
            with parquet.ParquetFile(file) as part:
                for rows in part.iter_batches(ROWS_AT_ONCE):
                    writer.write_batch(rows)


def _join_csv(files: list[Path], path: Path) -> None:
    """One file of all parts."""
    with path.open("wb") as target:
        target.write(b"user,rank,item,score\n")
        for file in files:
            with file.open("rb") as source:
                shutil.copyfileobj(source, target)


def _import_pyarrow():  # type: ignore[no-untyped-def]
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Parquet files need pyarrow; install it with: pip install 'pyg-mmrec[tables]', or write a .csv file"
        ) from error
    return pyarrow, pyarrow.parquet
