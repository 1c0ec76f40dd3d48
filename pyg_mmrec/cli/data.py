"""The arguments that choose a data set and its split."""

from __future__ import annotations

from jsonargparse import Namespace

from pyg_mmrec.cli.parser import CALLBACKS, DATASETS, SPLITS, Parser, chosen
from pyg_mmrec.transforms.split import InteractionSplit


def add_data(parser: Parser, required: bool = True) -> None:
    """Adds ``--config``, ``--dataset`` and ``--split``."""
    parser.add_argument("--config", action="config", help="YAML file with any of these arguments.")
    parser.add_subclass_arguments(
        tuple(DATASETS.values()),
        "dataset",
        skip=CALLBACKS,
        instantiate=False,
        required=required,
        metavar="NAME",
        help=f"{' or '.join(DATASETS)}; its arguments follow as --dataset.ARGUMENT.",
    )
    parser.add_subclass_arguments(
        InteractionSplit,
        "split",
        instantiate=False,
        required=False,
        metavar="NAME",
        help=f"{', '.join(SPLITS)}; by default the one that comes with the data, else RandomSplit.",
    )


def chosen_split(parsed: Namespace) -> InteractionSplit | None:
    """The split that was asked for, None if none was."""
    if parsed.split is None:
        return None
    cls, arguments = chosen("split", parsed.split)
    split: InteractionSplit = cls(**arguments)
    return split
