from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pyg_mmrec.benchmark import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results" / "runs.csv"


def never() -> dict[str, Any]:
    raise AssertionError("the run is in the file")


def test_a_finished_run_is_not_repeated(path: Path) -> None:
    key = {"args": {"b": [1, 2], "a": 0.1}, "share": 0.05, "seed": 3, "label": "None"}
    made = Ledger(path, list(key)).run(key, lambda: {"val": 0.25, "label": "hidden by the key's"})
    assert made["args"] == '{"a": 0.1, "b": [1, 2]}'
    assert made["label"] == "None"
    found = Ledger(path, list(key)).run(key | {"args": {"a": 0.1, "b": [1, 2]}}, never)
    assert {name: found[name] for name in ("val", "seed", "share", "args")} == {
        "val": 0.25,
        "seed": 3,
        "share": 0.05,
        "args": '{"a": 0.1, "b": [1, 2]}',
    }
    assert {"date", "threads", "torch", "torch_geometric"} <= set(found)


@pytest.mark.parametrize("change", [{"seed": 1}, {"args": {"a": 2}}, {"model": "LightGCN"}, {"model": ""}])
def test_another_run_is_made(path: Path, change: dict[str, Any]) -> None:
    ledger = Ledger(path, ["model", "args", "seed"])
    key = {"model": "SEA", "args": {}, "seed": 0}
    ledger.run(key, lambda: {"val": 1})
    assert ledger.find(key | change) is None
    assert ledger.run(key | change, lambda: {"val": 2})["val"] == 2
    assert ledger.run(key | change, never)["val"] == 2
    assert ledger.rows()["val"].tolist() == [1, 2]


def test_a_run_that_fails_leaves_nothing(path: Path) -> None:
    ledger = Ledger(path, ["seed"])
    ledger.run({"seed": 0}, lambda: {"val": 1})
    before = path.read_bytes()
    with pytest.raises(AssertionError):
        ledger.run({"seed": 1}, never)
    assert path.read_bytes() == before


def test_rows_may_have_different_columns(path: Path) -> None:
    ledger = Ledger(path, ["seed"])
    ledger.run({"seed": 0}, lambda: {"recall": 1.0})
    ledger.run({"seed": 1}, lambda: {"gauc": 0.5})
    assert ledger.rows()[["recall", "gauc"]].isna().to_numpy().tolist() == [[False, True], [True, False]]


def work(path: Path, first: int) -> None:
    ledger = Ledger(path, ["seed"])
    for seed in range(first, first + 20):
        ledger.run({"seed": seed}, lambda seed=seed: {"val": seed})


def test_processes_share_a_file(path: Path) -> None:
    """Ten runs are done by both, and kept once."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work, args=(path, first)) for first in (0, 10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert sorted(Ledger(path, ["seed"]).rows()["seed"]) == list(range(30))


def test_another_table(path: Path) -> None:
    path.parent.mkdir()
    pd.DataFrame({"seed": [0]}).to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"runs.csv lacks the columns model, args: .* choose another file$"):
        Ledger(path, ["model", "seed", "args"])


@pytest.mark.parametrize("content", ["", 'model,seed\n"SEA,0\nb', "a\n1,2\n1,2,3,4\n"])
def test_no_table(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(ValueError, match=r"runs.csv (is no table of runs \(.+\): repair it|lacks the columns)"):
        Ledger(path, ["model", "seed"])


def test_a_folder(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"runs.csv cannot be read \(Is a directory\)"):
        Ledger(path, ["model", "seed"])


def test_wrong_key(path: Path) -> None:
    with pytest.raises(ValueError, match=r"^'key' must have model, seed \(got model\)$"):
        Ledger(path, ["model", "seed"]).find({"model": "SEA"})
