"""Attention over the views of a node."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import Linear

from pyg_mmrec.nn.xavier import reset_xavier
from pyg_mmrec.utils.checks import check_int


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
        reset_xavier(self)

    def forward(self, views: Tensor) -> Tensor:
        """The weighted sum of the views."""
        fused: Tensor = (super().forward(views).softmax(1) * views).sum(1)
        return fused


class CrossModalAttention(torch.nn.Module):
    r"""Lets what each modality says of a node read what the others say of it.

    From `"Multi-Modal Self-Supervised Learning for Recommendation" <https://arxiv.org/abs/2302.10632>`_. For each of H
    heads, with :math:`\mathbf{h}^{(h)}` the head's part of the channels,

    .. math::
        a^{(h)}_{mn} = \mathrm{softmax}_n \frac{(\mathbf{W}_q \mathbf{h}_m)^{(h)} \cdot
        (\mathbf{W}_k \mathbf{h}_n)^{(h)}}{\sqrt{d / H}}, \quad
        \bar{\mathbf{h}}_m = \Vert_{h = 1}^{H} \sum_n a^{(h)}_{mn} \mathbf{h}^{(h)}_n

    Args:
        channels: Width d of the views.
        num_heads: H, which divides the width (default: 4).

    Shapes:
        - **input:** ``[num_nodes, num_views, channels]``
        - **output:** ``[num_nodes, num_views, channels]``

    Raises:
        ValueError: If the heads do not divide the width.

    Example:
        >>> CrossModalAttention(8)(torch.rand(3, 2, 8)).shape
        torch.Size([3, 2, 8])
    """

    def __init__(self, channels: int, num_heads: int = 4) -> None:
        super().__init__()
        check_int(1, num_heads=num_heads)
        if channels % num_heads:
            raise ValueError(f"'num_heads' must divide the width, 'hidden_channels', {channels} (got {num_heads})")
        self.num_heads = num_heads
        self.query = Linear(channels, channels, bias=False)
        self.key = Linear(channels, channels, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the maps Xavier-uniform."""
        reset_xavier(self)

    def forward(self, views: Tensor) -> Tensor:
        """What each view reads from all views of its node."""
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)) for x in (self.query(views), self.key(views), views))
        logit = (q.unsqueeze(2) * k.unsqueeze(1)).sum(-1) / q.size(-1) ** 0.5  # [num_nodes, M, M, num_heads]
        read: Tensor = (logit.softmax(2).unsqueeze(-1) * v.unsqueeze(1)).sum(2)
        return read.flatten(-2)
