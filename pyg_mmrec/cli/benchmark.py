"""``pyg-mmrec benchmark``: the runs of a suite, their table and tests."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jsonargparse import Namespace

from pyg_mmrec.benchmark import (
    Suite,
    SuiteResult,
    format_table,
    format_tests,
    paired_tests,
    run_suite,
    summarize,
)
from pyg_mmrec.benchmark.ledger import EXACT
from pyg_mmrec.cli.parser import Parser, fail
from pyg_mmrec.cli.suite import read_suite
from pyg_mmrec.metrics import parse_metric
from pyg_mmrec.metrics.ranking import ACCURACY


def benchmark_parser() -> Parser:
    """The arguments."""
    parser = Parser(
        usage="pyg-mmrec benchmark SUITE --output DIR [--processes N] [--devices NAME ...] [options]",
        description="Compare methods on data sets over seeds, each searched on validation with the same budget. What "
        "is finished in DIR is not repeated, so the same command goes on after a stop.",
    )
    parser.add_argument("suite", type=str, help="YAML file: data sets, models and their search spaces, seeds.")
    parser.add_argument("--output", type=str, required=True, help="Folder of the results.")
    parser.add_argument("--root", type=str, default="data", help="Folder of data sets that name none.")
    parser.add_argument("--processes", type=int | None, default=None, help="Runs at a time (default: one a device).")
    parser.add_argument(
        "--threads", type=int | None, default=None, help="Of each process (default: an equal share of the machine's)."
    )
    parser.add_argument(
        "--devices",
        type=str,
        nargs="+",
        default=[],
        help="cpu, cuda:0, cuda:1, ...: processes take turns on them (default: what there is).",
    )
    parser.add_argument(
        "--tests",
        type=str,
        default="",
        help="Metric of single users, such as recall@20, to test all pairs of models on.",
    )
    return parser.finish()


def benchmark(parser: Parser, parsed: Namespace) -> None:
    """Does the runs and prints what they came to; failed runs end it with status 1."""
    suite = read_suite(parsed.suite, parsed.root)
    _check_tests(parsed.tests, suite)
    try:
        result = run_suite(
            suite, parsed.output, processes=parsed.processes, threads=parsed.threads, devices=parsed.devices or None
        )
    except KeyboardInterrupt:
        fail("stopped; the same command goes on")
    print("\n\n".join(_report(name, rows, suite, parsed) for name, rows in result.tests()))
    _report_failures(result)


def _check_tests(metric: str, suite: Suite) -> None:
    """Refuses a metric that no test can be done on, before any work."""
    if not metric:
        return
    if metric not in suite.metrics or parse_metric(metric)[0] not in ACCURACY:
        known = [name for name in suite.metrics if parse_metric(name)[0] in ACCURACY]
        fail(f"--tests {metric} is not a metric of single users among those of the suite: {', '.join(known)}")
    if len(suite.methods) < 2:
        fail("--tests compares models: the suite has one only")


def _report(name: str, rows: pd.DataFrame, suite: Suite, parsed: Namespace) -> str:
    """The table of a data set, and the tests where they are wanted."""
    order = [method.candidate.name for method in suite.methods]
    rows = rows.sort_values(["model", "seed"], key=lambda column: column.map(_places(order, suite.seeds)))
    parts = [
        f"{name}: test results, mean and standard deviation over seeds, selected on validation",
        format_table(summarize(rows, suite.metrics), suite.metrics),
    ]
    if parsed.tests and rows["model"].nunique() > 1:
        means = {
            label: _mean_by_user(Path(parsed.output, name, str(label)), part["seed"].tolist(), parsed.tests)
            for label, part in rows.groupby("model", sort=False)
        }
        parts.append(f"{parsed.tests} by user, means over seeds; p-values by Holm's method, 95 % intervals")
        parts.append(format_tests(paired_tests(pd.DataFrame(means))))
    return "\n\n".join(parts)


def _places(*orders: Sequence[object]) -> dict[object, int]:
    """The place of each name and seed in the suite."""
    return {name: place for order in orders for place, name in enumerate(order)}


def _mean_by_user(folder: Path, seeds: Sequence[int], metric: str) -> pd.Series:
    """A metric of each user, mean over seeds."""
    paths = [folder / f"seed-{seed}" / "users.csv" for seed in seeds]
    tables = [pd.read_csv(path, index_col="user", **EXACT)[metric] for path in paths]
    means: pd.Series = pd.concat(tables, axis=1).mean(axis=1)
    return means


def _report_failures(result: SuiteResult) -> None:
    """Names the runs that failed, and ends with status 1 if there are any."""
    if not result.failures:
        return
    sys.stderr.write(f"pyg-mmrec: error: {len(result.failures)} failed; the same command tries them again\n")
    for name, reason in result.failures.items():
        sys.stderr.write(f"    {name}: {reason}\n")
    raise SystemExit(1)
