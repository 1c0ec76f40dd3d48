"""``pyg-mmrec recommend``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import Namespace
from torch import Tensor

from pyg_mmrec.cli.output import check_output, is_stream
from pyg_mmrec.cli.own_ids import user_nodes
from pyg_mmrec.cli.parser import Parser
from pyg_mmrec.cli.runs import load_run
from pyg_mmrec.retrieval import Retriever, recommendation_tables, write_recommendations
from pyg_mmrec.utils import num_users_items


def recommend_parser() -> Parser:
    """The arguments."""
    parser = Parser(
        usage="pyg-mmrec recommend RUN_DIR [options]",
        description="Recommend items with the model of a run, as rows of user, rank, item, score.",
    )
    parser.add_argument("run_dir", type=str, help="Folder that 'train' wrote.")
    parser.add_argument(
        "--users",
        type=str,
        nargs="+",
        default=[],
        help="Users, by the ids of the tables that the run was trained on, or by number (default: all).",
    )
    parser.add_argument("--k", type=int, default=10, help="Items for each user.")
    parser.add_argument(
        "--fallback",
        type=str,
        choices=["none", "popular", "recent"],
        default="none",
        help="What users without train interactions get, also unknown ones: popular items, of all time or of late.",
    )
    parser.add_argument("--include_seen", action="store_true", help="Also items of the user's train interactions.")
    parser.add_argument(
        "--output",
        type=str,
        default="",
        help="File to write; Parquet if its name ends with .parquet, else CSV (default: standard output).",
    )
    return parser.finish()


def recommend(parser: Parser, parsed: Namespace) -> None:
    """Writes or prints the recommendations."""
    check_output(parsed.output)
    (view, _, _), model, ids = load_run(Path(parsed.run_dir))
    fallback = None if parsed.fallback == "none" else parsed.fallback
    node = user_nodes(parsed.users, num_users_items(view)[0], ids, fallback)
    names = parsed.users if (node < 0).any() else None
    retriever = Retriever(model, view, ids, fallback=fallback)
    _write(retriever, node, parsed.k, not parsed.include_seen, names, parsed.output)


def _write(
    retriever: Retriever, user: Tensor, k: int, exclude_seen: bool, names: Sequence[str] | None, output: str
) -> None:
    """Writes recommendations to a file, or as CSV to standard output, a pipe or a device."""
    path = Path(output)
    if output and not is_stream(path):
        write_recommendations(retriever, path, user, k, exclude_seen, names=names)
        return
    tables = recommendation_tables(retriever, user, k, exclude_seen, names)
    for number, table in enumerate(tables):
        table.to_csv(output or sys.stdout, index=False, header=number == 0, mode="w" if number == 0 else "a")
