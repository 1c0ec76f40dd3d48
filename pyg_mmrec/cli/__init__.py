"""The command ``pyg-mmrec``."""

from pyg_mmrec.cli.commands import main

__all__ = ["main"]
