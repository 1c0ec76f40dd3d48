"""The file that a command writes its table to."""

from __future__ import annotations

from pathlib import Path

from pyg_mmrec.cli.parser import fail


def check_output(path: str) -> None:
    """Refuses a file that cannot be written, before any work is done for it."""
    if not path:
        return
    existed = Path(path).exists()
    try:
        Path(path).open("a").close()
    except OSError as error:
        fail(f"--output {path} cannot be written: name a file in a folder that exists ({error.strerror})")
    if not existed:
        Path(path).unlink()


def is_stream(path: Path) -> bool:
    """Whether a path is a terminal, a pipe or a device."""
    return path.exists() and not path.is_file() and not path.is_dir()
