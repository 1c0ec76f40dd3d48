"""Reading of training checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

#: Raised when the meaning of a checkpoint's entries changes.
FORMAT = 3


def load_checkpoint(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Loads a training checkpoint of the same settings; tensors and plain values only, nothing is executed.

    Args:
        path: The file.
        settings: What the checkpoint must have been written with.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a checkpoint, is of another format, or was written with other settings.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint '{path}' to resume from: start without 'resume'")
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # an unpickler fails in any way on damaged bytes
        raise ValueError(
            f"'{path}' is not a readable checkpoint ({type(error).__name__}): it is damaged or holds more than tensors "
            f"and plain values; delete it and start a new run"
        ) from None
    written = checkpoint.get("settings") if isinstance(checkpoint, dict) else None
    if not isinstance(written, dict) or checkpoint.get("format") != FORMAT:
        raise ValueError(f"'{path}' is not a checkpoint of format {FORMAT}: start a new run")
    for key in sorted(written.keys() | settings.keys(), key=str):
        if repr(written.get(key)) != repr(settings.get(key)):
            raise ValueError(
                f"'{path}' was written with {key} = {written.get(key)!r}, not {settings.get(key)!r}: resume with the "
                f"settings of the run or start a new one"
            )
    return checkpoint
