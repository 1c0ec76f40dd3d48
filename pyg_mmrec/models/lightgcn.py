"""LightGCN."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import XavierEmbedding
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2
from pyg_mmrec.typing import ITEM, USER, Reach, Triplets
from pyg_mmrec.utils import interaction_operators, triplet_scores
from pyg_mmrec.utils.checks import check_choice, check_int, check_not_negative


class LightGCN(Recommender):
    r"""LightGCN: ID embeddings, smoothed over the user-item graph.

    From `"LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_.

    ID embeddings are smoothed over the user-item graph and averaged over the layers (Eq. 3 and 4,
    :class:`~pyg_mmrec.nn.conv.LightGCNConv`); the score is an inner product (Eq. 5) and the objective Eq. 15:

    .. math::
        \mathcal{L} = -\sum_{(u, i, j)} \ln \sigma(\hat{y}_{ui} - \hat{y}_{uj}) + \lambda \lVert \mathbf{E}^{(0)}
        \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        hidden_channels: Width d of the embeddings (default: 64, the paper's).
        num_layers: K (default: 3, the paper's).
        l2_weight: :math:`\lambda` on the batch's layer-0 embeddings (default: 1e-4, the paper's).
        l2_form: See :func:`~pyg_mmrec.nn.loss.embedding_l2`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 3,
        l2_weight: float = 1e-4,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_int(1, hidden_channels=hidden_channels)
        check_int(0, num_layers=num_layers)
        check_not_negative(l2_weight=l2_weight)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.l2_weight = l2_weight
        self.l2_form = l2_form
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.conv = LightGCNConv(num_layers)

    def forward(self, data: HeteroData) -> Representations:
        """Smoothed embeddings of all users and items (Eq. 3 and 4)."""
        to_item, to_user = interaction_operators(data)
        user, item = self.user_emb.rows(data, USER), self.item_emb.rows(data, ITEM)
        return Representations(*self.conv(user, item, to_item, back=to_user))

    def reach(self) -> Reach:
        """The layers of the graph."""
        return Reach(interactions=self.num_layers)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR and the L2 penalty (Eq. 15)."""
        out = self(data)
        items = self.item_emb.rows(data, ITEM, torch.stack([batch.pos_item, batch.neg_item]))
        layer0 = self.user_emb.rows(data, USER, batch.user), *items
        return {
            "bpr": bpr_loss(*triplet_scores(out.user, out.item, batch)),
            "l2": self.l2_weight * embedding_l2(*layer0, form=self.l2_form),
        }
