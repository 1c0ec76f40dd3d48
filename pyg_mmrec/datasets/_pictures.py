"""Images of items from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read_images(paths: Sequence[str], size: int) -> tuple[Tensor, Tensor, int]:
    """Reads images, scaled to a square, one at a time.

    Args:
        paths: A file for each item, an empty text for none.
        size: Height and width.

    Returns:
        ``[num_items, 3, size, size]`` uint8, zeros where an item has none; which items have one; how many files are
        missing or broken, whose items have none.

    Raises:
        ImportError: If pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("'image_size' needs pillow; install it with: pip install 'pyg-mmrec[tables]'") from error
    image = torch.zeros(len(paths), 3, size, size, dtype=torch.uint8)
    has = torch.zeros(len(paths), dtype=torch.bool)
    num_broken = 0
    for item, path in enumerate(paths):
        if not path:
            continue
        try:
            with Image.open(Path(path)) as file:
                pixels = np.asarray(file.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # what pillow makes of foreign bytes
            num_broken += 1
            continue
        image[item] = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        has[item] = True
    return image, has, num_broken
