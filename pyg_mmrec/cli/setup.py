"""What a model is trained on and how, as the command line says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jsonargparse import Namespace

from pyg_mmrec.benchmark import default_split, prepare
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.cli.data import add_data, chosen_split
from pyg_mmrec.cli.parser import MODELS, SIZES, Parser, chosen
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import Recommender
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import ModalKNNGraph, UserCooccurrence
from pyg_mmrec.utils import Ids


def add_model(parser: Parser) -> None:
    """Adds ``--model``."""
    parser.add_subclass_arguments(
        Recommender,
        "model",
        skip=SIZES,
        instantiate=False,
        required=True,
        metavar="NAME",
        help=f"{', '.join(MODELS)}; its arguments follow as --model.ARGUMENT.",
    )


def add_training(parser: Parser, *skip: str) -> None:
    """Adds the arguments of the graphs, the trainer and the evaluator."""
    parser.add_class_arguments(ModalKNNGraph, "graph", skip={"node_type"})
    parser.add_class_arguments(UserCooccurrence, "cooccurrence")
    parser.add_class_arguments(Trainer, "trainer", skip={"evaluator", "run_dir", "optimizer", *skip}, instantiate=False)
    parser.add_class_arguments(Evaluator, "evaluator")


def train_parser() -> Parser:
    """The arguments of ``pyg-mmrec train``."""
    parser = Parser(
        usage="pyg-mmrec train --model NAME --dataset NAME [--config FILE] [options]",
        description="Train a model, select its best epoch on validation, test it once.",
    )
    add_model(parser)
    add_data(parser)
    add_training(parser)
    parser.add_argument("--run_dir", type=str, default="", help="Folder of the run (default: runs/DATA-MODEL-SEED).")
    parser.add_argument("--resume", action="store_true", help="Go on with the run in that folder.")
    parser.add_argument("--licence", type=str, default="", help="Licence of the model, for its card, such as mit.")
    return parser.finish()


class Made(NamedTuple):
    """What a run is trained on."""

    views: Views
    protocol: str
    ids: Ids | None  #: the data set's own ids, where it has some


def make_views(parsed: Namespace, models: Sequence[type[Recommender]], config: Namespace) -> Made:
    """The views of the chosen data and split, with the configured graphs, and what belongs to them."""
    cls, arguments = chosen("dataset", parsed.dataset)
    dataset = cls(**arguments)
    data = dataset[0]
    split = chosen_split(parsed) or default_split(data)
    views = prepare(data, models, split, config.graph, config.cooccurrence)
    return Made(views, split.protocol, getattr(dataset, "ids", None))


def trainer_args(config: Namespace) -> dict[str, Any]:
    """Arguments of the trainer beside the seed; it is built once the run's folder is known."""
    arguments = {**config.trainer.as_dict(), "evaluator": config.evaluator}
    arguments.pop("seed", None)
    return arguments
