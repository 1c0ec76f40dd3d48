"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

#: Raised when the meaning of a checkpoint's entries changes.
FORMAT = 3


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Writes beside the target, flushes to disk and renames: readers see the old file or the new one, whole.

    Args:
        path: The target.
        write: Called with the path to write to, in the same folder.

    Raises:
        OSError: If it cannot be written, such as on a full disk; what was there before is kept.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # the latter is how torch reports a failed write
        partial.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise OSError(
            f"cannot write '{path}' ({reason}): what was there before is kept; make room or give access and go on"
        ) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Makes a rename durable where folders can be opened (not on Windows)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON atomically, readable by people."""
    text = json.dumps(content, indent=2, default=str) + "\n"
    write_atomically(path, lambda partial: _write_text(partial, text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def load_checkpoint(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Loads a training checkpoint of the same settings; tensors and plain values only, nothing is executed.

    Args:
        path: The file.
        settings: What the checkpoint must have been written with.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint, is of another format, or was written with other settings.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint '{path}' to resume from: start without 'resume'")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler fails in any way on damaged bytes
        raise ValueError(
            f"'{path}' is not a readable checkpoint ({type(error).__name__}): it is damaged or holds more than tensors "
            f"and plain values; delete it and start a new run"
        ) from None
    written = checkpoint.get("settings") if isinstance(checkpoint, dict) else None
    if not isinstance(written, dict) or checkpoint.get("format") != FORMAT:
        raise ValueError(f"'{path}' is not a checkpoint of format {FORMAT}: start a new run")
    for key in sorted(written.keys() | settings.keys(), key=str):
        if repr(written.get(key)) != repr(settings.get(key)):
            raise ValueError(
                f"'{path}' was written with {key} = {written.get(key)!r}, not {settings.get(key)!r}: resume with the "
                f"settings of the run or start a new one"
            )
    return checkpoint
