"""LGMRec."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.nn import ModalProjection, XavierEmbedding
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import bpr_loss, cross_modal_contrast, embedding_l2
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import interaction_operator, modality_masks, take_rows, triplet_scores, unit_rows
from pyg_mmrec.utils.checks import (
    check_channels,
    check_choice,
    check_int,
    check_not_negative,
    check_part,
    check_positive,
)


class LGMRec(Recommender):
    r"""LGMRec: local embeddings from the user-item graph, global ones from learned hypergraphs.

    From `"LGMRec: Local and Global Graph Learning for Multimodal Recommendation" <https://arxiv.org/abs/2312.16400>`_.

    Local: ID embeddings are smoothed over the user-item graph :math:`\hat{\mathbf{A}}` and averaged over the layers,
    :math:`\mathbf{E}_{id}`. Projected features are smoothed on their own, and the last layer is taken:

    .. math::
        \mathbf{E}^m_{i, 0} = \mathbf{X}_m \mathbf{W}_m, \quad
        \mathbf{E}^m_{u, 0} = \hat{\mathbf{A}} \mathbf{E}^m_{i, 0}, \quad
        \mathbf{E}^m_{u, k+1} = \hat{\mathbf{A}} \mathbf{E}^m_{i, k}, \quad
        \mathbf{E}^m_{i, k+1} = \hat{\mathbf{A}}^\top \mathbf{E}^m_{u, k}, \quad
        \mathbf{E}_{lge} = \mathbf{E}_{id} + \sum_m \mathrm{norm}(\mathbf{E}^m_K)

    Global: features say how much an item belongs to each of A hyperedges, and a user belongs to those of the items;
    while training the assignment is drawn, with :math:`\boldsymbol{\epsilon} = \ln \boldsymbol{\delta} -
    \ln(1 - \boldsymbol{\delta})` of uniform :math:`\boldsymbol{\delta}`. Messages pass by way of the hyperedges:

    .. math::
        \mathbf{H}^m_i = \mathbf{X}_m \mathbf{V}_m^\top, \quad \mathbf{H}^m_u = \hat{\mathbf{A}} \mathbf{H}^m_i, \quad
        \tilde{\mathbf{H}} = \mathrm{drop}(\mathrm{softmax}((\mathbf{H} + \boldsymbol{\epsilon}) / \tau))

    .. math::
        \mathbf{G}^m_{i, 0} = \mathbf{E}_{id, i}, \quad
        \mathbf{G}^m_{h+1} = \tilde{\mathbf{H}}^m (\tilde{\mathbf{H}}^m_i)^\top \mathbf{G}^m_{i, h}, \quad
        \mathbf{E} = \mathbf{E}_{lge} + \alpha \, \mathrm{norm}\Big(\sum_m \mathbf{G}^m\Big), \quad
        \hat{y}_{ui} = \langle \mathbf{e}_u, \mathbf{e}_i \rangle

    Global embeddings of different modalities are contrasted (:func:`~pyg_mmrec.nn.loss.cross_modal_contrast`):

    .. math::
        \mathcal{L} = \mathcal{L}_{BPR} + \lambda_1 \big( \mathcal{L}_{NCE}(\mathbf{G}^m_u, \mathbf{G}^n_u) +
        \mathcal{L}_{NCE}(\mathbf{G}^m_i, \mathbf{G}^n_i) \big) + \lambda_2 \lVert \mathbf{E}^{(0)} \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the embeddings (default: 64).
        num_layers: Layers over the user-item graph for ID embeddings (default: 2).
        num_modal_layers: K, those for features (default: 2).
        num_hyperedges: A, of each modality (default: 4).
        num_hyper_layers: Layers over the hypergraphs (default: 1).
        global_weight: :math:`\alpha` (default: 0.3).
        contrast_weight: :math:`\lambda_1` (default: 1e-4); not read where there is one modality.
        temperature: :math:`\tau`, also of the contrast (default: 0.2).
        dropout: Share of the assignments that is left out while training (default: 0.2).
        l2_weight: :math:`\lambda_2` on the batch's layer-0 embeddings (default: 1e-4; search it).
        l2_form: See :func:`~pyg_mmrec.nn.loss.embedding_l2`.

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
        num_modal_layers: int = 2,
        num_hyperedges: int = 4,
        num_hyper_layers: int = 1,
        global_weight: float = 0.3,
        contrast_weight: float = 1e-4,
        temperature: float = 0.2,
        dropout: float = 0.2,
        l2_weight: float = 1e-4,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="LGMRec")
        check_int(1, hidden_channels=hidden_channels, num_hyperedges=num_hyperedges, num_hyper_layers=num_hyper_layers)
        check_int(0, num_layers=num_layers, num_modal_layers=num_modal_layers)
        check_not_negative(global_weight=global_weight, contrast_weight=contrast_weight, l2_weight=l2_weight)
        check_positive(temperature=temperature)
        check_part(dropout=dropout)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_modal_layers = num_modal_layers
        self.num_hyperedges = num_hyperedges
        self.num_hyper_layers = num_hyper_layers
        self.global_weight = global_weight
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.dropout = dropout
        self.l2_weight = l2_weight
        self.l2_form = l2_form
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.conv = LightGCNConv(num_layers)
        # W_m and, in the last rows, V_m: features are read once.
        self.projection = ModalProjection(in_channels, hidden_channels + num_hyperedges, bias=False)

    def forward(self, data: HeteroData) -> Representations:
        """Final embeddings, and of the local ones the behaviour part and the sum of the modal parts."""
        final, behavior, modal, _ = self._embed(data)
        return Representations(*final, behavior=behavior, modal=modal)

    @property
    def modal_channels(self) -> dict[str, int]:
        """The width of the embeddings, in each modality."""
        return dict.fromkeys(self.projection.in_channels, self.hidden_channels)

    def modal_items(self, data: HeteroData) -> dict[str, Tensor]:
        """The projected features, before they are smoothed."""
        return {name: x[:, : self.hidden_channels] for name, x in self.projection(data).items()}

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR, the contrast of the modalities' global embeddings and the L2 penalty."""
        final, _, _, hyper = self._embed(data)
        layer0 = self.user_emb(batch.user), *self.item_emb(torch.stack([batch.pos_item, batch.neg_item]))
        losses = {"bpr": bpr_loss(*triplet_scores(*final, batch))}
        if len(self.in_channels) > 1:
            user, item = batch.user.unique(), batch.pos_item.unique()
            masks = {name: mask[item] for name, mask in modality_masks(data, list(self.in_channels)).items()}
            contrasts = [
                cross_modal_contrast(self._by_modality(take_rows(hyper.user, user)), self.temperature),
                cross_modal_contrast(self._by_modality(take_rows(hyper.item, item)), self.temperature, masks),
            ]
            losses["contrast"] = self.contrast_weight * torch.stack(contrasts).sum()
        return {**losses, "l2": self.l2_weight * embedding_l2(*layer0, form=self.l2_form)}

    def _embed(self, data: HeteroData) -> tuple[UserItem, UserItem, UserItem, UserItem]:
        """Final embeddings, the behaviour and the modal part, and global ones ``[num_nodes, M, channels]``."""
        graph = interaction_operator(data)
        behavior = UserItem(*self.conv(self.user_emb.weight, self.item_emb.weight, graph))
        item = torch.stack(list(self.projection(data).values()), dim=1)
        user = (graph.t() @ item.flatten(1)).view(self.num_users, *item.shape[1:])
        sizes = [self.hidden_channels, self.num_hyperedges]
        (user, user_logit), (item, item_logit) = user.split(sizes, dim=-1), item.split(sizes, dim=-1)
        shape = item.shape[1:]
        user, item = user.flatten(1), item.flatten(1)
        for layer in range(self.num_modal_layers):  # one side keeps what it has: users started as of layer 1
            user, item = (graph.t() @ item, item) if layer % 2 else (user, graph @ user)
        modal = UserItem(*(unit_rows(x.unflatten(1, shape)).sum(1) for x in (user, item)))
        held = self._assign(item_logit) * self._held(data).unsqueeze(-1)
        hyper = self._hypergraph(self._assign(user_logit), held, behavior.item)
        user, item = (
            base + own + self.global_weight * unit_rows(every.sum(1))
            for base, own, every in zip(behavior, modal, hyper, strict=True)
        )
        return UserItem(user, item), behavior, modal, hyper

    def _assign(self, logit: Tensor) -> Tensor:
        """Shares of the hyperedges, drawn while training."""
        if self.training:
            logit = logit + torch.rand_like(logit).logit(torch.finfo(logit.dtype).eps)
        return F.dropout((logit / self.temperature).softmax(-1), self.dropout, self.training)

    def _hypergraph(self, user: Tensor, item: Tensor, item_emb: Tensor) -> UserItem:
        """Passes messages from items by way of hyperedges, by assignments ``[num_nodes, M, num_hyperedges]``."""
        x = item_emb.unsqueeze(1).expand(-1, item.size(1), -1)
        for _ in range(self.num_hyper_layers):
            edges = torch.einsum("nma,nmd->mad", item, x)
            x = torch.einsum("nma,mad->nmd", item, edges)
        return UserItem(torch.einsum("nma,mad->nmd", user, edges), x)

    def _held(self, data: HeteroData) -> Tensor:
        """``[num_items, M]``: which modalities items have."""
        masks = modality_masks(data, list(self.in_channels))
        every = torch.ones(self.num_items, dtype=torch.bool, device=self.item_emb.weight.device)
        return torch.stack([masks.get(name, every) for name in self.in_channels], dim=1)

    def _by_modality(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(self.in_channels, x.unbind(1), strict=True))
