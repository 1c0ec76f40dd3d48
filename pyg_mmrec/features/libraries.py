"""Importing the libraries that encode."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import torch

#: Compiled operators that torchvision's Python code asks for when it is imported.
_OPERATORS = ("torchvision::nms", "torchvision::qnms")


def import_library(name: str) -> Any:
    """Imports timm or sentence_transformers, also where torchvision is a build for another torch.

    Both import torchvision, where it is installed, for its Python code. Beside a torch of another build, such as one
    for CPUs, torchvision does not find its compiled operators and stops at the first that it describes. Encoders call
    none of them, so they are declared, without any code, and torchvision is imported again. The encoders import their
    library so; to make or save a model on such a machine, do the same first.

    Args:
        name: The module.

    Raises:
        ImportError: If it is not installed.

    Example:
        >>> timm = import_library('timm')  # doctest: +SKIP
    """
    try:
        with contextlib.suppress(ModuleNotFoundError):  # who needs it will say so
            importlib.import_module("torchvision")
    except RuntimeError as error:
        if not any(f"operator {operator} does not exist" in str(error) for operator in _OPERATORS):
            raise
        for operator in _OPERATORS:
            with contextlib.suppress(RuntimeError):  # it is there
                torch.library.define(operator, "() -> ()")
        importlib.import_module("torchvision")
    return importlib.import_module(name)
