"""MICRO."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import LatentStructure, ModalProjection, ViewAttention, XavierEmbedding
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2, grace_loss
from pyg_mmrec.typing import ITEM, Triplets
from pyg_mmrec.utils import interaction_operator, modality_masks, take_rows, triplet_scores, unit_rows
from pyg_mmrec.utils.checks import check_channels, check_choice, check_int, check_not_negative, check_positive


class MICRO(Recommender):
    r"""MICRO: latent item-item graphs, one view of the items for each, fused by attention and contrast.

    From `"Latent Structure Mining with Contrastive Modality Fusion for Multimedia Recommendation"
    <https://arxiv.org/abs/2111.00678>`_.

    The graph of each modality is LATTICE's (:class:`~pyg_mmrec.nn.LatentStructure`), but the graphs are not joined:
    the items' ID embeddings pass over each of them, and attention fuses what arrives
    (:class:`~pyg_mmrec.nn.ViewAttention`):

    .. math::
        \mathbf{H}_m = \big( \lambda \tilde{\mathbf{S}}_m + (1 - \lambda) \tilde{\mathbf{A}}_m \big)^L \mathbf{E}_I,
        \quad \alpha_m = \mathrm{softmax}_m \, \mathbf{q}^\top \tanh(\mathbf{W} \mathbf{h}_m + \mathbf{b}), \quad
        \mathbf{h} = \sum_m \alpha_m \mathbf{h}_m, \quad
        \hat{\mathbf{x}}_i = \tilde{\mathbf{x}}_i + \frac{\mathbf{h}_i}{\lVert \mathbf{h}_i \rVert_2}

    with :math:`\tilde{\mathbf{x}}` of LightGCN. Each view is contrasted with the fused one
    (:func:`~pyg_mmrec.nn.loss.grace_loss`), so that the fusion keeps what the modalities share:

    .. math::
        \mathcal{L} = \mathcal{L}_{BPR}(\langle \tilde{\mathbf{x}}_u, \hat{\mathbf{x}}_i \rangle)
        + \beta \sum_m \mathcal{L}_C(\mathbf{h}_m, \mathbf{h}) + \lambda_2 \lVert \mathbf{E}^{(0)} \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the embeddings and of the projected features (default: 64, the paper's).
        num_layers: Layers over the user-item graph (default: 2); 0 is matrix factorisation.
        num_item_layers: L, layers over the item-item graphs (default: 1).
        num_neighbors: k of the learned graphs, the item itself included (default: 10, the paper's).
        frozen_weight: :math:`\lambda`, from 0 to below 1 (default: 0.7).
        contrast_weight: :math:`\beta` (default: 0.03, the paper's).
        temperature: Of the contrast (default: 0.5, the paper's).
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
        contrast_weight: float = 0.03,
        temperature: float = 0.5,
        l2_weight: float = 1e-4,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="MICRO")
        check_int(1, hidden_channels=hidden_channels, num_item_layers=num_item_layers)
        check_int(0, num_layers=num_layers)
        check_not_negative(contrast_weight=contrast_weight, l2_weight=l2_weight)
        check_positive(temperature=temperature)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_item_layers = num_item_layers
        self.num_neighbors = num_neighbors
        self.frozen_weight = frozen_weight
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.l2_weight = l2_weight
        self.l2_form = l2_form
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.conv = LightGCNConv(num_layers)
        self.structure = LatentStructure(num_items, in_channels, hidden_channels, num_neighbors, frozen_weight)
        # The one view of a single modality is the fused one.
        self.attention = ViewAttention(hidden_channels) if len(in_channels) > 1 else None
        self.reset_parameters()

    def start_epoch(self, data: HeteroData, epoch: int, generator: torch.Generator) -> None:
        """Finds who is whose neighbour in the learned graphs."""
        self.structure.hold_neighbors(data)

    def resample(self, data: HeteroData, generator: torch.Generator) -> HeteroData:
        """The data with these neighbours."""
        self.check_data(data)
        return self.structure.with_neighbors(data)

    def forward(self, data: HeteroData) -> Representations:
        """Users, and items with their fused latent neighbourhood added."""
        return Representations(*self._represent(data, self._fuse(self._item_views(data))))

    @property
    def projection(self) -> ModalProjection:
        """What the graphs are learned from."""
        return self.structure.projection

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR, the contrast of each view with the fused one and the L2 penalty."""
        views = self._item_views(data)
        fused = self._fuse(views)
        user, item = self._represent(data, fused)
        losses = {"bpr": bpr_loss(*triplet_scores(user, item, batch))}
        if self.attention is not None:
            losses["contrast"] = self.contrast_weight * self._contrast(data, views, fused, batch.pos_item.unique())
        layer0 = self.user_emb(batch.user), *self.item_emb(torch.stack([batch.pos_item, batch.neg_item]))
        return {**losses, "l2": self.l2_weight * embedding_l2(*layer0, form=self.l2_form)}

    def _item_views(self, data: HeteroData) -> Tensor:
        """``[num_items, M, channels]``, the ID embeddings smoothed over the graph of each modality."""
        views = []
        for graph in self.structure(data).values():
            h = self.item_emb.weight
            for _ in range(self.num_item_layers):
                h = graph @ h
            views.append(h)
        return torch.stack(views, dim=1)

    def _fuse(self, views: Tensor) -> Tensor:
        fused: Tensor = views.squeeze(1) if self.attention is None else self.attention(views)
        return fused

    def _represent(self, data: HeteroData, fused: Tensor) -> tuple[Tensor, Tensor]:
        user, item = self.conv(self.user_emb.weight, self.item_emb.weight, interaction_operator(data))
        return user, item + unit_rows(fused)

    def _contrast(self, data: HeteroData, views: Tensor, fused: Tensor, item: Tensor) -> Tensor:
        """The sum over the modalities, each over those of the items that have it."""
        masks, terms = modality_masks(data, list(self.in_channels)), [views.new_zeros(())]
        for name, view in zip(self.in_channels, views.unbind(1), strict=True):
            held = item[masks[name][item]] if name in masks else item
            if held.numel() > 0:
                terms.append(grace_loss(take_rows(view, held), take_rows(fused, held), self.temperature))
        return torch.stack(terms).sum()
