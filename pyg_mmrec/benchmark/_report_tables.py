"""The tables of a comparison's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pyg_mmrec.benchmark._report_data import Comparison, Group, arguments, read_users
from pyg_mmrec.benchmark.significance import paired_tests

#: With more models than this, all are tested against one instead of pair by pair.
MOST_PAIRED = 5


class Cell(NamedTuple):
    """A cell: what it shows, and what its column is sorted by."""

    text: str
    key: float | str
    best: bool = False


class Table(NamedTuple):
    """A table whose columns sort."""

    caption: str
    columns: list[str]
    rows: list[list[Cell]]


def words(text: Any) -> Cell:
    """A cell of text."""
    return Cell(str(text), str(text).lower())


def number(value: Any, form: str = "{:g}") -> Cell:
    """A cell of one number, empty where there is none."""
    known = value is not None and not pd.isna(value)
    return Cell(form.format(value) if known else "", float(value) if known else float("nan"))


def spread(values: pd.Series, form: str = "{:.4f}", best: bool = False) -> Cell:
    """A cell of a mean and, from two values on, the sample standard deviation."""
    values = values.dropna()
    if values.empty:
        return number(None)
    text = form.format(values.mean()) + (f" ± {form.format(values.std())}" if len(values) > 1 else "")
    return Cell(text, float(values.mean()), best)


def result_table(dataset: str, parts: Sequence[Group], metrics: Sequence[str]) -> Table:
    """Test metrics over the seeds, published values beside them."""
    columns, tops = ["model", "seeds"], {}
    published = {name for part in parts for name in metrics if published_value(part.runs, name) is not None}
    for name in metrics:
        tops[name] = max((part.runs[f"test_{name}"].mean() for part in parts), default=float("nan"))
        columns += [name, f"{name}, published"] if name in published else [name]
    where = any(_where(part.runs) for part in parts)
    rows = []
    for part in parts:
        row = [words(part.model), number(len(part.runs))]
        for name in metrics:
            values = part.runs[f"test_{name}"]
            row.append(spread(values, best=len(parts) > 1 and values.mean() == tops[name]))
            if name in published:
                row.append(number(published_value(part.runs, name), "{:.4f}"))
        rows.append([*row, words(_where(part.runs))] if where else row)
    caption = f"{dataset}: test metrics, mean ± sample standard deviation over seeds; the best mean is bold"
    return Table(caption, [*columns, "published in"] if where else columns, rows)


def published_value(runs: pd.DataFrame, metric: str) -> float | None:
    """What was published for a model, None if nothing was."""
    name = f"published_{metric}"
    return float(runs[name].iloc[0]) if name in runs and pd.notna(runs[name].iloc[0]) else None


def _where(runs: pd.DataFrame) -> str:
    known = "published_where" in runs and pd.notna(runs["published_where"].iloc[0])
    return str(runs["published_where"].iloc[0]) if known else ""


def user_values(parts: Sequence[Group]) -> tuple[dict[str, pd.DataFrame], list[Path]]:
    """Each model's metrics by user, means over the seeds, and the folders that lack them."""
    found, missing = {}, []
    for part in parts:
        tables = {folder: read_users(folder) for folder in part.folders.values()}
        missing += [folder for folder, table in tables.items() if table is None]
        known = [table for table in tables.values() if table is not None]
        if known:
            found[part.model] = pd.concat(known).groupby(level=0).mean()
    return found, missing


def test_tables(
    dataset: str, values: Mapping[str, pd.DataFrame], metrics: Sequence[str], baseline: str | None
) -> list[Table]:
    """Paired tests on the users, one table a metric; none where fewer than two models have values.

    Raises:
        ValueError: If models were graded on different users.
    """
    tables = []
    for metric in metrics:
        columns = {model: table[metric] for model, table in values.items() if metric in table}
        if len(columns) < 2:
            continue
        wide = pd.DataFrame(columns)
        if wide.isna().any(axis=None):
            raise ValueError(f"the users.csv of '{dataset}' differ in their users: compare runs on one split")
        found = paired_tests(wide, baseline if baseline in columns else None)
        against = f", all against {baseline}" if baseline in columns else ", every pair"
        caption = f"{dataset}: {metric} of {len(wide):,} users, means over seeds{against}"
        tables.append(Table(caption, list(TEST_COLUMNS), [_test_row(row) for row in found.to_dict("records")]))
    return tables


TEST_COLUMNS = (
    *("first", "second", "difference", "verdict", "95 % interval", "t-test, Holm", "Wilcoxon, Holm"),
    *("better", "equal", "worse"),
)


def _test_row(row: Mapping[Any, Any]) -> list[Cell]:
    shown = max(row["t_test_holm"], row["wilcoxon_holm"]) < 0.05
    verdict = ("first is better" if row["difference"] > 0 else "second is better") if shown else "no difference shown"
    return [
        words(row["model"]),
        words(row["other"]),
        Cell(f"{row['difference']:+.4f}", float(row["difference"]), shown),
        Cell(verdict, verdict, shown),
        Cell(f"{row['low']:+.4f} to {row['high']:+.4f}", float(row["low"])),
        number(row["t_test_holm"], "{:.2g}"),
        number(row["wilcoxon_holm"], "{:.2g}"),
        *(number(int(row[name]), "{:,}") for name in ("wins", "ties", "losses")),
    ]


def cost_table(dataset: str, parts: Sequence[Group]) -> Table:
    """What runs took: epochs, seconds and memory, where the rows say so."""
    shown = {
        "epochs": ("num_epochs", "{:.0f}"),
        "best epoch": ("best_epoch", "{:.0f}"),
        "seconds a run": ("seconds", "{:.1f}"),
        "seconds an epoch": ("seconds_per_epoch", "{:.2f}"),
        "peak memory, MiB": ("peak_memory_mib", "{:.0f}"),
    }
    runs = {part.model: _measured(part.runs) for part in parts}
    shown = {name: spec for name, spec in shown.items() if any(spec[0] in table for table in runs.values())}
    device = any("device" in table for table in runs.values())
    rows = []
    for model, table in runs.items():
        cells = [spread(table[column], form) if column in table else number(None) for column, form in shown.values()]
        names = ", ".join(dict.fromkeys(map(str, table["device"].dropna()))) if device else ""
        rows.append([words(model), *cells, *([words(names)] if device else [])])
    caption = f"{dataset}: time and memory of the test runs, mean ± sample standard deviation over seeds"
    return Table(caption, ["model", *shown, *(["device"] if device else [])], rows)


def _measured(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with seconds an epoch, and without best epochs where nothing was trained."""
    if {"seconds", "num_epochs"} <= set(runs):
        runs = runs.assign(seconds_per_epoch=runs["seconds"] / runs["num_epochs"].where(runs["num_epochs"] > 0))
    return runs.assign(best_epoch=runs["best_epoch"].where(runs["best_epoch"] >= 0)) if "best_epoch" in runs else runs


def chosen_table(comparison: Comparison, dataset: str, parts: Sequence[Group], metric: str | None) -> Table:
    """The hyper-parameters of the test runs, and how many points were searched."""
    path = comparison.folder / "runs.csv"
    runs = comparison.runs[(comparison.runs["dataset"] == dataset) & (comparison.runs["purpose"] == "search")]
    rows = []
    for part in parts:
        init, trainer = (next(arguments(part.runs[name], path)) for name in ("init_args", "trainer_args"))
        searched = runs[runs["model"] == part.model]
        cells = [words(part.model), words(_listed(init)), words(_listed(trainer)), number(len(searched))]
        if metric:
            cells.append(spread(part.runs[f"val_{metric}"]))
        rows.append(cells)
    columns = ["model", "model's arguments", "trainer's arguments", "searched points"]
    caption = f"{dataset}: the arguments that the test runs were given"
    return Table(caption, [*columns, f"validation {metric}"] if metric else columns, rows)


def search_table(comparison: Comparison, dataset: str, metric: str | None) -> Table | None:
    """Every point that was searched; None without a search."""
    runs = comparison.runs[(comparison.runs["dataset"] == dataset) & (comparison.runs["purpose"] == "search")]
    if runs.empty or metric is None:
        return None
    path, rows = comparison.folder / "runs.csv", []
    for row in runs.to_dict("records"):
        init, trainer = arguments([row["init_args"], row["trainer_args"]], path)
        cells = [words(row["model"]), words(_listed(init)), words(_listed(trainer)), number(row["seed"], "{:.0f}")]
        cells += [number(row[f"val_{metric}"], "{:.4f}"), number(row.get("num_epochs"), "{:.0f}")]
        rows.append([*cells, number(row.get("seconds"), "{:.1f}")])
    columns = ["model", "model's arguments", "trainer's arguments", "seed", f"validation {metric}", "epochs", "seconds"]
    return Table(f"{dataset}: all {len(rows)} searched points, on validation", columns, rows)


def user_table(dataset: str, metric: str, values: Mapping[str, pd.DataFrame]) -> Table:
    """How a metric is distributed over the users."""
    rows = []
    for model, table in values.items():
        if metric in table:
            one = table[metric]
            quantiles = [number(one.quantile(q), "{:.4f}") for q in (0.25, 0.5, 0.75, 0.9)]
            rows.append([words(model), number(one.mean(), "{:.4f}"), number((one == 0).mean(), "{:.1%}"), *quantiles])
    columns = ["model", "mean", "users at 0", "25 %", "median", "75 %", "90 %"]
    return Table(f"{dataset}: {metric} over the users, means over seeds", columns, rows)


def run_table(comparison: Comparison, metrics: Sequence[str]) -> Table:
    """All test runs."""
    names = [f"test_{name}" for name in metrics]
    columns = [name for name in ("best_epoch", "num_epochs", "seconds", "date") if name in comparison.tested]
    rows = []
    for row in comparison.tested.to_dict("records"):
        cells = [words(row["dataset"]), words(row["model"]), number(row["seed"], "{:.0f}")]
        cells += [number(row[name], "{:.4f}") for name in names]
        cells += [words(row[name]) if name == "date" else number(row[name], "{:.4g}") for name in columns]
        rows.append(cells)
    shown = [name.replace("_", " ").replace("num epochs", "epochs") for name in columns]
    return Table("Every test run", ["data set", "model", "seed", *metrics, *shown], rows)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items()) or "none"
