"""What a run leaves on disk."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout

from pyg_mmrec.utils.files import write_atomically, write_json


class RunFolder:
    """The folder of one training run.

    ====================  ========================================================
    ``settings.json``     the model's class and arguments, the trainer's settings
    ``environment.json``  versions, device, threads, git revision
    ``history.csv``       a row an epoch: loss terms, validation metrics, seconds
    ``events.*``          the same for TensorBoard, where that is installed
    ``last.ckpt``         what resuming needs
    ``metrics.json``      best epoch, its validation and test metrics
    ``model/``            the best epoch's model, for ``from_pretrained``
    ``.lock``             held by the process that trains here
    ====================  ========================================================

    Args:
        path: The folder; made if it is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def holds_run(path: str | Path) -> bool:
        """Whether a folder has the checkpoint of a run."""
        return (Path(path) / "last.ckpt").exists()

    @property
    def checkpoint(self) -> Path:
        """The training checkpoint."""
        return self.path / "last.ckpt"

    @property
    def model(self) -> Path:
        """The folder of the best epoch's model."""
        return self.path / "model"

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps the folder for this process; the system frees it when the process ends, however it ends.

        Raises:
            ValueError: If another process uses it.
        """
        lock = FileLock(self.path / ".lock", timeout=0, is_singleton=True)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"'{self.path}' is in use by another process: wait until it ends or choose another 'run_dir'"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def write_start(self, settings: dict[str, Any]) -> None:
        """Writes the settings and the environment."""
        write_json(self.path / "settings.json", settings)
        write_json(self.path / "environment.json", environment())

    def write_history(self, history: list[dict[str, float]]) -> None:
        """Writes one row an epoch."""
        frame = pd.DataFrame(history)
        write_atomically(self.path / "history.csv", lambda path: frame.to_csv(path, index=False))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Writes the result."""
        write_json(self.path / "metrics.json", metrics)


def environment() -> dict[str, Any]:
    """Versions, device and git revision, for the record of a run."""
    packages = ("pyg-mmrec", "torch", "torch-geometric", "torch-scatter", "torch-sparse", "numpy", "lightning-fabric")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "num_threads": torch.get_num_threads(),
        "git_revision": _git_revision(),
        "versions": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the repository that the current folder belongs to, if any."""
    try:
        out = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return out.stdout.strip()
