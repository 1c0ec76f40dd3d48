"""What all plots need."""

from __future__ import annotations

import importlib.util


def require_matplotlib() -> None:
    """Raises an ImportError that says how to install matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("plots need matplotlib: pip install 'pyg-mmrec[plot]'")
