"""``pyg-mmrec export``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pyg_mmrec.cli.parser import Parser
from pyg_mmrec.retrieval import Retriever, export_faiss, export_onnx, export_torch

FORMATS: dict[str, Callable[[Retriever, Path], Path]] = {
    "faiss": export_faiss,
    "onnx": export_onnx,
    "torch": export_torch,
}


def export_parser() -> Parser:
    """The arguments."""
    parser = Parser(
        usage="pyg-mmrec export RUN_DIR --format FORMAT [options]",
        description="Export the model of a run for another engine: its item vectors as an index of faiss, or its "
        "scores of all items as a program of torch.export or ONNX.",
    )
    parser.add_argument("run_dir", type=str, help="Folder that 'train' wrote.")
    parser.add_argument("--format", type=str, choices=list(FORMATS), required=True, help="The engine.")
    parser.add_argument("--output", type=str, default="", help="Folder to write (default: RUN_DIR/export).")
    return parser.finish()


def export(retriever: Retriever, run_dir: Path, name: str, output: str) -> None:
    """Writes the export and prints its path."""
    print(FORMATS[name](retriever, Path(output) if output else run_dir / "export"))
