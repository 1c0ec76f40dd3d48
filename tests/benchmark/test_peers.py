from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pyg_mmrec.typing import INTERACTS

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
#: What every row of a table says of its run.
FACTS = {"threads": 2, "torch": "2.13.0", "machine": "x86_64", "date": "2026-01-01"}


@pytest.fixture(scope="module")
def modules() -> Iterator[SimpleNamespace]:
    """The scripts, which import each other by name."""
    names = ["measure", "peers", "peers_data", "peers_knn", "peers_lightgcn", "peers_vbpr", "report_speed"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})


@pytest.fixture(scope="module")
def work(modules: SimpleNamespace) -> Any:
    """Thirty users with four of twenty items each; user 0 has all items but three."""
    sizes = modules.peers_data.Sizes(30, 20, 133, item_channels=6, hidden_channels=4, batch_size=64, k=3, repeats=1)
    item = np.stack([np.random.default_rng(user).permutation(20)[:4] for user in range(1, 30)])
    train = np.concatenate(
        [np.stack([np.zeros(17, int), np.arange(3, 20)]), np.stack([np.arange(1, 30).repeat(4), item.ravel()])], axis=1
    )
    return modules.peers_data.Workload(sizes, train, modules.peers_data.draw_held_out(train, 30, 20))


def test_nobody_is_graded_on_a_train_item(modules: SimpleNamespace, work: Any) -> None:
    train = set(zip(*work.train.tolist(), strict=True))
    assert not train & set(enumerate(work.held_out.tolist()))
    assert work.held_out[0] < 3
    assert work.held_out.max() < 20
    assert np.array_equal(work.held_out, modules.peers_data.draw_held_out(work.train, 30, 20))


def test_every_process_reads_the_same_data(modules: SimpleNamespace, work: Any, tmp_path: Path) -> None:
    work.save(tmp_path / "work.npz")
    found = modules.peers_data.Workload.load(tmp_path / "work.npz")
    assert found.sizes == work.sizes
    assert np.array_equal(found.train, work.train)
    assert np.array_equal(found.held_out, work.held_out)
    assert np.array_equal(modules.peers_data.features(5, 3), modules.peers_data.features(5, 3))
    train, held_out = found.hetero(), found.hetero(held_out=True)
    assert "edge_label_index" not in train[INTERACTS]
    assert held_out[INTERACTS].edge_label_index.tolist() == [list(range(30)), work.held_out.tolist()]
    assert held_out["user"].seen_item.numel() == work.sizes.num_train


@pytest.mark.parametrize("task", ["LightGCN: epoch", "LightGCN: evaluation", "VBPR: epoch", "VBPR: evaluation"])
def test_ours_is_measured(modules: SimpleNamespace, work: Any, task: str) -> None:
    assert modules.peers.TASKS[task]["ours"](work) > 0


def test_ours_is_the_first_of_every_comparison(modules: SimpleNamespace) -> None:
    assert {next(iter(peers)) for peers in modules.peers.TASKS.values()} == {"ours"}
    names = {name for peers in modules.peers.TASKS.values() for name in peers}
    assert names == {"ours", *modules.peers.DISTRIBUTIONS}


@pytest.mark.parametrize(
    ("peer", "task"),
    [
        ("PyG", "LightGCN: epoch"),
        ("RecBole", "LightGCN: epoch"),
        ("RecBole", "LightGCN: evaluation"),
        ("Cornac", "VBPR: epoch"),
        ("Cornac", "VBPR: evaluation"),
    ],
)
def test_a_peer_is_measured(
    modules: SimpleNamespace, work: Any, monkeypatch: pytest.MonkeyPatch, peer: str, task: str
) -> None:
    pytest.importorskip({"PyG": "torch_geometric"}.get(peer, peer.lower()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    row = modules.peers.measure(task, peer, work)
    assert row["version"]
    assert row["seconds"] > 0
    assert row["peak_gib"] > 0


@pytest.mark.parametrize("name", ["dense", "scikit-learn", "faiss"])
def test_all_find_the_same_neighbours(modules: SimpleNamespace, work: Any, name: str) -> None:
    if name == "faiss":
        pytest.importorskip("faiss")
    x = modules.peers_data.features(40, 5)
    expected = modules.peers.SEARCHES["ours"](x, 6)
    assert expected[:, 0].tolist() == list(range(40))
    assert np.array_equal(modules.peers.SEARCHES[name](x, 6), expected)
    assert modules.peers_knn.search(work, modules.peers.SEARCHES[name], 40, 5) > 0


def fake_python(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_what_a_process_prints_last_is_its_row(modules: SimpleNamespace, tmp_path: Path) -> None:
    row = {"version": "1", "seconds": 2.0, "peak_gib": 0.5}
    python = fake_python(tmp_path / "python", f"echo done.; echo; echo '{json.dumps(row)}'; echo log >&2")
    assert modules.peers.in_own_process(python, "VBPR: epoch", "Cornac", tmp_path / "work.npz", 2) == row


def test_memory_is_kept_by_all_in_one_comparison(modules: SimpleNamespace, tmp_path: Path) -> None:
    number = "{\"seconds\": '${MALLOC_TRIM_THRESHOLD_:-0}'}"
    python = fake_python(tmp_path / "python", f"echo '{number}'")
    found = [
        modules.peers.in_own_process(python, task, "PyG", tmp_path / "work.npz", 2)["seconds"]
        for task in ("LightGCN: epoch", modules.peers.KEPT)
    ]
    assert found == [0, 2**31 - 1]


def test_a_process_that_fails_is_named(modules: SimpleNamespace, tmp_path: Path) -> None:
    python = fake_python(tmp_path / "python", "echo no module >&2; exit 3")
    with pytest.raises(SystemExit, match=r"^VBPR: epoch: Cornac failed with 3:\nno module"):
        modules.peers.in_own_process(python, "VBPR: epoch", "Cornac", tmp_path / "work.npz", 2)


def test_ratios_are_to_ours_of_the_same_task(modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"ours": 2.0, "Cornac": 5.0, "PyG": 6.0}
    pythons = []

    def measured(python: str, task: str, peer: str, work: Path, threads: int) -> dict[str, Any]:
        assert modules.peers_data.Workload.load(work).held_out.shape == (20,)
        pythons.append(python)
        return {"version": "", "seconds": seconds[peer] * (1 + task.startswith("V")), "peak_gib": 1 / seconds[peer]}

    monkeypatch.setattr(modules.peers, "in_own_process", measured)
    sizes = modules.peers_data.Sizes(num_users=20, num_items=10, num_train=60)
    known = {"RecBole": None, "Cornac": "other/python"}
    rows = modules.peers.compare(["LightGCN: epoch", "VBPR: epoch"], known, sizes, 2)
    assert [(row["peer"], row["times_ours"], row["memory_times_ours"]) for row in rows] == [
        ("ours", 1, 1),
        ("PyG", 3, pytest.approx(1 / 3)),
        ("ours", 1, 1),
        ("Cornac", 2.5, pytest.approx(2 / 5)),
    ]
    assert pythons == [sys.executable] * 3 + ["other/python"]


@pytest.mark.parametrize("name", ["recbole", "cornac"])
def test_a_python_that_is_not_there_is_refused(
    modules: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["peers.py", f"--{name}", "nowhere/python"])
    with pytest.raises(SystemExit):
        modules.peers.main()
    assert f"--{name} must be the path of a Python (got 'nowhere/python')" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_not_that_of_the_process_before() -> None:
    held = bytearray(200 * 2**20)  # beside torch
    script = "import measure; print(measure.peak_gib())"
    done = subprocess.run([sys.executable, "-c", script], cwd=BENCHMARKS, capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < 0.1 < len(held) / 2**30


@pytest.mark.parametrize(
    ("memory", "cells"), [((0.5, 0.25), "| 0.50 GiB | 0.2 |"), ((None, None), "|  |  |")], ids=["measured", "unknown"]
)
def test_the_page_shows_versions_and_memory(
    modules: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    memory: tuple[float | None, float | None],
    cells: str,
) -> None:
    row = {"peer": "Cornac", "version": "3.0", "what": "VBPR: epoch", "seconds": 5.0, "times_ours": 2.5}
    row |= {"peak_gib": memory[0], "memory_times_ours": memory[1]}
    ours = row | {"peer": "ours", "version": None}
    pd.DataFrame([ours | FACTS, row | FACTS]).to_csv(tmp_path / "peers.csv", index=False)
    monkeypatch.setattr(modules.report_speed, "RESULTS", tmp_path)
    page = modules.report_speed.peers()
    assert f"| VBPR: epoch | Cornac 3.0 | 5.00 s | 2.5 {cells}" in page
    assert f"| VBPR: epoch | ours | 5.00 s | 2.5 {cells}" in page
    assert "2 threads, torch 2.13.0, x86_64, 2026-01-01" in page
