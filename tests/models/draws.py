from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map


class DrawnOnCPU(TorchDispatchMode):
    """Draws all random numbers on the CPU, whatever device they are for: one seed gives the same on all devices."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        device = kwargs.get("device") or (tensors[0].device if tensors else "cpu")
        on_cpu = tree_map(lambda value: value.cpu() if isinstance(value, Tensor) else value, (args, kwargs))
        if "device" in kwargs:
            on_cpu[1]["device"] = torch.device("cpu")
        drawn = func(*on_cpu[0], **on_cpu[1])
        if func._schema.is_mutable:  # such as bernoulli_
            return args[0].copy_(drawn)
        return tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, drawn)
