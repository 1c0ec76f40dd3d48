from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

Views = tuple[HeteroData, HeteroData, HeteroData]
SCRIPT = Path(__file__).with_name("two_processes.py")


def train(
    name: str, folder: Path, batch_size: int, devices: int, mode: str = "whole", launcher: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The last checkpoint."""
    command = [sys.executable, *launcher, str(SCRIPT), name, str(folder), str(batch_size), str(devices), mode]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("stopped") == (devices if mode == "stop" else 0)
    kind = "stopped" if mode in ("stop", "resume") else mode
    checkpoint: dict[str, Any] = torch.load(folder / f"{name}-{devices}-{kind}" / "last.ckpt", weights_only=True)
    return checkpoint


@pytest.fixture
def folder(tiny_split: Views, tmp_path: Path) -> Path:
    (tmp_path / "views.pickle").write_bytes(pickle.dumps(tiny_split))
    return tmp_path


#: Biases before a batch normalisation have no gradient but that of rounding, of which Adam makes whole steps; the
#: running means follow them.
NO_GRADIENT = re.compile(r"align_in\.\w+\.bias|align_out\.\w+\.(2\.bias|[03]\.running_mean)")


def assert_near(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Equal losses and metrics in all epochs, and near weights at the end."""
    assert two["progress"]["best_epoch"] == one["progress"]["best_epoch"]
    for rows in zip(one["progress"]["history"], two["progress"]["history"], strict=True):
        for key in rows[0].keys() - {"seconds"}:
            assert rows[1][key] == pytest.approx(rows[0][key], abs=1e-5)
    for key, value in one["model"].items():
        if not NO_GRADIENT.search(key):
            torch.testing.assert_close(two["model"][key], value, rtol=1e-3, atol=1e-4)


# Of 200 interactions, the last batch of 39 has 5, three for one process and two for the other; that of 199 has 1.
@pytest.mark.slow
@pytest.mark.parametrize(("name", "batch_size"), [("BPRMF", 199), ("FREEDOM", 39), ("SEA", 39), ("Estimating", 39)])
def test_two_processes_equal_one(folder: Path, name: str, batch_size: int) -> None:
    assert_near(*(train(name, folder, batch_size, devices) for devices in (1, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["LightGCN", "FREEDOM"])
def test_two_processes_with_sparse_gradients_equal_one(folder: Path, name: str) -> None:
    assert_near(*(train(name, folder, 39, devices, "sampled") for devices in (1, 2)))


@pytest.mark.slow
def test_the_standard_launcher(folder: Path) -> None:
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    one, two = train("LightGCN", folder, 39, 1), train("LightGCN", folder, 39, 2, launcher=launcher)
    assert_near(one, two)
    assert two["settings"]["world_size"] == 2


@pytest.mark.slow
def test_an_interrupt_of_one_process_stops_both(folder: Path) -> None:
    whole = train("LightGCN", folder, 39, 2)
    stopped = train("LightGCN", folder, 39, 2, "stop")
    assert (stopped["progress"]["epoch"], stopped["progress"]["step"]) == (1, 3)
    resumed = train("LightGCN", folder, 39, 2, "resume")
    for key, value in whole["model"].items():
        assert torch.equal(resumed["model"][key], value)
