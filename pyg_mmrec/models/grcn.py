"""GRCN."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.nn import ModalProjection, XavierEmbedding
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import (
    SparseOperator,
    edge_scores,
    edge_softmax,
    edge_sum,
    interaction_operator,
    modality_masks,
    triplet_scores,
    unit_rows,
)
from pyg_mmrec.utils.checks import check_channels, check_int, check_not_negative


class GRCN(Recommender):
    r"""GRCN: interactions that the modalities do not explain are weakened before embeddings pass over them.

    From `"Graph-Refined Convolutional Network for Multimedia Recommendation with Implicit Feedback"
    <https://arxiv.org/abs/2111.02036>`_.

    In each modality m, items have a prototype and users a preference, both of length one. A user's preference starts at
    a table and is routed to the prototypes of the user's items, T times:

    .. math::
        \mathbf{i}_m = \frac{\mathrm{LeakyReLU}(\mathbf{W}_m \mathbf{x}_m + \mathbf{b}_m)}{\lVert \cdot \rVert}, \quad
        p_{ui} = \mathrm{softmax}_{i \in \mathcal{N}_u} \langle \mathbf{u}_m, \mathbf{i}_m \rangle, \quad
        \mathbf{u}_m \leftarrow \frac{\mathbf{u}_m + \sum_i p_{ui} \mathbf{i}_m}{\lVert \cdot \rVert}

    Their affinities, as shares among the neighbours of the node n that receives a message from j, weigh the edge by the
    modality in which n trusts it most; what no modality supports is pruned softly:

    .. math::
        s_{nj}^m = \mathrm{softmax}_{j \in \mathcal{N}_n} \langle \mathbf{n}_m, \mathbf{j}_m \rangle, \quad
        w_{nj} = \mathrm{ReLU}(\max_m c_n^m s_{nj}^m)

    ID embeddings pass over the edges with these weights, and their layers are summed; prototypes and preferences are
    enriched over the edges of their own modality. A score is the inner product of all parts side by side:

    .. math::
        \mathbf{e}_n = \sum_{l=0}^{L} \mathbf{e}_n^{(l)}, \quad
        \mathbf{e}_n^{(l+1)} = \sum_j w_{nj} \mathbf{e}_j^{(l)}, \quad
        \mathbf{n}^* = \big[\mathbf{e}_n ; \big(\mathbf{n}_m + \sum_j s_{nj}^m \mathbf{j}_m\big)_m\big], \quad
        \mathcal{L} = \mathcal{L}_{BPR} + \lambda \lVert \mathbf{E}^{(0)} \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the ID embeddings, the prototypes and the preferences (default: 64).
        num_layers: L (default: 2).
        num_routing: T (default: 3, the paper's).
        l2_weight: :math:`\lambda` on the batch's ID embeddings (default: 1e-3; search it).

    Raises:
        ValueError: If there is no modality or an argument is out of range.
    """

    two_lines = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_routing: int = 3,
        l2_weight: float = 1e-3,
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="GRCN")
        check_int(1, hidden_channels=hidden_channels, num_layers=num_layers)
        check_int(0, num_routing=num_routing)
        check_not_negative(l2_weight=l2_weight)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_routing = num_routing
        self.l2_weight = l2_weight
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.projection = ModalProjection(in_channels, hidden_channels)
        # Any, because a ModuleDict gives plain modules back
        self.preference: Any = torch.nn.ModuleDict(
            {name: XavierEmbedding(num_users, hidden_channels) for name in in_channels}
        )
        self.user_confidence = torch.nn.Parameter(torch.empty(num_users, len(in_channels)))
        self.item_confidence = torch.nn.Parameter(torch.empty(num_items, len(in_channels)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws tables and maps Xavier-uniform and confidences from 0 to 1, so that no edge is pruned at the start."""
        super().reset_parameters()
        for table in self.preference.values():
            table.reset_parameters()
        torch.nn.init.uniform_(self.user_confidence)
        torch.nn.init.uniform_(self.item_confidence)

    def forward(self, data: HeteroData) -> Representations:
        """All parts side by side; ID embeddings as ``behavior``, prototypes and preferences as ``modal``."""
        to_item = interaction_operator(data)
        to_user = to_item.t()
        masks, parts, shares = modality_masks(data, list(self.in_channels)), [], []
        for name, x in self.projection(data).items():
            part, share = self._modality(to_user, to_item, name, x, masks.get(name))
            parts.append(part)
            shares.append(share)
        user_weight, item_weight = (
            (torch.stack(share, dim=1) * confidence.index_select(0, graph.targets)).amax(1).relu()
            for share, confidence, graph in zip(
                zip(*shares, strict=True),
                (self.user_confidence, self.item_confidence),
                (to_user, to_item),
                strict=True,
            )
        )
        user, item = self.user_emb.weight, self.item_emb.weight
        behavior = UserItem(user, item)
        for _ in range(self.num_layers):
            user, item = edge_sum(to_user, user_weight, item), edge_sum(to_item, item_weight, user)
            behavior = UserItem(behavior.user + user, behavior.item + item)
        modal = UserItem(*(torch.cat(side, dim=1) for side in zip(*parts, strict=True)))
        user, item = (torch.cat(pair, dim=1) for pair in zip(behavior, modal, strict=True))
        return Representations(user, item, behavior=behavior, modal=modal)

    def modal_items(self, data: HeteroData) -> dict[str, Tensor]:
        """The prototypes of each modality."""
        return {name: _prototypes(x) for name, x in self.projection(data).items()}

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR and the L2 penalty."""
        out = self(data)
        layer0 = self.user_emb(batch.user), *self.item_emb(torch.stack([batch.pos_item, batch.neg_item]))
        return {
            "bpr": bpr_loss(*triplet_scores(out.user, out.item, batch)),
            "l2": self.l2_weight * embedding_l2(*layer0),
        }

    def _modality(
        self, to_user: SparseOperator, to_item: SparseOperator, name: str, x: Tensor, mask: Tensor | None
    ) -> tuple[UserItem, tuple[Tensor, Tensor]]:
        """Preferences and prototypes of a modality, enriched, and its shares of the edges to users and to items."""
        item, user = _prototypes(x), unit_rows(self.preference[name].weight)
        held = None if mask is None else mask[to_user.col.long()]
        for _ in range(self.num_routing):
            p = edge_softmax(to_user, edge_scores(to_user, user, item), held)
            user = unit_rows(user + edge_sum(to_user, p, item))
        score = edge_scores(to_user, user, item)
        user_share = edge_softmax(to_user, score, held)
        score = score.index_select(0, to_user.transposition)
        item_share = edge_softmax(to_item, score, None if mask is None else mask[to_item.targets])
        enriched = UserItem(user + edge_sum(to_user, user_share, item), item + edge_sum(to_item, item_share, user))
        return enriched, (user_share, item_share)


def _prototypes(x: Tensor) -> Tensor:
    return unit_rows(F.leaky_relu(x))
