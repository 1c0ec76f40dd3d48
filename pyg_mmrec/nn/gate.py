"""Gates between representations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class FilterGate(torch.nn.Module):
    r"""Filters a modality by behaviour: a sigmoid gate, computed from modal features, on behaviour embeddings.

    From "DRepMRec: A Dual Representation Learning Framework for Multimodal Recommendation" (Eq. 4):

    .. math::
        \dot{\mathbf{E}}_m = \sigma(\mathbf{E}_m \mathbf{W}_m + \mathbf{b}_m) \odot \mathbf{E}_B

    Args:
        in_channels: Width of the modal features.
        out_channels: Width of the behaviour embeddings.

    Shapes:
        - **input:** ``[num_nodes, in_channels]`` features, ``[num_nodes, out_channels]`` behaviour embeddings
        - **output:** ``[num_nodes, out_channels]``

    Example:
        >>> FilterGate(8, 4)(torch.rand(3, 8), torch.rand(3, 4)).shape
        torch.Size([3, 4])
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.lin = torch.nn.Linear(in_channels, out_channels)

    def reset_parameters(self) -> None:
        """Draws the weights anew."""
        self.lin.reset_parameters()

    def forward(self, x: Tensor, behavior: Tensor) -> Tensor:
        """Gates ``behavior`` by the features ``x``."""
        return self.filter(self.project(x), behavior)

    def project(self, x: Tensor) -> Tensor:
        """The linear part without its bias, ``[num_nodes, out_channels]``.

        Of nodes whose features are means over others, such as users', it is the mean of the others' projections:
        their wide features need not exist.
        """
        return F.linear(x, self.lin.weight)

    def filter(self, projected: Tensor, behavior: Tensor) -> Tensor:
        """Gates ``behavior`` by projected features."""
        return (projected + self.lin.bias).sigmoid() * behavior
