"""Caches of data sets that were read: keyed by content, written atomically, loaded without unpickling anything."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pyg_mmrec.utils.files import one_line, unreadable, write_json
from pyg_mmrec.utils.hashing import file_digest

#: Nanoseconds after which a change of a file is sure to change its time.
_SETTLED = 2 * 10**9


def content_hash(files: Mapping[str, Path], digest: Callable[[Path], str] = file_digest) -> str:
    """SHA-256 over the names and the bytes of some files.

    Args:
        files: Files by a name that stays the same when they move.
        digest: Gives the SHA-256 of a file's bytes (default: reads them).

    Raises:
        ValueError: If a file cannot be read.
    """
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        total.update(f"{name}\n{digest(path)}\n".encode())
    return total.hexdigest()


class KeptDigests:
    """Digests of large files, kept beside the cache for as long as size and time of a file stay what they were.

    Args:
        path: The file that keeps them; one that is missing, damaged or cannot be written counts as empty.
        anew: Whether to read the files although their digests are kept.
    """

    def __init__(self, path: Path, anew: bool = False) -> None:
        self.path = path
        self._kept = {} if anew else self._load()

    def __call__(self, file: Path) -> str:
        """The SHA-256 of the bytes of a file.

        Raises:
            ValueError: If the file cannot be read.
        """
        try:
            state = file.stat()
        except OSError as error:
            raise unreadable(file, error) from error
        mark = [state.st_size, state.st_mtime_ns]
        place = str(file.absolute())
        kept = self._kept.get(place)
        if isinstance(kept, list) and len(kept) == 3 and kept[:2] == mark and isinstance(kept[2], str):
            return kept[2]
        settled = time.time_ns() - state.st_mtime_ns > _SETTLED  # a later change shows in the time
        digest = file_digest(file)
        if settled:
            self._kept[place] = [*mark, digest]
            self._save()
        return digest

    def _load(self) -> dict[str, Any]:
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return kept if isinstance(kept, dict) else {}

    def _save(self) -> None:
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self._kept)


def options_hash(**options: Any) -> str:
    """SHA-256 of some keyword arguments that JSON can write."""
    return hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()


def _writable(folder: Path) -> bool:
    """Whether a folder may be written to; one without any write permission stays untouched, whoever asks."""
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK | os.X_OK)


def cache_folder(raw_folder: Path, cache_dir: str | os.PathLike[str] | None) -> Path:
    """Where the cache of a raw folder belongs.

    That is ``cache_dir`` where it is given, else ``<raw_folder>/processed``, or, where that cannot be written,
    ``~/.cache/pyg_mmrec/<hash of the absolute folder>``.
    """
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    processed = raw_folder / "processed"
    if _writable(processed if processed.is_dir() else raw_folder):
        return processed
    digest = hashlib.sha256(str(raw_folder.resolve()).encode()).hexdigest()
    return Path.home() / ".cache" / "pyg_mmrec" / digest[:16]


def save_cache(path: Path, key: str, content: dict[str, Any]) -> None:
    """Writes a dictionary of tensors and plain values; a reader sees all of the file or none.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with part.open("xb") as file:
            torch.save({"key": key, **content}, file)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load_cache(path: Path, key: str) -> dict[str, Any]:
    """Loads what :func:`save_cache` wrote.

    Raises:
        ValueError: If the file is broken, holds anything but tensors and plain values, or belongs to another key.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader raises a dozen types on foreign bytes
        raise ValueError(one_line(str(error)) or type(error).__name__) from error
    if not isinstance(content, dict) or content.get("key") != key:
        raise ValueError("it belongs to something else")
    return content
