"""The start of maps and tables."""

from __future__ import annotations

import torch
from torch.nn import Linear


def reset_xavier(module: torch.nn.Module) -> None:
    """Draws the linear maps inside a module Xavier-uniform, with biases of zero, as the published protocol does.

    Other layers without parts of their own, such as tables and norms, start by their own rule.

    Args:
        module: A model, a layer or a container of layers.

    Example:
        >>> lin = Linear(3, 2)
        >>> reset_xavier(lin)
        >>> lin.bias.tolist()
        [0.0, 0.0]
    """
    for part in module.modules():
        reset = getattr(part, "reset_parameters", None)
        if isinstance(part, Linear):
            torch.nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                torch.nn.init.zeros_(part.bias)
        elif callable(reset) and next(part.children(), None) is None:
            reset()
