"""``pyg-mmrec datasets``."""

from __future__ import annotations

import inspect

from jsonargparse import Namespace

from pyg_mmrec.benchmark import default_split
from pyg_mmrec.cli.data import add_data, chosen_split
from pyg_mmrec.cli.parser import DATASETS, Parser, chosen, plain
from pyg_mmrec.typing import INTERACTS, ITEM
from pyg_mmrec.utils import modalities, num_users_items, similar_modalities


def datasets_parser() -> Parser:
    """The arguments."""
    parser = Parser(
        usage="pyg-mmrec datasets [--dataset NAME] [options]", description="List the data sets, or describe one."
    )
    add_data(parser, required=False)
    return parser.finish()


def datasets(parser: Parser, parsed: Namespace) -> None:
    """Prints the data sets, or the facts of one."""
    if parsed.get("dataset") is None:
        for name, dataset in DATASETS.items():
            print(f"{name:>16}  {plain((inspect.getdoc(dataset) or '').splitlines()[0])}")
        return
    cls, arguments = chosen("dataset", parsed.dataset)
    data = cls(**arguments)[0]
    num_users, num_items = num_users_items(data)
    split = chosen_split(parsed) or default_split(data)
    parts = [view[INTERACTS].edge_label_index.size(1) for view in split(data)]
    facts = {
        "users": f"{num_users:,}",
        "items": f"{num_items:,}",
        "interactions": f"{data[INTERACTS].edge_index.size(1):,}",
        "split": f"{split}: train {parts[0]:,}, validation {parts[1]:,}, test {parts[2]:,}",
        "features": ", ".join(f"{name} {data[ITEM][f'x_{name}'].size(1)}" for name in modalities(data)) or "none",
        "item graphs": ", ".join(similar_modalities(data)) or "none",
    }
    for name, fact in facts.items():
        print(f"{name:>14}  {fact}")
