"""DualGNN."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import ModalProjection, XavierEmbedding
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import cooccurrence_operator, interaction_operator, triplet_scores
from pyg_mmrec.utils.checks import check_channels, check_choice, check_int, check_not_negative


class DualGNN(Recommender):
    r"""DualGNN: users' preferences by modality, fused for each user, and shared with users of common items.

    From `"DualGNN: Dual Graph Neural Network for Multimedia Recommendation"
    <https://doi.org/10.1109/TMM.2021.3138298>`_.

    In each modality a table of user preferences and the projected features of the items pass over the user-item graph
    (:class:`~pyg_mmrec.nn.conv.LightGCNConv`). Each user weighs the modalities by weights of its own, and receives what
    users with common items prefer (:class:`~pyg_mmrec.transforms.UserCooccurrence`):

    .. math::
        (\mathbf{H}_{m,u}, \mathbf{H}_{m,i}) = \mathrm{LightGCN}(\mathbf{P}_m, \mathbf{X}_m \mathbf{W}_m +
        \mathbf{b}_m), \quad
        \mathbf{h}_u = \sum_m \mathrm{softmax}_m(\mathbf{a}_u)_m \, \mathbf{h}_{m,u}, \quad
        \mathbf{h}_i = \sum_m \mathbf{h}_{m,i}

    .. math::
        \mathbf{h}^*_u = \mathbf{h}_u + \sum_{v \in \mathcal{N}_u} w_{uv} \mathbf{h}_v, \quad
        \hat{y}_{ui} = \langle \mathbf{h}^*_u, \mathbf{h}_i \rangle, \quad
        \mathcal{L} = \mathcal{L}_{BPR} + \lambda \sum_m \lVert \mathbf{P}_m \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the embeddings in each modality (default: 64, the paper's).
        num_layers: Layers over the user-item graph (default: 2).
        fusion: How a user's modalities become one: ``'weighted'``, the sum by the user's own weights (default, the
            paper's), their ``'mean'``, or ``'concat'``, where those of items are concatenated too.
        l2_weight: :math:`\lambda` on the preferences of the batch's users (default: 1e-3; search it).

    Raises:
        ValueError: If there is no modality or an argument is out of range; in ``forward``, if the data has no graph of
            users with common items.
    """

    user_cooccurrence: ClassVar[bool] = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        fusion: Literal["weighted", "mean", "concat"] = "weighted",
        l2_weight: float = 1e-3,
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="DualGNN")
        check_int(1, hidden_channels=hidden_channels)
        check_int(0, num_layers=num_layers)
        check_choice(("weighted", "mean", "concat"), fusion=fusion)
        check_not_negative(l2_weight=l2_weight)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.fusion = fusion
        self.l2_weight = l2_weight
        self.projection = ModalProjection(in_channels, hidden_channels)
        # P_m: any, because a ModuleDict gives plain modules back
        self.user_emb: Any = torch.nn.ModuleDict(
            {name: XavierEmbedding(num_users, hidden_channels) for name in in_channels}
        )
        self.conv = LightGCNConv(num_layers)
        # a; a single modality has nothing to weigh
        weighed = fusion == "weighted" and len(in_channels) > 1
        self.user_weight = XavierEmbedding(num_users, len(in_channels)) if weighed else None

    def reset_parameters(self) -> None:
        """Draws tables and maps Xavier-uniform; biases start at zero."""
        super().reset_parameters()
        for table in self.user_emb.values():
            table.reset_parameters()

    def forward(self, data: HeteroData) -> Representations:
        """Propagation in each modality, fusion, and the graph of users."""
        item = torch.cat(list(self.projection(data).values()), dim=1)
        user = torch.cat([table.weight for table in self.user_emb.values()], dim=1)
        user, item = self.conv(user, item, interaction_operator(data))  # the modalities side by side
        if self.fusion != "concat":
            user = self._fuse(user.unflatten(1, (len(self.in_channels), -1)))
            item = item.unflatten(1, (len(self.in_channels), -1)).sum(1)
        return Representations(user + cooccurrence_operator(data) @ user, item)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR and the L2 penalty."""
        out = self(data)
        return {
            "bpr": bpr_loss(*triplet_scores(out.user, out.item, batch)),
            "l2": self.l2_weight * embedding_l2(*(table(batch.user) for table in self.user_emb.values())),
        }

    def _fuse(self, user: Tensor) -> Tensor:
        """``[num_users, channels]`` from ``[num_users, M, channels]``."""
        if self.user_weight is None:
            return user.mean(1)
        return (self.user_weight.weight.softmax(1).unsqueeze(-1) * user).sum(1)
