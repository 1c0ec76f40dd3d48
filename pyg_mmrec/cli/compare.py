"""``pyg-mmrec compare``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jsonargparse import Namespace

from pyg_mmrec.benchmark import (
    Candidate,
    compare,
    format_table,
    format_tests,
    paired_tests,
    split_hash,
    summarize,
)
from pyg_mmrec.cli.data import add_data
from pyg_mmrec.cli.output import check_output, is_stream
from pyg_mmrec.cli.parser import Parser, check_argument, chosen, fail, find
from pyg_mmrec.cli.setup import add_model, add_training, make_views, trainer_args
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.metrics import parse_metric
from pyg_mmrec.metrics.ranking import ACCURACY
from pyg_mmrec.models import Recommender
from pyg_mmrec.utils.files import write_atomically


def compare_parser() -> Parser:
    """The arguments."""
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
    add_training(parser, "seed")
    return parser.finish()


def run_compare(parser: Parser, parsed: Namespace) -> None:
    """Trains all models with all seeds and prints the table."""
    check_output(parsed.output)
    if not parsed.models:
        fail("--models is missing: name the models to compare, such as --models LightGCN FREEDOM")
    candidates = _candidates(parsed.models, parsed.init_args)
    config = parser.instantiate(parsed)
    for name in parsed.show:
        if name not in config.evaluator.metrics:
            fail(f"--show {name} is not evaluated: name it in --evaluator.metrics")
    graded = _tested_by(parsed.tests, candidates)
    views, protocol, _ = make_views(parsed, [candidate.model for candidate in candidates], config)
    config.evaluator.check(views[1])
    values: dict[str, list[pd.Series]] = {candidate.name: [] for candidate in candidates}
    facts, rows, output = {"protocol": protocol, "split_hash": split_hash(views)}, [], Path(parsed.output)

    def keep(candidate: Candidate, model: Recommender, row: dict[str, Any]) -> None:
        rows.append(row | facts)
        if parsed.output and not is_stream(output):  # after each run, so that a stop loses none that is finished
            table = pd.DataFrame(rows)
            write_atomically(output, lambda path: table.to_csv(path, index=False))
        if graded is not None:
            values[candidate.name].append(graded.by_user(model, views[2])[parsed.tests])

    runs, _ = compare(candidates, views, parsed.seeds, on_run=keep, **trainer_args(config))
    if is_stream(output):
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
    add_model(parser)
    candidates = []
    for name in names:
        cls, given = find("model", name), init_args.get(name, {})
        for key in given:
            check_argument("model", cls, key)
        choice = parser.parse_object({"model": {"class_path": name, "init_args": given}}).model
        candidates.append(Candidate(*chosen("model", choice)))
    return candidates
