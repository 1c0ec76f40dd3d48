"""What a comparison's folder holds, read and checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from pyg_mmrec.benchmark.ledger import Ledger
from pyg_mmrec.utils.files import one_line, unreadable

#: Columns that every row of ``runs.csv`` has.
KEY = ["dataset", "model", "purpose", "init_args", "trainer_args", "seed"]
SHOWN = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")


class Comparison(NamedTuple):
    """The runs of a folder."""

    folder: Path
    runs: pd.DataFrame
    suite: str  #: The text of ``suite.yaml``, empty without one

    @property
    def tested(self) -> pd.DataFrame:
        """The runs that saw the test part."""
        return self.runs[self.runs["purpose"] == "test"]

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics that were tested."""
        columns = [name for name in self.tested.columns if name.startswith("test_")]
        return [name.removeprefix("test_") for name in columns if self.tested[name].notna().any()]

    def run_folder(self, dataset: str, model: str, seed: int) -> Path:
        """Where the files of a test run are."""
        return self.folder / dataset / model / f"seed-{seed}"


class Group(NamedTuple):
    """The test runs of one model on one data set."""

    model: str
    runs: pd.DataFrame
    folders: dict[int, Path]  #: by seed


def read_comparison(folder: str | Path) -> Comparison:
    """Reads ``runs.csv`` and ``suite.yaml``.

    Raises:
        ValueError: If there is no test run, a value is not what it should be, or test runs of one name differ in their
            split or their arguments.
    """
    folder = Path(folder)
    path = folder / "runs.csv"
    if not path.is_file():
        raise ValueError(f"'{folder}' has no runs.csv: name a folder that 'pyg-mmrec benchmark' wrote")
    runs = Ledger(path, KEY).rows()
    columns = [str(name) for name in runs if name != "published_where"]
    numbers = [name for name in columns if name.startswith(("val_", "test_", "published_"))]
    for name in [*numbers, "seed", *({"best_epoch", "num_epochs", "seconds", "peak_memory_mib"} & set(runs))]:
        runs[name] = _numbers(runs[name], path)
    runs["model"], runs["dataset"] = runs["model"].astype(str), runs["dataset"].astype(str)
    _check_rows(runs, path)
    suite = folder / "suite.yaml"
    return Comparison(folder, runs, _text(suite) if suite.is_file() else "")


def groups(comparison: Comparison, dataset: str) -> list[Group]:
    """The models of a data set, in the order of their first run."""
    tested = comparison.tested
    found = []
    for model, runs in tested[tested["dataset"] == dataset].groupby("model", sort=False):
        folders = {int(seed): comparison.run_folder(dataset, str(model), int(seed)) for seed in runs["seed"]}
        found.append(Group(str(model), runs, folders))
    return found


def read_history(folder: Path) -> pd.DataFrame | None:
    """``history.csv`` of a run, one row an epoch; None where there is none."""
    path = folder / "history.csv"
    if not path.is_file():
        return None
    table = _table(path, "a row for each epoch of a training")
    if "epoch" not in table or table.empty:
        raise ValueError(f"{path} must have a column 'epoch' and a row for each epoch: move it away or train again")
    return table.apply(_numbers, path=path)


def read_users(folder: Path) -> pd.DataFrame | None:
    """``users.csv`` of a run, one row a user and one column a metric; None where there is none."""
    path = folder / "users.csv"
    if not path.is_file():
        return None
    table = _table(path, "metrics of single users")
    if "user" not in table or table.shape[1] < 2 or table["user"].duplicated().any():
        raise ValueError(f"{path} must have a column 'user' with each user once and one for each metric: write it anew")
    table = table.apply(_numbers, path=path).set_index("user")
    if not ((table >= 0) & (table <= 1)).all(axis=None):
        raise ValueError(f"{path} has values of metrics that are missing or not in [0, 1]: write it anew")
    return table


def read_settings(folder: Path) -> dict[str, Any]:
    """``settings.json`` of a run, empty where there is none."""
    path = folder / "settings.json"
    return parse_json(_text(path), f"{path}") if path.is_file() else {}


def parse_json(text: Any, where: str) -> dict[str, Any]:
    """A dictionary that was written as JSON.

    Raises:
        ValueError: If it is none.
    """
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{where} must hold a dictionary as JSON (got {one_line(str(text), 60)})")
    return found


def arguments(values: Iterable[Any], path: Path) -> Iterator[dict[str, Any]]:
    """The arguments that the rows of a column hold."""
    for value in values:
        yield parse_json(value, f"{path}: a row's arguments")


def _check_rows(runs: pd.DataFrame, path: Path) -> None:
    """Refuses runs that cannot be put side by side."""
    tested = runs[runs["purpose"] == "test"]
    if tested.empty:
        raise ValueError(f"{path} has no finished test run: go on with 'pyg-mmrec benchmark'")
    for dataset, model in zip(tested["dataset"], tested["model"], strict=True):
        if {"..", ""} & {*dataset.split("/"), *model.split("/")}:
            raise ValueError(f"{path} has the data set {dataset!r} or the model {model!r}, which name no folder")
    if runs["seed"].isna().any():
        raise ValueError(f"{path} has a run without a seed: repair it, or move it away to begin anew")
    for column, what in (("split_hash", "splits"), ("protocol", "protocols")):
        if column in tested:
            several = tested.groupby("dataset")[column].nunique()
            for dataset in several.index[several > 1]:
                raise ValueError(f"{path} has test runs on different {what} of '{dataset}': compare those of one only")
    points = tested.groupby(["dataset", "model"])[["init_args", "trainer_args"]].nunique().max(axis=1)
    for dataset, model in points.index[points > 1]:
        raise ValueError(f"{path} has test runs of '{model}' on '{dataset}' with different arguments: give labels")
    for dataset, model, seed in tested.loc[tested.duplicated(["dataset", "model", "seed"])][
        ["dataset", "model", "seed"]
    ].itertuples(index=False):
        raise ValueError(f"{path} has two test runs of '{model}' on '{dataset}' with seed {seed}: keep one")


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    """A column as numbers."""
    try:
        found: pd.Series = pd.to_numeric(column)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} has no number in its column '{column.name}' ({one_line(str(error))})") from None
    return found


def _table(path: Path, what: str) -> pd.DataFrame:
    try:
        table: pd.DataFrame = pd.read_csv(path)
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError as error:  # pandas' own errors are among these
        raise ValueError(f"{path} is no table of {what} ({one_line(str(error))}): move it away") from None
    return table


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error.reason}): move it away") from None
