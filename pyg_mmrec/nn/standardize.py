"""Features by their deviations from the mean."""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_mmrec.utils.checks import check_int

#: Columns that vary less are constant, and stay as they are but for their mean.
LEAST_DEVIATION = 1e-6


class Standardize(torch.nn.Module):
    """Subtracts the mean of each column and divides by its standard deviation, both those of given rows.

    Until :meth:`start_from` is called, features stay as they are.

    Args:
        channels: Width of the features.

    Shapes:
        - **input:** ``[num_rows, channels]``
        - **output:** the same

    Example:
        >>> standardize, x = Standardize(2), torch.tensor([[1.0, 5.0], [3.0, 5.0]])
        >>> standardize.start_from(x)
        >>> standardize(x)
        tensor([[-1.,  0.],
                [ 1.,  0.]])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_int(1, channels=channels)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    @torch.no_grad()
    def start_from(self, x: Tensor) -> None:
        """Takes mean and deviation of the rows of ``x``."""
        deviation, mean = torch.std_mean(x, dim=0, correction=0)
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > LEAST_DEVIATION, deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """The standardised features."""
        return (x - self.mean) / self.deviation
