"""FREEDOM."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import ModalProjection, XavierEmbedding
from pyg_mmrec.nn.conv import LightGCNConv, ModalGraphConv, default_graph_weights
from pyg_mmrec.nn.loss import bpr_loss
from pyg_mmrec.typing import ITEM, USER, Reach, Triplets, feature_key
from pyg_mmrec.utils import degree_sensitive_pruning, interaction_operators, similarity_operators, take_rows
from pyg_mmrec.utils.checks import (
    check_by_name,
    check_channels,
    check_flag,
    check_int,
    check_not_negative,
    check_part,
)


class FREEDOM(Recommender):
    r"""FREEDOM: a frozen item-item graph and a denoised user-item graph.

    From `"A Tale of Two Graphs: Freezing and Denoising Graph Structures for Multimodal Recommendation"
    <https://arxiv.org/abs/2211.06924>`_.

    Items are smoothed over the frozen modal graph :math:`\mathbf{S} = \sum_m \alpha_m \mathbf{S}_m` (Eq. 4 and 9),
    users and items over the user-item graph, which is pruned anew each epoch while training (Eq. 5 to 8):

    .. math::
        \mathbf{h}_i = (\mathbf{S}^{L_{ii}} \mathbf{E}_I)_i, \quad
        \hat{y}_{ui} = \langle \hat{\mathbf{e}}_u, \hat{\mathbf{e}}_i + \mathbf{h}_i \rangle, \quad
        p(u, i) \propto \frac{1}{\sqrt{|\mathcal{N}_u| |\mathcal{N}_i|}}

    and the projected features of every modality are ranked as well (Eq. 11 to 13):

    .. math::
        \mathcal{L} = \mathcal{L}_{BPR}(\hat{y}) + \lambda \sum_m \mathcal{L}_{BPR}
        (\langle \hat{\mathbf{e}}_u, \mathbf{x}_m \mathbf{W}_m + \mathbf{b}_m \rangle)

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features; unread if ``modal_loss_weight`` is 0.
        hidden_channels: Width d of the embeddings (default: 64, the paper's).
        num_layers: Layers over the user-item graph (default: 2, the paper's).
        num_item_layers: Layers over the item-item graph (default: 1, the paper's).
        pruning: Share of the user-item edges left out in each epoch (default: 0.8, the paper's value for Baby).
        graph_weights: :math:`\alpha_m` by modality. By default 0.1 for images and 0.9 for texts where these are the
            two graphs (the paper's), equal shares otherwise.
        modal_loss_weight: :math:`\lambda` (default: 1e-3, the paper's value for Baby).
        train_features: Whether the raw features are parameters too, as in the authors' code, or stay as they are
            (default: False, as in the paper).

    Raises:
        ValueError: If an argument is out of range; in ``forward``, if the data has no item-item graph or
            ``graph_weights`` names other ones.
    """

    modal_graphs: ClassVar[tuple[str, ...]] = (ITEM,)

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        pruning: float = 0.8,
        graph_weights: dict[str, float] | None = None,
        modal_loss_weight: float = 1e-3,
        train_features: bool = False,
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels)
        check_int(1, hidden_channels=hidden_channels)
        check_int(0, num_layers=num_layers, num_item_layers=num_item_layers)
        check_part(pruning=pruning)
        check_not_negative(modal_loss_weight=modal_loss_weight)
        check_flag(train_features=train_features)
        if graph_weights is not None:
            check_by_name(check_not_negative, graph_weights=graph_weights)
        if modal_loss_weight > 0 and not in_channels:
            raise ValueError("'in_channels' names no modality: give item features or set 'modal_loss_weight' to 0")
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_item_layers = num_item_layers
        self.pruning = pruning
        self.graph_weights = graph_weights
        self.modal_loss_weight = modal_loss_weight
        self.train_features = train_features
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.conv = LightGCNConv(num_layers)
        self.item_conv = ModalGraphConv(num_item_layers)
        read = in_channels if modal_loss_weight > 0 else {}
        self.projection = ModalProjection(read, hidden_channels)
        self.features = torch.nn.ParameterDict(
            {name: torch.zeros(num_items, width) for name, width in read.items() if train_features}
        )

    @torch.no_grad()
    def start_from(self, data: HeteroData) -> None:
        """Trained features start at the data's."""
        for name, parameter in self.features.items():
            parameter.copy_(data[ITEM][feature_key(name)])

    def resample(self, data: HeteroData, generator: torch.Generator) -> HeteroData:
        """Degree-sensitive edge pruning (Eq. 5 and 6): draws edges without replacement, normalises what is kept."""
        return degree_sensitive_pruning(data, self.pruning, generator)

    def forward(self, data: HeteroData) -> Representations:
        """Users, and items with their modal neighbourhood added (Eq. 4, 9 and 10)."""
        graphs = similarity_operators(data)
        user, item = self.user_emb.rows(data, USER), self.item_emb.rows(data, ITEM)
        h = self.item_conv(item, graphs, self.graph_weights or default_graph_weights(list(graphs)))
        to_item, to_user = interaction_operators(data)
        user, item = self.conv(user, item, to_item, back=to_user)
        return Representations(user, item + h)

    def reach(self) -> Reach:
        """The layers of both graphs."""
        return Reach(interactions=self.num_layers, similar_items=self.num_item_layers)

    def modal_items(self, data: HeteroData) -> dict[str, Tensor]:
        """The projected features of each modality (Eq. 11); none without modal losses."""
        out: dict[str, Tensor] = self.projection(self._with_features(data))
        return out

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR on the scores and on each modality's projected features (Eq. 11 to 13)."""
        out = self(data)
        user = take_rows(out.user, batch.user)
        item = torch.stack([batch.pos_item, batch.neg_item])  # [2, B]
        losses = {"bpr": bpr_loss(*(user * take_rows(out.item, item)).sum(-1))}
        if self.modal_loss_weight > 0:
            for name, x in self.projection(self._with_features(data), item).items():
                losses[f"bpr_{name}"] = self.modal_loss_weight * bpr_loss(*(user * x).sum(-1))
        return losses

    def _with_features(self, data: HeteroData) -> HeteroData:
        """The data, with the trained features where there are any."""
        if self.features:
            data = copy.copy(data)
            for name, parameter in self.features.items():
                data[ITEM][feature_key(name)] = parameter
        return data
