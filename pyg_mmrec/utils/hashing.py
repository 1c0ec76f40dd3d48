"""Hashes of tensors and of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor

from pyg_mmrec.utils.files import unreadable

_BLOCK = 2**20


def tensor_hash(*tensors: Tensor | None) -> str:
    """16 hexadecimal digits that tell the tensors' values, in their order; None counts as an empty one."""
    digest = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        digest.update(b"|")
    return digest.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of the bytes of a file, read in blocks.

    Raises:
        ValueError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise unreadable(path, error) from error
    return digest.hexdigest()
