"""Files that are either whole or not there, and short words about files."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any


def one_line(text: str, limit: int = 120) -> str:
    """The first line of a text, shortened."""
    line = text.strip().partition("\n")[0].strip()
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def unreadable(path: Path, error: OSError) -> ValueError:
    """The error about a file or folder that cannot be read."""
    reason = error.strerror or type(error).__name__
    return ValueError(f"{path} cannot be read ({reason}); check that it is what it should be and its permissions")


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
        partial.touch()
        mode = stat.S_IMODE(partial.stat().st_mode)
        write(partial)
        os.chmod(partial, mode)  # some libraries write files that their owner alone may read
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:  # the latter is how torch reports a failed write
        partial.unlink(missing_ok=True)
        reason = error.strerror if isinstance(error, OSError) else str(error).strip().splitlines()[0]
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
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Writes a text atomically."""

    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    write_atomically(path, write)
