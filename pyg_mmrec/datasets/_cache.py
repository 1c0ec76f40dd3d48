"""Caches of data sets that were read: keyed by content, written atomically, loaded without unpickling anything."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pyg_mmrec.utils.files import one_line, unreadable

_BLOCK = 2**20


def content_hash(files: Mapping[str, Path]) -> str:
    """SHA-256 over the names and the bytes of some files, read in blocks.

    Args:
        files: Files by a name that stays the same when they move.

    Raises:
        ValueError: If a file cannot be read.
    """
    total = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest = hashlib.sha256()
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        except OSError as error:
            raise unreadable(path, error) from error
        total.update(f"{name}\n{digest.hexdigest()}\n".encode())
    return total.hexdigest()


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
