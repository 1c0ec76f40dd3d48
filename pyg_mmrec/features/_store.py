"""Vectors on disk by the hash of what they were computed from."""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pyg_mmrec.utils.files import one_line, write_atomically

#: Bytes of a key, a SHA-256.
KEY_BYTES = 32


class VectorStore:
    """Vectors of one model in a folder of parts, each of which is whole or not there.

    Several processes may write at a time; a vector that two of them wrote is read once.

    Args:
        folder: The folder; made with the first part.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writable = True

    def read(self, keys: Sequence[bytes]) -> tuple[Tensor | None, Tensor]:
        """The vectors of some keys, which differ.

        Returns:
            ``[num_keys, channels]`` float32, zeros where there is none, or None if none is there; ``[num_keys]`` bool,
            which are there.
        """
        row_of = {key: row for row, key in enumerate(keys)}
        found, has = None, torch.zeros(len(keys), dtype=torch.bool)
        for path in sorted(self.folder.glob("*.safetensors")) if keys else ():
            part = _read_part(path)
            if part is None:
                continue
            entries = [(place, row_of[key]) for place, key in enumerate(part[0]) if key in row_of]
            if entries:
                place, row = (torch.tensor(side) for side in zip(*entries, strict=True))
                if found is None:
                    found = torch.zeros(len(keys), part[1].size(1))
                found[row] = part[1][place]
                has[row] = True
        return found, has

    def add(self, keys: Sequence[bytes], vectors: Tensor) -> None:
        """Writes vectors as one more part; where that fails, a warning says so and nothing is written any more."""
        if not keys or not self._writable:
            return
        content = {"key": torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8), "x": vectors.contiguous()}
        content["key"] = content["key"].view(-1, KEY_BYTES)
        path = self.folder / f"{uuid.uuid4().hex}.safetensors"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda partial: safetensors.torch.save_file(content, partial))
        except (OSError, safetensors.SafetensorError) as error:
            self._writable = False
            warnings.warn(
                f"{self.folder} cannot be written ({one_line(str(error))}), so what is encoded is not kept; pass "
                "another 'cache_dir'",
                stacklevel=5,
            )


def _read_part(path: Path) -> tuple[list[bytes], Tensor] | None:
    """Keys and vectors of a part; a damaged one is removed with a warning."""
    try:
        content = safetensors.torch.load_file(path)
        key, x = content["key"], content["x"]
        if x.dim() != 2 or x.dtype != torch.float32 or key.dtype != torch.uint8 or key.shape != (len(x), KEY_BYTES):
            raise ValueError("it holds something else")
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        with contextlib.suppress(OSError):
            path.unlink()
        warnings.warn(f"{path} was damaged ({one_line(str(error))}); what it held is encoded again", stacklevel=6)
        return None
    data = key.numpy().tobytes()
    return [data[start : start + KEY_BYTES] for start in range(0, len(data), KEY_BYTES)], x
