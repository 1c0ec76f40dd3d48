"""Evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Switchable(Protocol):
    """What has a mode, such as a module."""

    training: bool

    def train(self, mode: bool = True) -> Any:
        """Sets ``training``."""
        ...


@contextmanager
def evaluating(model: Switchable) -> Iterator[None]:
    """Holds a model in evaluation mode, then puts it back.

    Example:
        >>> import torch
        >>> model = torch.nn.Dropout().train()
        >>> with evaluating(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(training)
