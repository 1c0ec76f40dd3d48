"""``pyg-mmrec report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from pyg_mmrec.benchmark import default_split, prepare, write_report
from pyg_mmrec.benchmark._report_data import groups, read_comparison
from pyg_mmrec.benchmark._showcase import dataset_of, load_models
from pyg_mmrec.cli.data import add_data, chosen_split
from pyg_mmrec.cli.parser import Parser, chosen, fail
from pyg_mmrec.transforms import ModalKNNGraph, UserCooccurrence
from pyg_mmrec.typing import ITEM


def report_parser() -> Parser:
    """The arguments of ``report``."""
    parser = Parser(
        usage="pyg-mmrec report DIR [--output FILE] [--dataset NAME] [options]",
        description="Write a comparison as one HTML page: tables, tests, curves, distributions, time and memory.",
    )
    parser.add_argument("folder", type=str, metavar="DIR", help="Folder that 'benchmark' wrote.")
    parser.add_argument("--output", type=str, default="report.html", help="File to write.")
    parser.add_argument("--title", type=str, default="", help="Title of the page (default: the folder's name).")
    parser.add_argument(
        "--metrics", type=str, nargs="+", default=[], help="Test metrics (default: recall and NDCG at 10 and 20)."
    )
    parser.add_argument(
        "--baseline", type=str, default="", help="Model that the others are tested against (default: see the guide)."
    )
    parser.add_argument("--users", type=int, nargs="+", default=[], help="Whose recommendations to show.")
    parser.add_argument("--num_users", type=int, default=4, help="How many users to draw where none are named.")
    parser.add_argument("--k", type=int, default=8, help="Items that are recommended.")
    parser.add_argument("--map_items", type=int, default=300, help="Items on t-SNE maps; 0 for no maps.")
    parser.add_argument("--seed", type=int, default=0, help="Of the users and items that are drawn.")
    add_data(parser, required=False)
    parser.add_class_arguments(ModalKNNGraph, "graph", skip={"node_type"})
    parser.add_class_arguments(UserCooccurrence, "cooccurrence")
    return parser.finish()


def report(parser: Parser, parsed: Namespace) -> None:
    """Writes the page; with ``--dataset`` also what the saved models show on it."""
    folder, output = Path(parsed.folder), Path(parsed.output)
    if output.is_dir():
        fail(f"--output {output} is a folder: name a file")
    options = {name: parsed[name] for name in ("title", "num_users", "k", "map_items", "seed")}
    options |= {name: parsed[name] or None for name in ("metrics", "baseline")}
    if parsed.get("dataset") is not None:
        options |= {"users": parsed.users or None, **_shown(parser, parsed, folder)}
    elif parsed.users or parsed.split is not None:
        fail("--users and --split are for the recommendations of saved models: name the data with --dataset")
    write_report(folder, output, **options)
    print(f"report: {output} ({output.stat().st_size / 1024:.0f} KiB)")


def _shown(parser: Parser, parsed: Namespace, folder: Path) -> dict[str, Any]:
    """The views that the saved models of a data set read, and the names of its items."""
    comparison = read_comparison(folder)
    cls, arguments = chosen("dataset", parsed.dataset)
    dataset = cls(**arguments)
    data, config = dataset[0], parser.instantiate(parsed)
    split = chosen_split(parsed) or default_split(data)
    name = dataset_of(comparison, split(data))
    models = [type(model) for model in load_models(groups(comparison, name)).values()]
    views = prepare(data, models, split, config.graph, config.cooccurrence)
    text = getattr(dataset, "text", None)
    texts = [text(item) for item in range(data[ITEM].num_nodes)] if callable(text) else None
    return {"views": views, "texts": texts}
