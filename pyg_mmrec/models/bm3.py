"""BM3."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.nn import ModalProjection, XavierEmbedding, reset_xavier
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import embedding_l2
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import interaction_operator, modality_masks, take_rows
from pyg_mmrec.utils.checks import check_channels, check_choice, check_int, check_not_negative, check_part


class BM3(Recommender):
    r"""BM3: bootstrapped views of users, items and modalities, without negative items.

    From `"Bootstrap Latent Representations for Multi-modal Recommendation" <https://arxiv.org/abs/2207.05969>`_.

    ID embeddings are smoothed over the user-item graph and averaged over the layers, items with their own embedding
    added; features are projected. One linear predictor makes the online view of all of them, dropout the target view,
    which carries no gradient:

    .. math::
        \mathbf{h}_u = \bar{\mathbf{e}}_u, \quad \mathbf{h}_i = \bar{\mathbf{e}}_i + \mathbf{e}_i^{(0)}, \quad
        \mathbf{h}_m = \mathbf{x}_m \mathbf{W}_m + \mathbf{b}_m, \quad
        \tilde{\mathbf{h}} = \mathbf{h} \mathbf{W}_p + \mathbf{b}_p, \quad
        \dot{\mathbf{h}} = \mathrm{sg}(\mathrm{dropout}(\mathbf{h}))

    With :math:`C` minus the mean cosine over the interactions of a batch, the graph is reconstructed, and modalities
    are aligned with the items and with their own masked view:

    .. math::
        \mathcal{L} = C(\tilde{\mathbf{h}}_u, \dot{\mathbf{h}}_i) + C(\tilde{\mathbf{h}}_i, \dot{\mathbf{h}}_u)
        + \sum_m \big( C(\tilde{\mathbf{h}}_m, \dot{\mathbf{h}}_i) + C(\tilde{\mathbf{h}}_m, \dot{\mathbf{h}}_m) \big)
        + \lambda \big( \lVert \mathbf{h}_u \rVert^2 + \lVert \mathbf{h}_i \rVert^2 \big), \qquad
        \hat{y}_{ui} = \langle \tilde{\mathbf{h}}_u, \tilde{\mathbf{h}}_i \rangle

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the embeddings (default: 64, the paper's).
        num_layers: Layers over the user-item graph (default: 2).
        dropout: Share of a target's channels that is left out (default: 0.3; search it).
        l2_weight: :math:`\lambda` on the batch's representations (default: 0.1; search it).
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
        dropout: float = 0.3,
        l2_weight: float = 0.1,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="BM3")
        check_int(1, hidden_channels=hidden_channels)
        check_int(0, num_layers=num_layers)
        check_part(dropout=dropout)
        check_not_negative(l2_weight=l2_weight)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.l2_weight = l2_weight
        self.l2_form = l2_form
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.conv = LightGCNConv(num_layers)
        self.projection = ModalProjection(in_channels, hidden_channels)
        self.predictor = torch.nn.Linear(hidden_channels, hidden_channels)  # W_p
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws tables and maps Xavier-uniform; biases start at zero."""
        super().reset_parameters()
        reset_xavier(self.predictor)

    def forward(self, data: HeteroData) -> Representations:
        """The online views of users and items, and what they are made of; users' modal part is their items' mean."""
        behavior = self._behavior(data)
        latent, masks = self.projection(data), modality_masks(data, list(self.in_channels))
        every = torch.ones(self.num_items, dtype=torch.bool, device=behavior.item.device)
        num_held = torch.stack([masks.get(name, every) for name in latent]).sum(0).clamp_min(1)
        modal = torch.stack(list(latent.values())).sum(0) / num_held.unsqueeze(-1)
        return Representations(
            self.predictor(behavior.user),
            self.predictor(behavior.item),
            behavior=behavior,
            modal=UserItem(interaction_operator(data).t().mean() @ modal, modal),
        )

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """Reconstruction, alignment, masking and the L2 penalty; reads no negative items."""
        behavior, masks = self._behavior(data), modality_masks(data, list(self.in_channels))
        user, item = take_rows(behavior.user, batch.user), take_rows(behavior.item, batch.pos_item)
        user_target, item_target = self._target(user), self._target(item)
        rec = _contrast(self.predictor(user), item_target) + _contrast(self.predictor(item), user_target)
        losses = {"rec": rec}
        for name, latent in self.projection(data, batch.pos_item).items():
            online, held = self.predictor(latent), masks[name][batch.pos_item] if name in masks else None
            losses[f"align_{name}"] = _contrast(online, item_target, held)
            losses[f"mask_{name}"] = _contrast(online, self._target(latent), held)
        return {**losses, "l2": self.l2_weight * embedding_l2(user, item, form=self.l2_form)}

    def _behavior(self, data: HeteroData) -> UserItem:
        """h_u and h_i."""
        user, item = self.conv(self.user_emb.weight, self.item_emb.weight, interaction_operator(data))
        return UserItem(user, item + self.item_emb.weight)

    def _target(self, x: Tensor) -> Tensor:
        return F.dropout(x.detach(), self.dropout, self.training)


def _contrast(online: Tensor, target: Tensor, held: Tensor | None = None) -> Tensor:
    """C, minus the mean cosine of the rows, or of those that are held."""
    cosine = F.cosine_similarity(online, target, dim=-1)
    return -cosine.mean() if held is None else -(cosine * held).sum() / held.sum().clamp_min(1)
