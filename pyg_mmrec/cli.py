"""The command ``pyg-mmrec``."""

from __future__ import annotations

import difflib
import inspect
import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import torch
from jsonargparse import ArgumentParser, Namespace
from torch_geometric.data import InMemoryDataset

import pyg_mmrec.datasets
import pyg_mmrec.models
import pyg_mmrec.transforms
from pyg_mmrec import __version__
from pyg_mmrec.benchmark import (
    Candidate,
    compare,
    default_split,
    format_table,
    prepare,
    split_hash,
    summarize,
    train_one,
)
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import Recommender
from pyg_mmrec.training import RunFolder, Trainer
from pyg_mmrec.transforms import ModalKNNGraph
from pyg_mmrec.transforms.split import InteractionSplit
from pyg_mmrec.typing import INTERACTS, ITEM
from pyg_mmrec.utils import modalities, num_users_items, similar_modalities

CONFIG = "config.yaml"
SIZES = {"num_users", "num_items", "in_channels"}
CALLBACKS = {"transform", "pre_transform"}


def _exported(package: Any, base: type) -> dict[str, type]:
    classes = {name: getattr(package, name) for name in package.__all__}
    return {
        name: cls
        for name, cls in classes.items()
        if isinstance(cls, type) and issubclass(cls, base) and not inspect.isabstract(cls)
    }


MODELS = _exported(pyg_mmrec.models, Recommender)
DATASETS = _exported(pyg_mmrec.datasets, InMemoryDataset)
SPLITS = _exported(pyg_mmrec.transforms, InteractionSplit)
#: What a name after a flag may be, and which of its arguments are not flags.
CHOICES: dict[str, tuple[dict[str, type], set[str]]] = {
    "model": (MODELS, SIZES),
    "dataset": (DATASETS, CALLBACKS),
    "split": (SPLITS, set()),
}


class Parser(ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints what was wrong, and the nearest flag where one is unknown, and exits with status 2."""
        skipped = ("Does not validate against any", "Subtypes:", "Errors:", "- Expected a <class 'NoneType'>", "Given ")
        lines = [line.strip().removeprefix("- ") for line in str(message).splitlines() if line.strip()]
        text = " ".join(line for line in lines if not f"- {line}".startswith(skipped) and not line.startswith(skipped))
        unknown = re.findall(r"--[\w.]+", text) if "nrecognized" in text else []
        _fail(text + (self._hint(unknown[0]) if unknown else ""))

    def _hint(self, flag: str) -> str:
        group, _, name = flag.rpartition(".")
        flags = [known.rpartition(".") for action in self._actions for known in action.option_strings]
        return _nearest(name, [known for prefix, _, known in flags if prefix == group])


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"pyg-mmrec: error: {message}\n")
    raise SystemExit(2)


def _check_names(argv: Sequence[str]) -> None:
    """Refuses unknown classes, and unknown arguments of known ones, with the nearest name."""
    chosen: dict[str, type] = {}
    for flag, value in _flag_values(argv):
        group, _, key = flag.removeprefix("--").partition(".")
        if group not in CHOICES:
            continue
        classes, hidden = CHOICES[group]
        if not key and value is not None and value.isidentifier():
            if value not in classes:
                _fail(f"unknown {group} '{value}'{_nearest(value, list(classes))}")
            chosen[group] = classes[value]
        key = key.removeprefix("init_args.").partition(".")[0]
        if key in ("", "help", "class_path") or group not in chosen:
            continue
        cls = chosen[group]
        known = [name for name in inspect.signature(cls).parameters if name not in hidden]
        if key not in known:
            _fail(f"{cls.__name__} has no argument '{key}'{_nearest(key, known)}")


def _flag_values(argv: Sequence[str]) -> list[tuple[str, str | None]]:
    """``--flag value`` and ``--flag=value`` as pairs, classes before their arguments."""
    pairs = []
    for i, token in enumerate(argv):
        if token.startswith("--"):
            flag, equals, value = token.partition("=")
            following = argv[i + 1] if i + 1 < len(argv) and not argv[i + 1].startswith("--") else None
            pairs.append((flag, value if equals else following))
    return sorted(pairs, key=lambda pair: "." in pair[0])


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(sorted(known)) or 'none'}"


def _add_data(parser: Parser, required: bool = True) -> None:
    parser.add_argument("--config", action="config", help="YAML file with any of these arguments.")
    parser.add_subclass_arguments(
        tuple(DATASETS.values()),
        "dataset",
        skip=CALLBACKS,
        instantiate=False,
        required=required,
        help=f"Data set: {', '.join(DATASETS)}; its arguments follow as --dataset.NAME.",
    )
    parser.add_subclass_arguments(
        InteractionSplit,
        "split",
        required=False,
        help=f"Split: {', '.join(SPLITS)}; by default the one that comes with the data, else RandomSplit.",
    )
    parser.add_class_arguments(ModalKNNGraph, "graph", skip={"node_type"})


def _add_training(parser: Parser) -> None:
    parser.add_class_arguments(Trainer, "trainer", skip={"evaluator", "run_dir", "optimizer"}, instantiate=False)
    parser.add_class_arguments(Evaluator, "evaluator")


def _train_parser() -> Parser:
    parser = Parser(description="Train a model, select its best epoch on validation, test it once.")
    _add_data(parser)
    parser.add_subclass_arguments(
        Recommender,
        "model",
        skip=SIZES,
        instantiate=False,
        required=True,
        help=f"Model: {', '.join(MODELS)}; its arguments follow as --model.NAME.",
    )
    _add_training(parser)
    parser.add_argument("--run_dir", type=str, default="", help="Folder of the run (default: runs/DATASET-MODEL-SEED).")
    parser.add_argument("--resume", action="store_true", help="Go on with the run in that folder.")
    return parser


def _evaluate_parser() -> Parser:
    parser = Parser(description="Evaluate the model of a run.")
    parser.add_argument("run_dir", type=str, help="Folder that 'train' wrote.")
    parser.add_argument("--part", type=str, choices=["val", "test"], default="test", help="Held-out part.")
    parser.add_class_arguments(Evaluator, "evaluator")
    return parser


def _recommend_parser() -> Parser:
    parser = Parser(description="Recommend items with the model of a run, as CSV: user, rank, item, score.")
    parser.add_argument("run_dir", type=str, help="Folder that 'train' wrote.")
    parser.add_argument("--users", type=int, nargs="+", default=[], help="User ids (default: all).")
    parser.add_argument("--k", type=int, default=10, help="Items for each user.")
    parser.add_argument("--include_seen", action="store_true", help="Also items that the user has interacted with.")
    parser.add_argument("--output", type=str, default="", help="File to write (default: standard output).")
    return parser


def _compare_parser() -> Parser:
    parser = Parser(description="Train several models with several seeds on one split; mean and deviation.")
    _add_data(parser)
    parser.add_argument("--models", type=str, nargs="+", default=list(MODELS), help="Names of models.")
    parser.add_argument(
        "--init_args", type=dict[str, dict[str, Any]], default={}, help="Arguments by model, as YAML or JSON."
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="Seeds.")
    parser.add_argument("--show", type=str, nargs="+", default=["recall@20", "ndcg@20"], help="Metrics in the table.")
    parser.add_argument("--output", type=str, default="", help="CSV file for one row a run.")
    _add_training(parser)
    return parser


def _datasets_parser() -> Parser:
    parser = Parser(description="List the data sets, or describe one.")
    _add_data(parser, required=False)
    return parser


def _chosen(group: str, choice: Namespace) -> tuple[type, dict[str, Any]]:
    """The class of a choice and its arguments."""
    name = choice.class_path.rpartition(".")[2]
    arguments = choice.get("init_args")
    return CHOICES[group][0][name], arguments.as_dict() if arguments is not None else {}


def _dataset(config: Namespace) -> InMemoryDataset:
    cls, arguments = _chosen("dataset", config.dataset)
    return cls(**arguments)


def _trainer_args(config: Namespace) -> dict[str, Any]:
    """Arguments of the trainer beside the seed; it is built once the run's folder is known."""
    arguments = {**config.trainer.as_dict(), "evaluator": config.evaluator}
    del arguments["seed"]
    return arguments


def _train(parser: Parser, parsed: Namespace) -> None:
    config = parser.instantiate_classes(parsed)
    model, init_args = _chosen("model", config.model)
    seed = config.trainer.seed
    dataset = _dataset(config)
    run_dir = Path(config.run_dir or f"runs/{getattr(dataset, 'name', type(dataset).__name__)}-{model.__name__}-{seed}")
    if not config.resume and RunFolder.holds_run(run_dir):
        _fail(f"'{run_dir}' already holds a run: add --resume to go on with it or choose another --run_dir")
    split = config.split or default_split(dataset[0])
    views = prepare(dataset[0], [model], split, config.graph)
    RunFolder(run_dir)
    if not config.resume:
        parser.save(parsed, str(run_dir / CONFIG), overwrite=True)
    candidate = Candidate(model, init_args)
    try:
        _, row = train_one(candidate, views, seed, run_dir=run_dir, resume=config.resume, **_trainer_args(config))
    except KeyboardInterrupt:
        _fail(f"stopped; go on with: pyg-mmrec train --config {run_dir / CONFIG} --run_dir {run_dir} --resume")
    row |= {"protocol": split.protocol, "split_hash": split_hash(views)}
    (run_dir / "result.json").write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")
    _print_metrics(row)
    print(f"run folder: {run_dir}")


def _evaluate(parser: Parser, parsed: Namespace) -> None:
    views, model = _load_run(Path(parsed.run_dir))
    evaluator = parser.instantiate_classes(parsed).evaluator
    for name, value in evaluator(model, views[1 if parsed.part == "val" else 2]).items():
        print(f"{name:>14}  {value:.6f}")


def _recommend(parser: Parser, parsed: Namespace) -> None:
    (view, _, _), model = _load_run(Path(parsed.run_dir))
    num_users, _ = num_users_items(view)
    users = torch.tensor(parsed.users or range(num_users))
    scores, items = model.recommend(view, users, parsed.k, exclude_seen=not parsed.include_seen)
    table = pd.DataFrame(
        {
            "user": users.repeat_interleave(parsed.k).numpy(),
            "rank": torch.arange(1, parsed.k + 1).repeat(users.numel()).numpy(),
            "item": items.flatten().numpy(),
            "score": scores.flatten().numpy(),
        }
    )
    table[table["item"] >= 0].to_csv(parsed.output or sys.stdout, index=False)


def _compare(parser: Parser, parsed: Namespace) -> None:
    for name in [*parsed.models, *parsed.init_args]:
        if name not in MODELS:
            _fail(f"unknown model '{name}'{_nearest(name, list(MODELS))}")
    config = parser.instantiate_classes(parsed)
    for name in parsed.show:
        if name not in config.evaluator.metrics:
            _fail(f"--show {name} is not evaluated: name it in --evaluator.metrics")
    classes = [MODELS[name] for name in parsed.models]
    candidates = [Candidate(cls, parsed.init_args.get(cls.__name__, {})) for cls in classes]
    views = prepare(_dataset(config)[0], classes, config.split, config.graph)
    runs, _ = compare(candidates, views, parsed.seeds, **_trainer_args(config))
    if parsed.output:
        runs.to_csv(parsed.output, index=False)
    print(format_table(summarize(runs, parsed.show), parsed.show))


def _datasets(parser: Parser, parsed: Namespace) -> None:
    if parsed.get("dataset") is None:
        for name, cls in DATASETS.items():
            print(f"{name:>16}  {(inspect.getdoc(cls) or '').splitlines()[0]}")
        return
    config = parser.instantiate_classes(parsed)
    data = _dataset(config)[0]
    num_users, num_items = num_users_items(data)
    split = config.split or default_split(data)
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


#: Parser, function and help of each command.
COMMANDS: dict[str, tuple[Callable[[], Parser], Callable[[Parser, Namespace], None], str]] = {
    "train": (_train_parser, _train, "train a model"),
    "evaluate": (_evaluate_parser, _evaluate, "evaluate the model of a run"),
    "recommend": (_recommend_parser, _recommend, "recommend items to users"),
    "compare": (_compare_parser, _compare, "compare models over seeds"),
    "datasets": (_datasets_parser, _datasets, "list or describe data sets"),
}


def _load_run(run_dir: Path) -> tuple[Views, Recommender]:
    """The views that a run trained on, made again from its configuration, and its best model."""
    path = run_dir / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"'{run_dir}' has no {CONFIG}: is it a folder that 'pyg-mmrec train' wrote?")
    if not RunFolder(run_dir).model.is_dir():
        raise FileNotFoundError(f"'{run_dir}' has no finished model: go on with 'pyg-mmrec train ... --resume'")
    train = _train_parser()
    config = train.instantiate_classes(train.parse_args(["--config", str(path)]))
    model = Recommender.from_pretrained(RunFolder(run_dir).model)
    return prepare(_dataset(config)[0], [type(model)], config.split, config.graph), model


def _print_metrics(row: dict[str, Any]) -> None:
    names = [key.removeprefix("val_") for key in row if key.startswith("val_")]
    print(f"{'metric':>14}  {'validation':>10}  {'test':>10}   (best epoch {row['best_epoch']} of {row['num_epochs']})")
    for name in names:
        print(f"{name:>14}  {row[f'val_{name}']:>10.4f}  {row[f'test_{name}']:>10.4f}")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    sys.stderr.write(f"pyg-mmrec: warning: {message}\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command; bad input ends it with one line and status 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    warnings.showwarning = _show_warning
    _check_names(argv)
    parser = Parser(prog="pyg-mmrec", description="Graph learning for multimodal recommendation.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subcommands(required=True)
    parsers = {name: build() for name, (build, _, _) in COMMANDS.items()}
    for name, (_, _, summary) in COMMANDS.items():
        commands.add_subcommand(name, parsers[name], help=summary)
    parsed = parser.parse_args(argv)
    name = parsed.subcommand
    try:
        COMMANDS[name][1](parsers[name], parsed[name])
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        if os.environ.get("PYG_MMREC_DEBUG"):
            raise
        _fail(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
