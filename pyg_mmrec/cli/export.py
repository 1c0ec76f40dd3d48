"""``pyg-mmrec export``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jsonargparse import Namespace

from pyg_mmrec.cli.parser import Parser
from pyg_mmrec.cli.runs import load_run
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


def export(parser: Parser, parsed: Namespace) -> None:
    """Writes the export and prints its path."""
    run_dir = Path(parsed.run_dir)
    (view, _, _), model, ids = load_run(run_dir)
    folder = Path(parsed.output) if parsed.output else run_dir / "export"
    print(FORMATS[parsed.format](Retriever(model, view, ids), folder))
