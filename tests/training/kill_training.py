"""Kills a training at random moments, resumes it, and lets it end; run by test_trainer.py in a process of its own.

The children are forked from a process that has imported everything and computed nothing, so that they start at once.
"""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import FREEDOM
from pyg_mmrec.training import Trainer


def train(folder: Path, resume: bool) -> None:
    """Writes a checkpoint after every batch."""
    views = pickle.loads((folder.parent / "views.pickle").read_bytes())
    torch.set_num_threads(1)
    torch.manual_seed(1 if resume else 0)  # what a resumed run starts from must not matter
    model = FREEDOM.from_data(views[0], hidden_channels=8)
    trainer = Trainer(
        max_epochs=12,
        batch_size=40,
        monitor="recall@3",
        evaluator=Evaluator(["recall@3"]),
        run_dir=folder,
        checkpoint_minutes=1e-9,
        accelerator="cpu",
        progress=False,
    )
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


def main(folder: Path) -> None:
    end(start(lambda: train(folder / "whole", resume=False)))
    checkpoint, kills = folder / "killed" / "last.ckpt", 0
    for _ in range(3):
        resume = checkpoint.exists()
        before = checkpoint.stat().st_mtime_ns if resume else 0
        child = start(lambda resume=resume: train(folder / "killed", resume))
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        kills += end(child)
    end(start(lambda: train(folder / "killed", resume=True)))
    sys.stdout.write(f"{kills}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
