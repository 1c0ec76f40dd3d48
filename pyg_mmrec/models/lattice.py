"""LATTICE."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import LatentStructure, ModalProjection, XavierEmbedding
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2
from pyg_mmrec.typing import ITEM, Triplets
from pyg_mmrec.utils import interaction_operator, triplet_scores, unit_rows
from pyg_mmrec.utils.checks import check_channels, check_choice, check_int, check_not_negative


class LATTICE(Recommender):
    r"""LATTICE: a latent item-item graph, learned from the features of all modalities.

    From `"Mining Latent Structures for Multimedia Recommendation" <https://arxiv.org/abs/2104.09036>`_.

    The graph of each modality lies between that of the raw features and one of projected features
    (:class:`~pyg_mmrec.nn.LatentStructure`). Learned shares join them, and the items' ID embeddings pass over the
    result. Any collaborative filter gives the rest, here LightGCN:

    .. math::
        \mathbf{A}_m = \lambda \tilde{\mathbf{S}}_m + (1 - \lambda) \tilde{\mathbf{A}}_m, \quad
        \mathbf{A} = \sum_m \alpha_m \mathbf{A}_m, \quad \boldsymbol{\alpha} = \mathrm{softmax}(\mathbf{a}), \quad
        \mathbf{H}^{(l)} = \mathbf{A} \mathbf{H}^{(l-1)}, \quad \mathbf{H}^{(0)} = \mathbf{E}_I

    .. math::
        \hat{\mathbf{x}}_i = \tilde{\mathbf{x}}_i + \frac{\mathbf{h}_i}{\lVert \mathbf{h}_i \rVert_2}, \quad
        \hat{y}_{ui} = \langle \tilde{\mathbf{x}}_u, \hat{\mathbf{x}}_i \rangle, \qquad
        \mathcal{L} = \mathcal{L}_{BPR} + \lambda_2 \lVert \mathbf{E}^{(0)} \rVert^2

    Who is whose neighbour in the learned graphs is found once an epoch; how similar neighbours are is computed in each
    step, so that the projections and shares learn in each.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the embeddings and of the projected features (default: 64, the paper's).
        num_layers: Layers over the user-item graph (default: 2); 0 is matrix factorisation.
        num_item_layers: Layers over the item-item graph (default: 1, the paper's).
        num_neighbors: k of the learned graphs, the item itself included (default: 10, the paper's).
        frozen_weight: :math:`\lambda`, from 0 to below 1 (default: 0.7, the paper's).
        l2_weight: :math:`\lambda_2` on the batch's layer-0 embeddings (default: 1e-4; search it).
        l2_form: See :func:`~pyg_mmrec.nn.loss.embedding_l2`.

    Raises:
        ValueError: If there is no modality or an argument is out of range; in ``forward``, if the data's item-item
            graphs are of other modalities than the features.
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
        num_neighbors: int = 10,
        frozen_weight: float = 0.7,
        l2_weight: float = 1e-4,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="LATTICE")
        check_int(1, hidden_channels=hidden_channels, num_item_layers=num_item_layers)
        check_int(0, num_layers=num_layers)
        check_not_negative(l2_weight=l2_weight)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_item_layers = num_item_layers
        self.num_neighbors = num_neighbors
        self.frozen_weight = frozen_weight
        self.l2_weight = l2_weight
        self.l2_form = l2_form
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.conv = LightGCNConv(num_layers)
        self.structure = LatentStructure(num_items, in_channels, hidden_channels, num_neighbors, frozen_weight)
        # a, before the softmax; a single graph has no share to learn.
        self.graph_logit = torch.nn.Parameter(torch.zeros(len(in_channels))) if len(in_channels) > 1 else None

    def reset_parameters(self) -> None:
        """Draws tables and projections anew; the shares of the modalities start even."""
        super().reset_parameters()
        if self.graph_logit is not None:
            torch.nn.init.zeros_(self.graph_logit)

    def start_epoch(self, data: HeteroData, epoch: int, generator: torch.Generator) -> None:
        """Finds who is whose neighbour in the learned graphs."""
        self.structure.hold_neighbors(data)

    def resample(self, data: HeteroData, generator: torch.Generator) -> HeteroData:
        """The data with these neighbours."""
        self.check_data(data)
        return self.structure.with_neighbors(data)

    def forward(self, data: HeteroData) -> Representations:
        """Users, and items with their latent neighbourhood added."""
        graphs, h = self.structure(data), self.item_emb.weight
        share = h.new_ones(1) if self.graph_logit is None else self.graph_logit.softmax(0)
        for _ in range(self.num_item_layers):
            h = torch.stack([a * (graph @ h) for a, graph in zip(share, graphs.values(), strict=True)]).sum(0)
        user, item = self.conv(self.user_emb.weight, self.item_emb.weight, interaction_operator(data))
        return Representations(user, item + unit_rows(h))

    @property
    def projection(self) -> ModalProjection:
        """What the graphs are learned from."""
        return self.structure.projection

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR and the L2 penalty."""
        out = self(data)
        layer0 = self.user_emb(batch.user), *self.item_emb(torch.stack([batch.pos_item, batch.neg_item]))
        return {
            "bpr": bpr_loss(*triplet_scores(out.user, out.item, batch)),
            "l2": self.l2_weight * embedding_l2(*layer0, form=self.l2_form),
        }
