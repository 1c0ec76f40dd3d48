"""VBPR."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.nn import ModalProjection, XavierEmbedding
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2
from pyg_mmrec.typing import Reach, Triplets
from pyg_mmrec.utils import take_rows
from pyg_mmrec.utils.checks import check_channels, check_choice, check_flag, check_int, check_not_negative


class VBPR(Recommender):
    r"""VBPR: matrix factorisation with modal factors.

    From `"VBPR: Visual Bayesian Personalized Ranking from Implicit Feedback" <https://arxiv.org/abs/1510.01784>`_.

    Eq. 4, without the terms that are equal for all items of a user:

    .. math::
        \hat{x}_{ui} = \beta_i + \langle \gamma_u, \gamma_i \rangle + \langle \theta_u, \mathbf{E} \mathbf{f}_i \rangle
        + \langle \beta', \mathbf{f}_i \rangle

    Several modalities count as one concatenated feature :math:`\mathbf{f}_i`, as in the papers that compare with
    VBPR: :math:`\mathbf{E} \mathbf{f}_i = \sum_m \mathbf{E}_m \mathbf{x}_m`. Biases travel as one more channel, which
    is one for every user, so that scores stay inner products.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width of :math:`\gamma` and of :math:`\theta`, each (default: 64, the published protocol's).
        bias: Whether :math:`\beta_i` and :math:`\beta'` are learned (default: True, the paper's; the toolboxes that
            compare with VBPR leave them out).
        l2_weight: Weight of the L2 penalty on the batch's :math:`\gamma, \theta, \beta_i` (default: 1e-2, chosen on
            Amazon Baby's validation part; the paper's weight on :math:`\mathbf{E}` and :math:`\beta'` is 0).
        modal_l2_weight: Weight of the same penalty on the batch's :math:`\mathbf{E} \mathbf{f}_i` and
            :math:`\langle \beta', \mathbf{f}_i \rangle` (default: 0, since the paper leaves :math:`\mathbf{E}` and
            :math:`\beta'` free; the toolboxes that compare with VBPR penalise them with ``l2_weight``, and on few
            interactions a model can need it).
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
        bias: bool = True,
        l2_weight: float = 1e-2,
        modal_l2_weight: float = 0.0,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="VBPR")
        check_int(1, hidden_channels=hidden_channels)
        check_flag(bias=bias)
        check_not_negative(l2_weight=l2_weight, modal_l2_weight=modal_l2_weight)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.bias = bias
        self.l2_weight = l2_weight
        self.modal_l2_weight = modal_l2_weight
        self.l2_form = l2_form
        self.user_emb = XavierEmbedding(num_users, hidden_channels)  # gamma_u
        self.item_emb = XavierEmbedding(num_items, hidden_channels)  # gamma_i
        self.user_modal_emb = XavierEmbedding(num_users, hidden_channels)  # theta_u
        # One projection gives E f_i and, in its last channel, <beta', f_i>.
        self.projection = ModalProjection(in_channels, hidden_channels + bias, bias=False)
        self.item_bias = torch.nn.Parameter(torch.zeros(num_items)) if bias else None

    def reset_parameters(self) -> None:
        """Draws the tables and projections anew; biases start at zero."""
        super().reset_parameters()
        if self.item_bias is not None:
            torch.nn.init.zeros_(self.item_bias)

    def forward(self, data: HeteroData) -> Representations:
        """All users and items; channels are [gamma, theta or E f, bias]."""
        every_item = torch.arange(self.num_items, device=self.item_emb.weight.device)
        user = self._users(self.user_emb.weight, self.user_modal_emb.weight)
        modal = self._modal(self.projection(data))
        return Representations(
            user,
            self._items(every_item, modal),
            behavior=UserItem(self.user_emb.weight, self.item_emb.weight),
            modal=UserItem(self.user_modal_emb.weight, modal[:, : self.hidden_channels]),
        )

    @property
    def modal_channels(self) -> dict[str, int]:
        """The width of the embeddings, in each modality."""
        return dict.fromkeys(self.projection.in_channels, self.hidden_channels)

    def modal_items(self, data: HeteroData) -> dict[str, Tensor]:
        """The content factors E_m x_m of each modality."""
        return {name: x[:, : self.hidden_channels] for name, x in self.projection(data).items()}

    def reach(self) -> Reach:
        """No messages are passed: the batch alone."""
        return Reach()

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR (Eq. 8) and the L2 penalty; projects the batch's items only."""
        gamma, theta = self.user_emb(batch.user), self.user_modal_emb(batch.user)
        item = torch.stack([batch.pos_item, batch.neg_item])  # [2, B]
        user = self._users(gamma, theta)
        modal = self._modal(self.projection(data, item))  # [2, B, channels]
        score = (user * self._items(item, modal)).sum(-1)  # [2, B]
        penalised = [gamma, theta, *self.item_emb(item)]
        if self.item_bias is not None:
            penalised += list(take_rows(self.item_bias, item).unsqueeze(-1))
        losses = {
            "bpr": bpr_loss(*score),
            "l2": self.l2_weight * embedding_l2(*penalised, form=self.l2_form),
        }
        if self.modal_l2_weight:
            losses["l2_modal"] = self.modal_l2_weight * embedding_l2(*modal, form=self.l2_form)
        return losses

    def _modal(self, projected: dict[str, Tensor]) -> Tensor:
        return torch.stack(list(projected.values())).sum(0)  # sum over m of E_m x_m

    def _users(self, gamma: Tensor, theta: Tensor) -> Tensor:
        parts = [gamma, theta]
        if self.bias:
            parts.append(gamma.new_ones(gamma.size(0), 1))
        return torch.cat(parts, dim=-1)

    def _items(self, item: Tensor, modal: Tensor) -> Tensor:
        if self.item_bias is not None:
            content, shift = modal.split([self.hidden_channels, 1], dim=-1)
            modal = torch.cat([content, shift + take_rows(self.item_bias, item).unsqueeze(-1)], dim=-1)
        return torch.cat([self.item_emb(item), modal], dim=-1)
