"""Short words about files."""

from __future__ import annotations

from pathlib import Path


def one_line(text: str, limit: int = 120) -> str:
    """The first line of a text, shortened."""
    line = text.strip().partition("\n")[0].strip()
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def unreadable(path: Path, error: OSError) -> ValueError:
    """The error about a file or folder that cannot be read."""
    reason = error.strerror or type(error).__name__
    return ValueError(f"{path} cannot be read ({reason}); check that it is what it should be and its permissions")
