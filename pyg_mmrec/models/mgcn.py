"""MGCN."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Linear
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.nn import FilterGate, ModalProjection, ViewAttention, XavierEmbedding, reset_xavier
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2, info_nce
from pyg_mmrec.typing import ITEM, Triplets
from pyg_mmrec.utils import interaction_operator, modality_masks, similarity_operators, take_rows, triplet_scores
from pyg_mmrec.utils.checks import check_channels, check_choice, check_int, check_not_negative, check_positive


class MGCN(Recommender):
    r"""MGCN: modal views that behaviour purifies and fuses.

    From `"Multi-View Graph Convolutional Network for Multimedia Recommendation" <https://arxiv.org/abs/2308.03588>`_.

    Features gate the items' ID embeddings (behaviour-guided purifier). The result is smoothed over the frozen graph of
    its modality, and reaches the users over the user-item graph :math:`\hat{\mathbf{A}}`:

    .. math::
        \mathbf{E}'_m = \mathbf{X}_m \mathbf{W}_{1,m} + \mathbf{b}_{1,m}, \quad
        \mathbf{E}''_m = \mathbf{E}_{id} \odot \sigma(\mathbf{E}'_m \mathbf{W}_{2,m} + \mathbf{b}_{2,m}), \quad
        \bar{\mathbf{E}}_{m,i} = \mathbf{S}_m^n \mathbf{E}''_m, \quad
        \bar{\mathbf{E}}_{m,u} = \hat{\mathbf{A}} \bar{\mathbf{E}}_{m,i}

    ID embeddings are smoothed over the user-item graph and averaged over the layers,
    :math:`\bar{\mathbf{E}}_{id}`. They weigh what each view has beside what the views share (behaviour-aware fuser):

    .. math::
        a_m = \mathrm{softmax}_m \, \mathbf{q}^\top \tanh(\mathbf{W}_3 \bar{\mathbf{E}}_m + \mathbf{b}_3), \quad
        \mathbf{E}_s = \sum_m a_m \bar{\mathbf{E}}_m, \quad
        \mathbf{P}_m = \sigma(\mathbf{W}_{4,m} \bar{\mathbf{E}}_{id} + \mathbf{b}_{4,m})

    .. math::
        \mathbf{E}_{mul} = \mathbf{E}_s + \frac{1}{M} \sum_m (\bar{\mathbf{E}}_m - \mathbf{E}_s) \odot \mathbf{P}_m,
        \quad \mathbf{E} = \bar{\mathbf{E}}_{id} + \mathbf{E}_{mul}, \quad
        \hat{y}_{ui} = \langle \mathbf{e}_u, \mathbf{e}_i \rangle

    Both parts are contrasted over the distinct users and items of a batch (:func:`~pyg_mmrec.nn.loss.info_nce`):

    .. math::
        \mathcal{L} = \mathcal{L}_{BPR} + \lambda_c \big( \mathcal{L}_{NCE}(\bar{\mathbf{E}}_{id,u},
        \mathbf{E}_{mul,u}) + \mathcal{L}_{NCE}(\bar{\mathbf{E}}_{id,i}, \mathbf{E}_{mul,i}) \big)
        + \lambda \lVert \mathbf{E}^{(0)} \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the embeddings (default: 64).
        num_layers: Layers over the user-item graph (default: 2).
        num_item_layers: n, layers over the item-item graphs (default: 1).
        contrast_weight: :math:`\lambda_c` (default: 1e-3; search it).
        temperature: Of the contrast (default: 0.2).
        l2_weight: :math:`\lambda` on the batch's layer-0 embeddings (default: 1e-4).
        l2_form: See :func:`~pyg_mmrec.nn.loss.embedding_l2`.

    Raises:
        ValueError: If there is no modality or an argument is out of range; in ``forward``, if the data's item-item
            graphs are of other modalities than the features.
    """

    modal_graphs: ClassVar[tuple[str, ...]] = (ITEM,)
    two_lines = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        contrast_weight: float = 1e-3,
        temperature: float = 0.2,
        l2_weight: float = 1e-4,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="MGCN")
        check_int(1, hidden_channels=hidden_channels)
        check_int(0, num_layers=num_layers, num_item_layers=num_item_layers)
        check_not_negative(contrast_weight=contrast_weight, l2_weight=l2_weight)
        check_positive(temperature=temperature)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_item_layers = num_item_layers
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.l2_weight = l2_weight
        self.l2_form = l2_form
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.conv = LightGCNConv(num_layers)
        self.projection = ModalProjection(in_channels, hidden_channels)  # W_1
        self.gates = torch.nn.ModuleDict({name: FilterGate(hidden_channels, hidden_channels) for name in in_channels})
        # The one view of a single modality is all that is shared: nothing is weighed.
        fused = in_channels if len(in_channels) > 1 else {}
        self.preference = torch.nn.ModuleDict({name: Linear(hidden_channels, hidden_channels) for name in fused})
        self.attention = ViewAttention(hidden_channels) if fused else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws tables and maps Xavier-uniform; biases start at zero."""
        reset_xavier(self)

    def forward(self, data: HeteroData) -> Representations:
        """The sums of both parts, and the parts: behaviour from the user-item view, modal from the item-item view."""
        behavior, views = self._views(data)
        modal = UserItem(self._fuse(views.user, behavior.user), self._fuse(views.item, behavior.item))
        return Representations(behavior.user + modal.user, behavior.item + modal.item, behavior=behavior, modal=modal)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR, the contrast of both parts and the L2 penalty; views are fused for the users of the batch alone."""
        behavior, views = self._views(data)
        layer0 = self.user_emb(batch.user), *self.item_emb(torch.stack([batch.pos_item, batch.neg_item]))
        distinct, place = batch.user.unique(return_inverse=True)
        user, item = take_rows(behavior.user, distinct), behavior.item
        modal_user, modal_item = self._fuse(take_rows(views.user, distinct), user), self._fuse(views.item, item)
        positive = batch.pos_item.unique()
        contrast = info_nce(user, modal_user, self.temperature)
        contrast = contrast + info_nce(take_rows(item, positive), take_rows(modal_item, positive), self.temperature)
        scores = triplet_scores(user + modal_user, item + modal_item, batch._replace(user=place))
        return {
            "bpr": bpr_loss(*scores),
            "contrast": self.contrast_weight * contrast,
            "l2": self.l2_weight * embedding_l2(*layer0, form=self.l2_form),
        }

    def _views(self, data: HeteroData) -> tuple[UserItem, UserItem]:
        """Smoothed ID embeddings, and what each modality says of users and items, ``[num_nodes, M, channels]``."""
        graph = interaction_operator(data)
        behavior = UserItem(*self.conv(self.user_emb.weight, self.item_emb.weight, graph))
        item = self._item_views(data)
        user = (graph.t() @ item.flatten(1)).view(self.num_users, *item.shape[1:])
        return behavior, UserItem(user, item)

    def _item_views(self, data: HeteroData) -> Tensor:
        """The purified ID embeddings of each modality, smoothed over its graph; items without it send nothing."""
        names = list(self.in_channels)
        graphs, masks = similarity_operators(data, names=names), modality_masks(data, names)
        views = []
        for name, x in self.projection(data).items():
            view = self.gates[name](x, self.item_emb.weight)
            if name in masks:
                view = view * masks[name].unsqueeze(-1)
            for _ in range(self.num_item_layers):
                view = graphs[name] @ view
            views.append(view)
        return torch.stack(views, dim=1)

    def _fuse(self, views: Tensor, behavior: Tensor) -> Tensor:
        """What views ``[num_nodes, M, channels]`` share, and by preference what each has alone."""
        if self.attention is None:
            return views.squeeze(1)
        shared = self.attention(views).unsqueeze(1)
        preference = torch.stack([lin(behavior) for lin in self.preference.values()], dim=1).sigmoid()
        fused: Tensor = shared.squeeze(1) + ((views - shared) * preference).mean(1)
        return fused
