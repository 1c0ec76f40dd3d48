"""The commands and their arguments."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jsonargparse import Namespace
from lightning_fabric.utilities import rank_zero_only

from pyg_mmrec import __version__
from pyg_mmrec.benchmark import (
    Candidate,
    compare,
    default_split,
    format_table,
    format_tests,
    paired_tests,
    prepare,
    split_hash,
    summarize,
    train_one,
)
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.cli import recommend
from pyg_mmrec.cli.benchmark import benchmark, benchmark_parser
from pyg_mmrec.cli.data import add_data, chosen_split
from pyg_mmrec.cli.export import export, export_parser
from pyg_mmrec.cli.own_ids import user_nodes
from pyg_mmrec.cli.parser import (
    DATASETS,
    MODELS,
    SIZES,
    Parser,
    check_argument,
    check_names,
    chosen,
    fail,
    find,
    plain,
)
from pyg_mmrec.cli.report import report, report_parser
from pyg_mmrec.cli.serve import check_serving, serve, serve_parser
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.metrics import parse_metric
from pyg_mmrec.metrics.ranking import ACCURACY
from pyg_mmrec.models import ModelCard, Recommender
from pyg_mmrec.retrieval import Retriever
from pyg_mmrec.training import RunFolder, Trainer
from pyg_mmrec.training.checkpoint import write_atomically
from pyg_mmrec.transforms import ModalKNNGraph, UserCooccurrence
from pyg_mmrec.typing import INTERACTS, ITEM
from pyg_mmrec.utils import Ids, modalities, num_users_items, similar_modalities
from pyg_mmrec.utils.checks import check_flag, check_int
from pyg_mmrec.utils.ids import IDS

CONFIG = "config.yaml"
SPLIT = "split.json"


def _add_model(parser: Parser) -> None:
    parser.add_subclass_arguments(
        Recommender,
        "model",
        skip=SIZES,
        instantiate=False,
        required=True,
        metavar="NAME",
        help=f"{', '.join(MODELS)}; its arguments follow as --model.ARGUMENT.",
    )


def _add_training(parser: Parser, *skip: str) -> None:
    parser.add_class_arguments(ModalKNNGraph, "graph", skip={"node_type"})
    parser.add_class_arguments(UserCooccurrence, "cooccurrence")
    parser.add_class_arguments(Trainer, "trainer", skip={"evaluator", "run_dir", "optimizer", *skip}, instantiate=False)
    parser.add_class_arguments(Evaluator, "evaluator")


def _train_parser() -> Parser:
    parser = Parser(
        usage="pyg-mmrec train --model NAME --dataset NAME [--config FILE] [options]",
        description="Train a model, select its best epoch on validation, test it once.",
    )
    _add_model(parser)
    add_data(parser)
    _add_training(parser)
    parser.add_argument("--run_dir", type=str, default="", help="Folder of the run (default: runs/DATA-MODEL-SEED).")
    parser.add_argument("--resume", action="store_true", help="Go on with the run in that folder.")
    parser.add_argument("--licence", type=str, default="", help="Licence of the model, for its card, such as mit.")
    return parser.finish()


def _evaluate_parser() -> Parser:
    parser = Parser(usage="pyg-mmrec evaluate RUN_DIR [options]", description="Evaluate the model of a run.")
    parser.add_argument("run_dir", type=str, help="Folder that 'train' wrote.")
    parser.add_argument("--part", type=str, choices=["val", "test"], default="test", help="Held-out part.")
    parser.add_class_arguments(Evaluator, "evaluator")
    return parser.finish()


def _recommend_parser() -> Parser:
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


def _compare_parser() -> Parser:
    parser = Parser(
        usage="pyg-mmrec compare --dataset NAME --models NAME ... [--config FILE] [options]",
        description="Train several models with several seeds on one split; mean and deviation of test metrics.",
    )
    parser.add_argument("--models", type=str, nargs="+", default=[], help="Names of models.")
    parser.add_argument(
        "--init_args",
        type=dict[str, dict[str, Any]],
        default={},
        help="Arguments by model, as YAML: '{LightGCN: {num_layers: 2}}'.",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="Seeds.")
    parser.add_argument("--show", type=str, nargs="+", default=["recall@20", "ndcg@20"], help="Metrics in the table.")
    parser.add_argument(
        "--tests",
        type=str,
        default="",
        help="Metric of single users, such as recall@20, to test all pairs of models on.",
    )
    parser.add_argument("--output", type=str, default="", help="CSV file for one row a run.")
    add_data(parser)
    _add_training(parser, "seed")
    return parser.finish()


def _datasets_parser() -> Parser:
    parser = Parser(
        usage="pyg-mmrec datasets [--dataset NAME] [options]", description="List the data sets, or describe one."
    )
    add_data(parser, required=False)
    return parser.finish()


class _Made(NamedTuple):
    """What a run is trained on."""

    views: Views
    protocol: str
    ids: Ids | None  #: the data set's own ids, where it has some


def _make(parsed: Namespace, models: Sequence[type[Recommender]], config: Namespace) -> _Made:
    """The views of the chosen data and split, with the configured graphs, and what belongs to them."""
    cls, arguments = chosen("dataset", parsed.dataset)
    dataset = cls(**arguments)
    data = dataset[0]
    split = chosen_split(parsed) or default_split(data)
    views = prepare(data, models, split, config.graph, config.cooccurrence)
    return _Made(views, split.protocol, getattr(dataset, "ids", None))


def _trainer_args(config: Namespace) -> dict[str, Any]:
    """Arguments of the trainer beside the seed; it is built once the run's folder is known."""
    arguments = {**config.trainer.as_dict(), "evaluator": config.evaluator}
    arguments.pop("seed", None)
    return arguments


def _run_dir(parsed: Namespace) -> Path:
    """The folder of a run that may start or go on there."""
    check_flag(resume=parsed.resume)
    data, model = (parsed[key].class_path.rpartition(".")[2] for key in ("dataset", "model"))
    data = parsed.dataset.get("init_args", {}).get("name", data)
    path = Path(parsed.run_dir or f"runs/{data}-{model}-{parsed.trainer.seed}")
    if path.exists() and not path.is_dir():
        fail(f"'{path}' is not a folder: choose another --run_dir")
    above = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        fail(f"'{path}' cannot be written, because '{above}' is not a folder to write to: choose another --run_dir")
    if RunFolder.holds_run(path) and not parsed.resume:
        fail(f"'{path}' already holds a run: add --resume to go on with it or choose another --run_dir")
    if parsed.resume and not RunFolder.holds_run(path):
        fail(f"'{path}' holds no run to go on with: start one without --resume")
    return path


def _train(parser: Parser, parsed: Namespace) -> None:
    run_dir = _run_dir(parsed)
    config = parser.instantiate(parsed)
    model, init_args = chosen("model", parsed.model)
    views, protocol, ids = _make(parsed, [model], config)
    config.evaluator.check(views[1])
    facts = {"protocol": protocol, "split_hash": split_hash(views)}
    candidate, seed, arguments = Candidate(model, init_args), parsed.trainer.seed, _trainer_args(config)
    before = [path.name for path in run_dir.iterdir()] if run_dir.exists() else None
    with RunFolder(run_dir).in_use() if _is_first_process() else nullcontext():
        if parsed.resume:
            _check_split(run_dir, views)
        else:
            _write_start(run_dir, parser, parsed, facts)
        try:
            _, row = train_one(candidate, views, seed, run_dir=run_dir, resume=parsed.resume, **arguments)
        except KeyboardInterrupt:
            folder, path = shlex.quote(str(run_dir)), shlex.quote(str(run_dir / CONFIG))
            fail(f"stopped; go on with: pyg-mmrec train --config {path} --run_dir {folder} --resume")
        except (ValueError, ImportError, RuntimeError):
            _discard_start(run_dir, before)
            raise
        _write_result(run_dir, row | facts, ids)
        _write_card(run_dir, parsed, views, row | facts)


@rank_zero_only
def _is_first_process() -> bool:
    return True  # the others get None


@rank_zero_only
def _write_start(run_dir: Path, parser: Parser, parsed: Namespace, facts: dict[str, Any]) -> None:
    """Writes what the run is made from; of several processes the first does."""
    parser.save(parsed, str(run_dir / CONFIG), overwrite=True)
    _write_json(run_dir / SPLIT, facts)


@rank_zero_only
def _discard_start(run_dir: Path, before: list[str] | None) -> None:
    """Removes what was written for a run that was refused before its first epoch ended; None: all of the folder."""
    if RunFolder.holds_run(run_dir) or (run_dir / "history.csv").exists():
        return
    if before is None:
        shutil.rmtree(run_dir, ignore_errors=True)
        return
    for path in run_dir.iterdir():
        if path.name not in before and path.is_file():
            path.unlink()


@rank_zero_only
def _write_result(run_dir: Path, row: dict[str, Any], ids: Ids | None) -> None:
    """Writes and prints what the run came to, the ids beside the model; of several processes the first does."""
    if ids is not None:
        ids.save(RunFolder(run_dir).model)
    _write_json(run_dir / "result.json", row)
    names = [key.removeprefix("val_") for key in row if key.startswith("val_")]
    print(f"{'metric':>14}  {'validation':>10}  {'test':>10}   (best epoch {row['best_epoch']} of {row['num_epochs']})")
    for name in names:
        print(f"{name:>14}  {row[f'val_{name}']:>10.4f}  {row[f'test_{name}']:>10.4f}")
    print(f"run folder: {run_dir}")


@rank_zero_only
def _write_card(run_dir: Path, parsed: Namespace, views: Views, row: dict[str, Any]) -> None:
    """Writes what the saved model says about itself."""
    cls, arguments = chosen("dataset", parsed.dataset)
    num_users, num_items = num_users_items(views[0])
    parts = [view[INTERACTS].edge_label_index.size(1) for view in views]
    data = {"dataset": cls.__name__} | {key: arguments[key] for key in ("name",) if key in arguments}
    data |= {"num_users": num_users, "num_items": num_items, "modalities": modalities(views[0])}
    data |= dict(zip(("train", "validation", "test"), parts, strict=True)) | {"split_hash": row["split_hash"]}
    if "provenance" in views[0][ITEM]:
        data["features"] = views[0][ITEM].provenance
    metrics = {key: value for key, value in row.items() if key.startswith(("val_", "test_"))}
    protocol = f"{row['protocol']}; seed {row['seed']}, epoch {row['best_epoch']} selected on validation, tested once"
    ModelCard(data, metrics, protocol, parsed.licence).save(run_dir / "model")


def _evaluate(parser: Parser, parsed: Namespace) -> None:
    evaluator = parser.instantiate(parsed).evaluator
    views, model, _ = _load_run(Path(parsed.run_dir))
    for name, value in evaluator(model, views[1 if parsed.part == "val" else 2]).items():
        print(f"{name:>14}  {value:.6f}")


def _recommend(parser: Parser, parsed: Namespace) -> None:
    _check_output(parsed.output)
    (view, _, _), model, ids = _load_run(Path(parsed.run_dir))
    fallback = None if parsed.fallback == "none" else parsed.fallback
    node = user_nodes(parsed.users, num_users_items(view)[0], ids, fallback)
    names = parsed.users if (node < 0).any() else None
    retriever = Retriever(model, view, ids, fallback=fallback)
    recommend.write(retriever, node, parsed.k, not parsed.include_seen, names, parsed.output)


def _export(parser: Parser, parsed: Namespace) -> None:
    (view, _, _), model, ids = _load_run(Path(parsed.run_dir))
    export(Retriever(model, view, ids), Path(parsed.run_dir), parsed.format, parsed.output)


def _serve(parser: Parser, parsed: Namespace) -> None:
    run_dir = Path(parsed.run_dir)
    limits = {name: parsed[name] for name in ("max_k", "max_users", "max_body", "max_waiting")}
    check_int(1, **limits)
    with check_serving(parsed.host, parsed.port) as listener:
        (view, _, _), model, ids = _load_run(run_dir)
        serve(Retriever(model, view, ids), run_dir / "model", listener, **limits)


def _compare(parser: Parser, parsed: Namespace) -> None:
    _check_output(parsed.output)
    if not parsed.models:
        fail("--models is missing: name the models to compare, such as --models LightGCN FREEDOM")
    candidates = _candidates(parsed.models, parsed.init_args)
    config = parser.instantiate(parsed)
    for name in parsed.show:
        if name not in config.evaluator.metrics:
            fail(f"--show {name} is not evaluated: name it in --evaluator.metrics")
    graded = _tested_by(parsed.tests, candidates)
    views, protocol, _ = _make(parsed, [candidate.model for candidate in candidates], config)
    config.evaluator.check(views[1])
    values: dict[str, list[pd.Series]] = {candidate.name: [] for candidate in candidates}
    facts, rows, output = {"protocol": protocol, "split_hash": split_hash(views)}, [], Path(parsed.output)

    def keep(candidate: Candidate, model: Recommender, row: dict[str, Any]) -> None:
        rows.append(row | facts)
        if parsed.output and not _is_stream(output):  # after each run, so that a stop loses none that is finished
            table = pd.DataFrame(rows)
            write_atomically(output, lambda path: table.to_csv(path, index=False))
        if graded is not None:
            values[candidate.name].append(graded.by_user(model, views[2])[parsed.tests])

    runs, _ = compare(candidates, views, parsed.seeds, on_run=keep, **_trainer_args(config))
    if _is_stream(output):
        pd.DataFrame(rows).to_csv(output, index=False)
    print(format_table(summarize(runs, parsed.show), parsed.show))
    if graded is not None:
        means = pd.DataFrame({name: pd.concat(parts, axis=1).mean(axis=1) for name, parts in values.items()})
        print(f"\n{parsed.tests} by user, means over seeds; p-values by Holm's method, 95 % intervals\n")
        print(format_tests(paired_tests(means)))


def _tested_by(metric: str, candidates: Sequence[Candidate]) -> Evaluator | None:
    """What gives the values that are tested; None without ``--tests``."""
    if not metric:
        return None
    if parse_metric(metric)[0] not in ACCURACY:
        fail(f"--tests {metric} is not a metric of single users: name recall, ndcg or another metric of accuracy")
    if len(candidates) < 2:
        fail("--tests compares models: name two or more in --models")
    return Evaluator([metric])


def _candidates(names: Sequence[str], init_args: dict[str, dict[str, Any]]) -> list[Candidate]:
    """The models to compare, their arguments checked as those of ``train`` are."""
    for name in init_args:
        find("model", name)
        if name not in names:
            fail(f"--init_args names {name}, which is not among --models")
    parser = Parser()
    _add_model(parser)
    candidates = []
    for name in names:
        cls, given = find("model", name), init_args.get(name, {})
        for key in given:
            check_argument("model", cls, key)
        choice = parser.parse_object({"model": {"class_path": name, "init_args": given}}).model
        candidates.append(Candidate(*chosen("model", choice)))
    return candidates


def _datasets(parser: Parser, parsed: Namespace) -> None:
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


def _load_run(run_dir: Path) -> tuple[Views, Recommender, Ids | None]:
    """The views that a run trained on, made again from its configuration, its best model and the own ids."""
    path = run_dir / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"'{run_dir}' has no {CONFIG}: is it a folder that 'pyg-mmrec train' wrote?")
    folder = run_dir / "model"
    if not folder.is_dir():
        raise FileNotFoundError(f"'{run_dir}' has no finished model: go on with 'pyg-mmrec train ... --resume'")
    check_names(["--config", str(path)])
    train = _train_parser()
    parsed = train.parse_args(["--config", str(path)])
    try:
        model = Recommender.from_pretrained(folder)
    except TypeError as error:
        raise ValueError(f"'{folder / 'config.json'}' does not hold the arguments of its model: {error}") from None
    views = _make(parsed, [type(model)], train.instantiate(parsed)).views
    _check_split(run_dir, views)
    return views, model, Ids.load(folder) if (folder / IDS).is_file() else None


def _check_split(run_dir: Path, views: Views) -> None:
    """Refuses other interactions than a run started with."""
    if split_hash(views) not in (run_dir / SPLIT).read_text(encoding="utf-8"):
        raise ValueError(f"the interactions or their split are not those of the run in '{run_dir}': start a new run")


def _is_stream(path: Path) -> bool:
    """Whether a path is a terminal, a pipe or a device."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _check_output(path: str) -> None:
    """Refuses a file that cannot be written, before any work is done for it."""
    if not path:
        return
    existed = Path(path).exists()
    try:
        Path(path).open("a").close()
    except OSError as error:
        fail(f"--output {path} cannot be written: name a file in a folder that exists ({error.strerror})")
    if not existed:
        Path(path).unlink()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


#: Parser, function and help of each command.
COMMANDS: dict[str, tuple[Callable[[], Parser], Callable[[Parser, Namespace], None], str]] = {
    "train": (_train_parser, _train, "train a model"),
    "evaluate": (_evaluate_parser, _evaluate, "evaluate the model of a run"),
    "recommend": (_recommend_parser, _recommend, "recommend items to users"),
    "export": (export_parser, _export, "export a model for another engine"),
    "serve": (serve_parser, _serve, "serve recommendations over HTTP"),
    "compare": (_compare_parser, _compare, "compare models over seeds"),
    "benchmark": (benchmark_parser, benchmark, "compare models on data sets, with a search for each"),
    "report": (report_parser, report, "write a comparison as an HTML page"),
    "datasets": (_datasets_parser, _datasets, "list or describe data sets"),
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
