"""DeepFM."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import OneHotFields, PairMLP, pair_products, score_pairs
from pyg_mmrec.nn.loss import bce_loss
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils.checks import check_int


class DeepFM(Recommender):
    r"""DeepFM: a factorisation machine and a perceptron on the same embeddings.

    From `"DeepFM: A Factorization-Machine based Neural Network for CTR Prediction"
    <https://arxiv.org/abs/1703.04247>`_.

    The fields are the user u, the item i and, where the data has ``data['item'].category``, its category c. With their
    weights w and embeddings :math:`\mathbf{v}` (Eq. 1 to 4),

    .. math::
        \hat{y}_{ui} &= \sigma(y_{FM} + y_{DNN}), \qquad
        y_{DNN} = \mathrm{MLP}([\mathbf{v}_u, \mathbf{v}_i, \mathbf{v}_c]), \\
        y_{FM} &= w_u + w_i + w_c + \langle \mathbf{v}_u, \mathbf{v}_i \rangle +
        \langle \mathbf{v}_u, \mathbf{v}_c \rangle + \langle \mathbf{v}_i, \mathbf{v}_c \rangle

    trained by binary cross entropy on observed and sampled items.

    The factorisation machine is an inner product of :math:`[\mathbf{v}_u, w_u, 1]` and :math:`[\mathbf{v}_i +
    \mathbf{v}_c, 1, w_i + w_c + \langle \mathbf{v}_i, \mathbf{v}_c \rangle]`, and the first layer of the perceptron is
    a sum of what the user and what the item adds to it. The representations hold these vectors and, behind them, these
    parts of the first layer; only the layers that follow are computed for each pair.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        num_categories: Number of categories of items; 0 for no such field.
        hidden_channels: Width of the embeddings (default: 10, as in Section 3.1).
        mlp_channels: Width of each hidden layer (default: 400, as there).
        num_layers: Number of hidden layers (default: 3, as there).
        dropout: Share of the neurons that is left out in training (default: 0.5, as there).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 3, 4
        >>> data['item'].category = torch.tensor([0, 1, 1, -1])
        >>> model = DeepFM.from_data(data, mlp_channels=8)
        >>> model.num_categories, model.score(data, model(data), torch.tensor([2, 0])).shape
        (2, torch.Size([2, 4]))
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        num_categories: int = 0,
        hidden_channels: int = 10,
        mlp_channels: int = 400,
        num_layers: int = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(num_users, num_items)
        check_int(0, num_categories=num_categories)
        check_int(1, hidden_channels=hidden_channels, mlp_channels=mlp_channels, num_layers=num_layers)
        self.num_categories = num_categories
        self.hidden_channels = hidden_channels
        self.mlp_channels = mlp_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.weights = OneHotFields(num_users, num_items, num_categories, 1)  # w
        self.fields = OneHotFields(num_users, num_items, num_categories, hidden_channels)  # v
        item_channels = self.fields.num_item_fields * hidden_channels
        self.mlp = PairMLP(hidden_channels, item_channels, [mlp_channels] * num_layers, dropout)

    def forward(self, data: HeteroData) -> Representations:
        """What users and items add to logits; the first ``hidden_channels`` are v_u, and v_i or v_i + v_c."""
        return Representations(self._users(), self._items(data))

    def score(
        self, data: HeteroData, representations: Representations, user: Tensor, item: Tensor | None = None
    ) -> Tensor:
        """Logits of pairs, in blocks."""
        return score_pairs(self._logits, cast("Tensor", representations.user)[user], representations.item, item)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """Binary cross entropy."""
        item = torch.stack([batch.pos_item, batch.neg_item], dim=1)  # [B, 2]
        logits = self._logits(self._users(batch.user).unsqueeze(1), self._items(data, item))
        return {"bce": bce_loss(*logits.unbind(1))}

    def _users(self, user: Tensor | None = None) -> Tensor:
        """``[..., v_u, w_u, 1, first layer]``."""
        v, w = self.fields.users(user), self.weights.users(user)
        return torch.cat([v, w, torch.ones_like(w), self.mlp.users(v)], dim=-1)

    def _items(self, data: HeteroData, item: Tensor | None = None) -> Tensor:
        """``[..., v_i + v_c, 1, w_i + w_c + <v_i, v_c>, first layer]``."""
        v, w = self.fields.items(data, item), self.weights.items(data, item).sum(-2)
        between = (v.sum(-2).square() - v.square().sum(-2)).sum(-1, keepdim=True) / 2  # <v_i, v_c>
        return torch.cat([v.sum(-2), torch.ones_like(w), w + between, self.mlp.items(v.flatten(-2))], dim=-1)

    def _logits(self, user: Tensor, item: Tensor) -> Tensor:
        """``[b, c]`` logits of ``[b, 1, channels]`` users and ``[b or 1, c, channels]`` items (Eq. 1)."""
        sizes = [self.hidden_channels + 2, self.mlp_channels]
        (fm_user, deep_user), (fm_item, deep_item) = user.split(sizes, dim=-1), item.split(sizes, dim=-1)
        out: Tensor = pair_products(fm_user, fm_item) + self.mlp(deep_user + deep_item)
        return out
