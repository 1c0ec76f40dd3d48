"""The critic of an adversarial task."""

from __future__ import annotations

import torch
from torch.nn import Dropout, LayerNorm, LeakyReLU, Linear

from pyg_mmrec.nn.xavier import reset_xavier
from pyg_mmrec.utils.checks import check_int, check_part


class Critic(torch.nn.Sequential):
    r"""Tells generated rows from real ones by a number, the higher the more real.

    A perceptron with two hidden layers of leaky units. The rows of a batch are normalised one by one and not together,
    because :func:`~pyg_mmrec.nn.loss.gradient_penalty` is taken row by row; the last map has no bias, which a
    difference of two means does not feel.

    Args:
        in_channels: Width of the rows.
        hidden_channels: Width of the hidden layers (default: 64).
        dropout: Of the hidden layers (default: 0.2).

    Shapes:
        - **input:** ``[..., in_channels]``
        - **output:** ``[..., 1]``

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Critic(10)(torch.rand(3, 10)).shape
        torch.Size([3, 1])
    """

    def __init__(self, in_channels: int, hidden_channels: int = 64, dropout: float = 0.2) -> None:
        check_int(1, in_channels=in_channels, hidden_channels=hidden_channels)
        check_part(dropout=dropout)
        super().__init__(
            Linear(in_channels, hidden_channels),
            LayerNorm(hidden_channels),
            LeakyReLU(0.2),
            Dropout(dropout),
            Linear(hidden_channels, hidden_channels),
            LeakyReLU(0.2),
            Dropout(dropout),
            Linear(hidden_channels, 1, bias=False),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the maps Xavier-uniform; biases start at zero."""
        reset_xavier(self)
