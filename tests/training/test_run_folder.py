from __future__ import annotations

import csv
import importlib.metadata
import json
import platform
from pathlib import Path

import pytest
import torch

import pyg_mmrec
from pyg_mmrec.training import RunFolder
from pyg_mmrec.training.run_folder import environment


def test_the_folder_is_made(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path / "a" / "b"))
    assert folder.path.is_dir()
    assert folder.checkpoint == tmp_path / "a" / "b" / "last.ckpt"
    assert folder.model == tmp_path / "a" / "b" / "model"
    assert RunFolder(folder.path).path == folder.path


def test_start(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_start({"seed": 3})
    assert json.loads((tmp_path / "settings.json").read_text()) == {"seed": 3}
    assert set(json.loads((tmp_path / "environment.json").read_text())) == set(environment())


def test_history_is_written_anew_each_time(tmp_path: Path) -> None:
    folder, history = RunFolder(tmp_path), [{"epoch": 0, "loss_bpr": 0.1}]
    folder.write_history(history)
    history.append({"epoch": 1, "loss_bpr": 1 / 3})
    folder.write_history(history)
    with open(tmp_path / "history.csv", encoding="utf-8", newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    assert rows == history


def test_metrics(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_metrics({"test": {"recall@20": 1 / 3}})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"test": {"recall@20": 1 / 3}}


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["versions"]["torch"] == importlib.metadata.version("torch")
    assert found["versions"]["pyg-mmrec"] == pyg_mmrec.__version__
    assert found["num_threads"] == torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert environment()["git_revision"] is None  # no repository
    monkeypatch.setenv("PATH", "")
    assert environment()["git_revision"] is None  # no git
