"""``pyg-mmrec evaluate``."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from pyg_mmrec.cli.parser import Parser
from pyg_mmrec.cli.runs import load_run
from pyg_mmrec.evaluation import Evaluator


def evaluate_parser() -> Parser:
    """The arguments."""
    parser = Parser(usage="pyg-mmrec evaluate RUN_DIR [options]", description="Evaluate the model of a run.")
    parser.add_argument("run_dir", type=str, help="Folder that 'train' wrote.")
    parser.add_argument("--part", type=str, choices=["val", "test"], default="test", help="Held-out part.")
    parser.add_class_arguments(Evaluator, "evaluator")
    return parser.finish()


def evaluate(parser: Parser, parsed: Namespace) -> None:
    """Prints the metrics of a run's model."""
    evaluator = parser.instantiate(parsed).evaluator
    views, model, _ = load_run(Path(parsed.run_dir))
    for name, value in evaluator(model, views[1 if parsed.part == "val" else 2]).items():
        print(f"{name:>14}  {value:.6f}")
