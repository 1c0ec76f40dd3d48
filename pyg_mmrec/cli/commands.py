"""All commands, and what starts one."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import Namespace

from pyg_mmrec import __version__
from pyg_mmrec.cli.benchmark import benchmark, benchmark_parser
from pyg_mmrec.cli.compare import compare_parser, run_compare
from pyg_mmrec.cli.datasets import datasets, datasets_parser
from pyg_mmrec.cli.evaluate import evaluate, evaluate_parser
from pyg_mmrec.cli.export import export, export_parser
from pyg_mmrec.cli.parser import Parser, check_names, fail
from pyg_mmrec.cli.recommend import recommend, recommend_parser
from pyg_mmrec.cli.report import report, report_parser
from pyg_mmrec.cli.serve import serve, serve_parser
from pyg_mmrec.cli.setup import train_parser
from pyg_mmrec.cli.train import train
from pyg_mmrec.utils import keep_freed_memory

#: Parser, function and help of each command.
COMMANDS: dict[str, tuple[Callable[[], Parser], Callable[[Parser, Namespace], None], str]] = {
    "train": (train_parser, train, "train a model"),
    "evaluate": (evaluate_parser, evaluate, "evaluate the model of a run"),
    "recommend": (recommend_parser, recommend, "recommend items to users"),
    "export": (export_parser, export, "export a model for another engine"),
    "serve": (serve_parser, serve, "serve recommendations over HTTP"),
    "compare": (compare_parser, run_compare, "compare models over seeds"),
    "benchmark": (benchmark_parser, benchmark, "compare models on data sets, with a search for each"),
    "report": (report_parser, report, "write a comparison as an HTML page"),
    "datasets": (datasets_parser, datasets, "list or describe data sets"),
}


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"pyg-mmrec: warning: {' '.join(str(message).split())}\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; bad input ends it with one line and status 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    warnings.showwarning = _show_warning
    check_names(argv)
    parser = Parser(
        prog="pyg-mmrec", usage="pyg-mmrec COMMAND ...", description="Graph learning for multimodal recommendation."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subcommands(required=True)
    parsers = {name: build() for name, (build, _, _) in COMMANDS.items()}
    for name, (_, _, summary) in COMMANDS.items():
        commands.add_subcommand(name, parsers[name], help=summary)
    parsed = parser.parse_args(argv)
    name = parsed.subcommand
    keep_freed_memory()
    try:
        COMMANDS[name][1](parsers[name], parsed[name])
    except KeyboardInterrupt:
        fail("stopped")
    except BrokenPipeError:  # the reader of the output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError, ArithmeticError, MemoryError, RuntimeError) as error:
        if os.environ.get("PYG_MMREC_DEBUG"):
            raise
        fail(f"{error}" + (" (PYG_MMREC_DEBUG=1 shows where)" if isinstance(error, RuntimeError) else ""))
