"""Attention over the views of a node."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear


class ViewAttention(torch.nn.Sequential):
    r"""Weighs what each modality says of a node, and adds it up.

    From `"Latent Structure Mining with Contrastive Modality Fusion for Multimedia Recommendation"
    <https://arxiv.org/abs/2111.00678>`_; MGCN's fuser takes what views share in the same way:

    .. math::
        \alpha_m = \mathrm{softmax}_m \, \mathbf{q}^\top \tanh(\mathbf{W} \mathbf{h}_m + \mathbf{b}), \quad
        \mathbf{h} = \sum_m \alpha_m \mathbf{h}_m

    Args:
        channels: Width of the views.

    Shapes:
        - **input:** ``[num_nodes, num_views, channels]``
        - **output:** ``[num_nodes, channels]``

    Example:
        >>> ViewAttention(4)(torch.rand(3, 2, 4)).shape
        torch.Size([3, 4])
    """

    def __init__(self, channels: int) -> None:
        super().__init__(Linear(channels, channels), torch.nn.Tanh(), Linear(channels, 1, bias=False))

    def reset_parameters(self) -> None:
        """Draws the maps Xavier-uniform; the bias starts at zero."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
            else:
                torch.nn.init.xavier_uniform_(parameter)

    def forward(self, views: Tensor) -> Tensor:
        """The weighted sum of the views."""
        fused: Tensor = (super().forward(views).softmax(1) * views).sum(1)
        return fused
