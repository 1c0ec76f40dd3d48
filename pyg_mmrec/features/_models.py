"""Folders, devices and hashes of models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from pyg_mmrec.utils.hashing import file_digest


def find_device(name: str | None) -> torch.device:
    """The device of that name."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"'device' must name a device such as 'cpu' or 'cuda:0' (got {name!r})") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"'device' {name!r} is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    return device


def model_folder(model: str, files: Sequence[str]) -> Path | None:
    """The folder of a model, None where it is a name."""
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if folder.is_absolute() or model.startswith((".", "~")) or folder.exists():
            raise FileNotFoundError(f"no folder {folder}; 'model' must be a model's folder or name")
        return None
    if not any((folder / name).is_file() for name in files):
        raise ValueError(f"'model' {str(folder)!r} holds no model: it has no {' and no '.join(files)}")
    return folder


def folder_hash(folder: Path) -> str:
    """SHA-256 over the names and bytes of the files in a folder, hidden ones aside."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder)
        if not any(part.startswith(".") for part in name.parts):
            total.update(f"{name.as_posix()}\n{file_digest(path)}\n".encode())
    return total.hexdigest()


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 over the names, types and bytes of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
