"""Kills trainings at random moments, resumes them, and compares with trainings that were left alone.

    python tests/training/kill_training.py FOLDER --models LightGCN FREEDOM SEA --kills 20

A checkpoint is written after every batch, and every other kill waits for the next write to begin; before every fifth
kill the disk is full for once: no file may grow beyond half a checkpoint. Weights and history must be equal to the last
bit. The children are forked from a process that has imported everything and computed nothing, so that they start at
once.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import FREEDOM
from pyg_mmrec.models.base import find_model
from pyg_mmrec.training import Trainer


def make_data(folder: Path) -> None:
    """Writes the views of a small shop."""
    torch.set_num_threads(1)
    data = AttributeShop(str(folder / "shop"), num_users=80, num_items=60)[0]
    (folder / "views.pickle").write_bytes(pickle.dumps(prepare(data, [FREEDOM])))


def train(name: str, folder: Path, resume: bool, full: bool = False) -> None:
    """Trains or goes on; with the disk full, until the first write fails."""
    views = pickle.loads((folder.parent / "views.pickle").read_bytes())
    torch.set_num_threads(1)
    torch.manual_seed(1 if resume else 0)  # what a resumed run starts from must not matter
    model = find_model(name).from_data(views[0], hidden_channels=8)
    trainer = Trainer(
        max_epochs=20,
        patience=20,
        batch_size=40,
        evaluator=Evaluator(["recall@20"]),
        run_dir=folder,
        checkpoint_minutes=1e-9,
        accelerator="cpu",
        progress=False,
    )
    if full:
        limit = (folder / "last.ckpt").stat().st_size // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            trainer.fit(model, *views, resume=resume)
        except OSError as error:
            if str(error).startswith(f"cannot write '{folder / 'last.ckpt'}'"):
                return
            raise
        raise AssertionError("a checkpoint was written where there was no room")
    trainer.fit(model, *views, resume=resume)


def start(work: Callable[[], None]) -> int:
    """Forks a child that works and ends."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return child


def end(child: int) -> bool:
    """Waits for a child; whether it was killed."""
    status = os.waitpid(child, 0)[1]
    if status not in (0, signal.SIGKILL):
        sys.exit(f"a training ended with status {status}")
    return status == signal.SIGKILL


def kill_at_random(name: str, folder: Path, writing: bool) -> tuple[bool, bool]:
    """Starts or resumes, and kills some time after the next checkpoint, with ``writing`` then in the next write.

    Returns whether it was killed, and while a checkpoint was written.
    """
    checkpoint, partial = folder / "last.ckpt", folder / ".last.ckpt.partial"
    resume = checkpoint.exists()
    before = checkpoint.stat().st_mtime_ns if resume else 0
    child = start(lambda: train(name, folder, resume))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.1))
    limit = time.monotonic() + 2
    while writing and time.monotonic() < limit and not partial.exists():
        pass
    os.kill(child, signal.SIGKILL)
    killed = end(child)
    return killed, killed and partial.exists()


def equal(one: Path, two: Path) -> bool:
    """Whether two finished runs have the same weights and the same history, but for the time it took."""
    left, right = (torch.load(path / "last.ckpt", weights_only=True) for path in (one, two))
    histories = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in run["progress"]["history"]]
        for run in (left, right)
    ]
    same = (torch.equal(left[part][key], right[part][key]) for part in ("model", "best") for key in left[part])
    return histories[0] == histories[1] and all(same)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="an empty folder to work in")
    parser.add_argument("--models", nargs="+", default=["LightGCN", "FREEDOM", "SEA"])
    parser.add_argument("--kills", type=int, default=20)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    end(start(lambda: make_data(args.folder)))
    for name in args.models:
        whole, killed = args.folder / f"{name}-whole", args.folder / f"{name}-killed"
        end(start(lambda name=name, whole=whole: train(name, whole, resume=False)))
        rounds = []
        for number in range(args.kills):
            if number % 5 == 2:
                end(start(lambda name=name, killed=killed: train(name, killed, resume=True, full=True)))
            rounds.append(kill_at_random(name, killed, writing=number % 2 == 1))
        end(start(lambda name=name, killed=killed: train(name, killed, resume=True)))
        kills, writing = (sum(column) for column in zip(*rounds, strict=True))
        verdict = "equal" if equal(whole, killed) else "DIFFERENT"
        sys.stdout.write(f"{name}: {kills} kills, {writing} of them while a checkpoint was written, {verdict}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
