"""MMSSL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.nn import Critic, CrossModalAttention, ModalProjection, XavierEmbedding
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2, gradient_penalty, info_nce
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import (
    SparseOperator,
    csr_entries,
    edge_scores,
    edge_softmax,
    edge_sum,
    interaction_operator,
    take_rows,
    triplet_scores,
    unit_rows,
)
from pyg_mmrec.utils.checks import (
    check_channels,
    check_choice,
    check_int,
    check_not_negative,
    check_part,
    check_positive,
)


class Views(NamedTuple):
    """What the model makes of a graph; the two last are ``[num_nodes, M, channels]``."""

    final: UserItem
    behavior: UserItem
    modal: UserItem
    features: UserItem  #: smoothed features, rows of length one
    attended: UserItem


class MMSSL(Recommender):
    r"""MMSSL: modalities learn which interactions they speak for, against a critic that knows the real ones.

    From `"Multi-Modal Self-Supervised Learning for Recommendation" <https://arxiv.org/abs/2302.10632>`_.

    Projected features :math:`\mathbf{f}_m = \mathrm{drop}(\mathbf{X}_m \mathbf{W}_m + \mathbf{b}_m)` reach the users
    and come back, which gives each modality a strength for every pair of a user and an item:

    .. math::
        \bar{\mathbf{f}}_u^m = \frac{1}{\sqrt{|\mathcal{N}_u|}} \sum_{i \in \mathcal{N}_u} \mathbf{f}_i^m, \quad
        \bar{\mathbf{f}}_i^m = \frac{1}{\sqrt{|\mathcal{N}_i|}} \sum_{u \in \mathcal{N}_i} \bar{\mathbf{f}}_u^m, \quad
        \tilde{A}^m_{ui} = \cos(\bar{\mathbf{f}}_u^m, \bar{\mathbf{f}}_i^m)

    ID embeddings pass over the interactions with these strengths, modalities read each other
    (:class:`~pyg_mmrec.nn.CrossModalAttention`), and what comes out joins the ID embeddings before they are smoothed:

    .. math::
        \mathbf{e}_u^m = \sum_{i \in \mathcal{N}_u} \mathrm{softmax}_i(\tilde{A}^m_{ui}) \, \mathbf{e}_i, \quad
        \bar{\mathbf{e}}^m = \mathrm{attention}(\mathbf{e}^1, \ldots, \mathbf{e}^M)_m, \quad
        \hat{\mathbf{e}} = \mathbf{e} + \eta \, \mathrm{norm}\Big(\frac{1}{M} \sum_m \bar{\mathbf{e}}^m\Big)

    .. math::
        \mathbf{h} = \mathrm{LightGCN}(\hat{\mathbf{e}}) + \omega \sum_m \mathrm{norm}(\bar{\mathbf{f}}^m), \quad
        \hat{y}_{ui} = \langle \mathbf{h}_u, \mathbf{h}_i \rangle

    A critic D (:class:`~pyg_mmrec.nn.Critic`) reads rows of strengths, and rows of the real graph, made continuous with
    Gumbel noise :math:`\mathbf{g}`. It is trained by a loss of its own, before each step:

    .. math::
        \check{\mathbf{A}}_u = \mathrm{softmax}((\mathbf{A}_u + \mathbf{g}) / \tau') + \zeta \cos(\mathbf{h}_u,
        \mathbf{h}_i)_i, \quad
        \mathcal{L}_D = \mathbb{E} D(\tilde{\mathbf{A}}^m_u) - \mathbb{E} D(\check{\mathbf{A}}_u)
        + \lambda_{gp} \, \mathbb{E} \big( \lVert \nabla D \rVert_2 - 1 \big)^2

    Users and what their modalities say are contrasted over the distinct users of a batch
    (:func:`~pyg_mmrec.nn.loss.info_nce`):

    .. math::
        \mathcal{L} = \mathcal{L}_{BPR} + \frac{\lambda_1}{M} \sum_m \mathcal{L}_{NCE}(\mathbf{H}_u,
        \bar{\mathbf{E}}_u^m) - \lambda_2 \, \mathbb{E} D(\tilde{\mathbf{A}}^m_u)
        + \lambda_3 \lVert \mathbf{E} \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the embeddings (default: 64).
        num_layers: Layers over the user-item graph (default: 2).
        num_heads: Heads of the attention, which divide the width (default: 4); not read where there is one modality.
        attended_weight: :math:`\eta` (default: 0.5; search it).
        feature_weight: :math:`\omega` (default: 0.5; search it).
        dropout: Of the projected features and within D (default: 0.2).
        contrast_weight: :math:`\lambda_1` (default: 1e-3; search it).
        temperature: Of the contrast (default: 0.2).
        adversarial_weight: :math:`\lambda_2` (default: 0.1; search it); at zero there is no critic.
        adversarial_users: Users of a batch whose rows D reads, at most: time and memory are these times the items
            (default: 128).
        critic_channels: Width of the hidden layers of D (default: 64).
        penalty_weight: :math:`\lambda_{gp}` (default: 1).
        gumbel_temperature: :math:`\tau'` (default: 0.5).
        similarity_weight: :math:`\zeta` (default: 0.1).
        l2_weight: :math:`\lambda_3` on the batch's ID embeddings (default: 1e-4; search it).
        l2_form: See :func:`~pyg_mmrec.nn.loss.embedding_l2`.

    Raises:
        ValueError: If there is no modality, the heads do not divide the width, or an argument is out of range.
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
        num_heads: int = 4,
        attended_weight: float = 0.5,
        feature_weight: float = 0.5,
        dropout: float = 0.2,
        contrast_weight: float = 1e-3,
        temperature: float = 0.2,
        adversarial_weight: float = 0.1,
        adversarial_users: int = 128,
        critic_channels: int = 64,
        penalty_weight: float = 1.0,
        gumbel_temperature: float = 0.5,
        similarity_weight: float = 0.1,
        l2_weight: float = 1e-4,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="MMSSL")
        check_int(1, hidden_channels=hidden_channels, num_heads=num_heads, adversarial_users=adversarial_users)
        check_int(1, critic_channels=critic_channels)
        check_int(0, num_layers=num_layers)
        check_not_negative(attended_weight=attended_weight, feature_weight=feature_weight)
        check_not_negative(contrast_weight=contrast_weight, adversarial_weight=adversarial_weight)
        check_not_negative(penalty_weight=penalty_weight, similarity_weight=similarity_weight, l2_weight=l2_weight)
        check_part(dropout=dropout)
        check_positive(temperature=temperature, gumbel_temperature=gumbel_temperature)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.attended_weight, self.feature_weight = attended_weight, feature_weight
        self.dropout = dropout
        self.contrast_weight, self.temperature = contrast_weight, temperature
        self.adversarial_weight, self.adversarial_users = adversarial_weight, adversarial_users
        self.critic_channels, self.penalty_weight = critic_channels, penalty_weight
        self.gumbel_temperature, self.similarity_weight = gumbel_temperature, similarity_weight
        self.l2_weight, self.l2_form = l2_weight, l2_form
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.projection = ModalProjection(in_channels, hidden_channels)
        # A single modality has nothing to read but itself.
        self.attention = CrossModalAttention(hidden_channels, num_heads) if len(in_channels) > 1 else None
        self.conv = LightGCNConv(num_layers)
        self.critic = Critic(num_items, critic_channels, dropout) if adversarial_weight > 0 else None

    def forward(self, data: HeteroData) -> Representations:
        """Final embeddings, the sums of smoothed ID embeddings, ``behavior``, and smoothed features, ``modal``."""
        views = self._views(data)
        return Representations(*views.final, behavior=views.behavior, modal=views.modal)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR, the contrast of users with their modalities, what the critic says, and the L2 penalty."""
        views, user = self._views(data), batch.user.unique()
        final, attended = take_rows(views.final.user, user), take_rows(views.attended.user, user)
        contrast = torch.stack([info_nce(final, x, self.temperature) for x in attended.unbind(1)]).mean()
        losses = {
            "bpr": bpr_loss(*triplet_scores(*views.final, batch)),
            "contrast": self.contrast_weight * contrast,
        }
        if self.critic is not None:
            strengths = self._strengths(views.features, self._drawn(user))
            losses["adversarial"] = -self.adversarial_weight * self.critic(strengths).mean()
        layer0 = self.user_emb(batch.user), *self.item_emb(torch.stack([batch.pos_item, batch.neg_item]))
        return {**losses, "l2": self.l2_weight * embedding_l2(*layer0, form=self.l2_form)}

    def auxiliary_parameters(self) -> Iterator[torch.nn.Parameter]:
        """The critic's."""
        return iter(()) if self.critic is None else self.critic.parameters()

    def auxiliary_loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """The critic's loss and its gradient penalty; no gradient passes to the rows that it reads."""
        if self.critic is None:
            return {}
        with torch.no_grad():
            views, user = self._views(data), self._drawn(batch.user.unique())
            fake, real = self._strengths(views.features, user), self._real(data, views.final, user)
        return {
            "critic": self.critic(fake).mean() - self.critic(real).mean(),
            "penalty": self.penalty_weight * gradient_penalty(self.critic, real, fake),
        }

    def _views(self, data: HeteroData) -> Views:
        graph = interaction_operator(data)
        features = self._features(data, graph)
        attended = self._attended(graph, features)
        layer0 = (
            table.weight + self.attended_weight * unit_rows(x.mean(1))
            for table, x in zip((self.user_emb, self.item_emb), attended, strict=True)
        )
        behavior = UserItem(*self.conv(*layer0, graph))
        modal = UserItem(*(self.feature_weight * x.sum(1) for x in features))
        final = UserItem(behavior.user + modal.user, behavior.item + modal.item)
        return Views(final, behavior, modal, features, attended)

    def _features(self, data: HeteroData, graph: SparseOperator) -> UserItem:
        """Features smoothed to users and back, rows of length one; ``graph`` divides by both nodes' root degrees."""
        projected = torch.stack(list(self.projection(data).values()), dim=1)
        shape = projected.shape[1:]
        item = F.dropout(projected, self.dropout, self.training).flatten(1)
        user = graph.t() @ (item * graph.rowptr.diff().to(item.dtype).sqrt().unsqueeze(1))
        item = graph @ (user * graph.rowptr_t.diff().to(item.dtype).sqrt().unsqueeze(1))
        return UserItem(*(unit_rows(x.unflatten(1, shape)) for x in (user, item)))

    def _attended(self, graph: SparseOperator, features: UserItem) -> UserItem:
        """ID embeddings that passed over the edges by each modality's strengths, and read each other."""
        to_user, views = graph.t(), []
        for user, item in zip(*(x.unbind(1) for x in features), strict=True):
            strength = edge_scores(to_user, user, item)
            user_share = edge_softmax(to_user, strength)
            item_share = edge_softmax(graph, strength.index_select(0, to_user.transposition))
            views.append(
                (
                    edge_sum(to_user, user_share, self.item_emb.weight),
                    edge_sum(graph, item_share, self.user_emb.weight),
                )
            )
        sides = (torch.stack(side, dim=1) for side in zip(*views, strict=True))
        return UserItem(*(x if self.attention is None else self.attention(x) for x in sides))

    def _drawn(self, user: Tensor) -> Tensor:
        """Some of the users, drawn while training."""
        if self.training:
            user = user[torch.randperm(user.numel(), device=user.device)]
        return user[: self.adversarial_users]

    def _strengths(self, features: UserItem, user: Tensor) -> Tensor:
        """``[M, n, num_items]``: rows of the generated graph."""
        return take_rows(features.user, user).transpose(0, 1) @ features.item.permute(1, 2, 0)

    def _real(self, data: HeteroData, final: UserItem, user: Tensor) -> Tensor:
        """``[n, num_items]``: rows of the real graph, made continuous."""
        cosine = unit_rows(take_rows(final.user, user)) @ unit_rows(final.item).t()
        to_user = interaction_operator(data).t()
        row, entry = csr_entries(to_user.rowptr.long(), user)
        logit = torch.zeros_like(cosine).index_put_((row, to_user.col[entry].long()), cosine.new_ones(()))
        if self.training:
            logit -= torch.rand_like(cosine).log_().neg_().log_()  # Gumbel
        return (logit / self.gumbel_temperature).softmax(-1) + self.similarity_weight * cosine
