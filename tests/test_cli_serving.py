from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from pyg_mmrec.cli import main
from pyg_mmrec.models import ModelCard
from pyg_mmrec.utils import Ids

NUM_USERS, NUM_ITEMS = 30, 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run whose catalogue has own ids."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    data = ["--dataset", "AttributeShop", "--dataset.root", str(folder.parent / "shop")]
    sizes = ["--dataset.num_users", str(NUM_USERS), "--dataset.num_items", str(NUM_ITEMS)]
    short = ["--dataset.interactions_per_user", "5", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    main(["train", "--model", "BPRMF", *data, *sizes, *short, "--licence", "mit", "--run_dir", str(folder)])
    Ids([f"u{n}" for n in range(NUM_USERS)], list(range(500, 500 + NUM_ITEMS))).save(folder / "model")
    return folder


def test_train_fills_the_card(run: Path) -> None:
    card, row = ModelCard.load(run / "model"), json.loads((run / "result.json").read_text())
    assert card.licence == "mit"
    assert (card.data["dataset"], card.data["num_users"]) == ("AttributeShop", NUM_USERS)
    assert card.data["split_hash"] == row["split_hash"]
    assert card.metrics["test_recall@20"] == row["test_recall@20"]
    assert card.protocol.startswith("random; seed 0, epoch 0")


def test_recommend_writes_parquet_with_own_ids(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    main(["recommend", str(run), "--k", "3", "--output", str(tmp_path / "recs.parquet")])
    main(["recommend", str(run), "--k", "3", "--output", str(tmp_path / "recs.csv")])
    table, other = pd.read_parquet(tmp_path / "recs.parquet"), pd.read_csv(tmp_path / "recs.csv")
    assert table["user"].tolist() == other["user"].tolist() == [f"u{n}" for n in range(NUM_USERS) for _ in range(3)]
    assert table["item"].tolist() == other["item"].tolist()
    assert table["item"].between(500, 500 + NUM_ITEMS - 1).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recs.csv", "recs.parquet"]


def test_export(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", str(run), "--format", "torch", "--output", str(tmp_path)])
    path = Path(capsys.readouterr().out.strip())
    assert path == tmp_path / "scores.pt2"
    assert torch.export.load(path).module()(torch.tensor([0, 1])).shape == (2, NUM_ITEMS)
    assert Ids.load(tmp_path).of("user", [3]) == ["u3"]


def test_ids_of_another_catalogue(run: Path, tmp_path: Path, failure: Callable[..., str]) -> None:
    kept = (run / "model" / "ids.json").read_text()
    Ids(["a"], ["b"]).save(run / "model")
    line = failure("recommend", run)
    (run / "model" / "ids.json").write_text(kept)
    assert line.startswith("'ids' names 1 users and 1 items but the data has 30 and 20")


def test_bad_input_of_export_and_serve(run: Path, tmp_path: Path, failure: Callable[..., str]) -> None:
    pytest.importorskip("uvicorn")
    assert "arguments are required: format" in failure("export", run)
    assert "invalid choice: 'tvm'" in failure("export", run, "--format", "tvm")
    assert "has no config.yaml" in failure("export", tmp_path, "--format", "torch")
    assert "has no config.yaml" in failure("serve", tmp_path, "--port", "0")
    assert "--port must lie in 0..65535 (got 70000)" in failure("serve", run, "--port", "70000")
    assert "'max_k' must be positive (got 0)" in failure("serve", run, "--max_k", "0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line = failure("serve", run, "--port", str(taken.getsockname()[1]))
    assert line.startswith("cannot listen on 127.0.0.1, port ")
    assert line.endswith("choose another --host or --port")


def test_a_service_without_its_packages(
    run: Path, monkeypatch: pytest.MonkeyPatch, failure: Callable[..., str]
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert failure("serve", run) == "'serve' needs FastAPI and uvicorn: pip install 'pyg-mmrec[serve]'"


def test_serve_answers_until_it_is_stopped(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    uvicorn = pytest.importorskip("uvicorn")
    found: dict[str, Any] = {}
    original = uvicorn.Server.startup

    async def startup(self: Any, sockets: Any = None) -> None:
        await original(self, sockets)
        address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"

        def ask() -> None:
            for path in ("/ready", "/recommendations?user=u3&k=2", "/model"):
                with urllib.request.urlopen(address + path, timeout=10) as answer:
                    found[path.partition("?")[0]] = json.load(answer)
            signal.raise_signal(signal.SIGTERM)

        threading.Thread(target=ask).start()

    monkeypatch.setattr(uvicorn.Server, "startup", startup)
    before = signal.getsignal(signal.SIGTERM)
    main(["serve", str(run), "--port", "0"])
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().out.startswith("serving on http://127.0.0.1:")
    assert found["/ready"] == {"status": "ready"}
    assert found["/recommendations"]["user"] == "u3"
    assert len(found["/recommendations"]["items"]) == 2
    assert found["/model"]["licence"] == "mit"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_well(run: Path, number: signal.Signals) -> None:
    pytest.importorskip("uvicorn")
    command = [sys.executable, "-m", "pyg_mmrec.cli", "serve", str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().split()[2]
    with urllib.request.urlopen(address + "/recommendations?user=u3", timeout=30) as answer:
        assert answer.status == 200
    process.send_signal(number)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "")
