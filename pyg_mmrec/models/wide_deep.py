"""Wide & Deep."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import OneHotFields, PairMLP, pair_products, score_pairs
from pyg_mmrec.nn.loss import bce_loss
from pyg_mmrec.typing import ITEM, Triplets
from pyg_mmrec.utils import take_rows
from pyg_mmrec.utils.checks import check_int


class WideDeep(Recommender):
    r"""Wide & Deep: a linear model on crossed fields that memorises, beside a perceptron that generalises.

    From `"Wide & Deep Learning for Recommender Systems" <https://arxiv.org/abs/1606.07792>`_.

    The fields are the user u, the item i and, where the data has ``data['item'].category``, its category c; the
    cross product :math:`\phi(\mathbf{x})` (Eq. 1) is that of user and category. With embeddings :math:`\mathbf{e}`
    (Eq. 2 and 3),

    .. math::
        P(y = 1 \mid u, i) &= \sigma(y_{wide} + y_{deep}), \\
        y_{wide} &= \mathbf{w}^\top [\mathbf{x}, \phi(\mathbf{x})] = w_u + w_i + w_c + w_{uc}, \qquad
        y_{deep} = \mathrm{MLP}([\mathbf{e}_u, \mathbf{e}_i, \mathbf{e}_c])

    trained jointly by binary cross entropy on observed and sampled items. Crosses are not hashed: they take
    ``num_users * num_categories`` weights.

    The wide part is an inner product of :math:`[w_u, 1, (w_{uk})_k]` and :math:`[1, w_i + w_c, \mathrm{onehot}(c)]`,
    and the first layer of the perceptron is a sum of what the user and what the item adds to it. The representations
    hold these vectors and, behind them, these parts of the first layer; only the layers that follow are computed for
    each pair.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        num_categories: Number of categories of items; 0 for no such field and no crossed one.
        hidden_channels: Width of the embeddings (default: 32, as in Section 4.2).
        mlp_channels: Width of the first hidden layer; each has half the neurons of the one before (default: 1024, as in
            Figure 4).
        num_layers: Number of hidden layers (default: 3, as there).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 3, 4
        >>> data['item'].category = torch.tensor([0, 1, 1, -1])
        >>> model = WideDeep.from_data(data, mlp_channels=8)
        >>> model.num_categories, model.score(data, model(data), torch.tensor([2, 0])).shape
        (2, torch.Size([2, 4]))
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        num_categories: int = 0,
        hidden_channels: int = 32,
        mlp_channels: int = 1024,
        num_layers: int = 3,
    ) -> None:
        super().__init__(num_users, num_items)
        check_int(0, num_categories=num_categories)
        check_int(1, hidden_channels=hidden_channels, mlp_channels=mlp_channels, num_layers=num_layers)
        if mlp_channels >> (num_layers - 1) == 0:
            raise ValueError(f"'mlp_channels' cannot be halved for each of {num_layers} layers (got {mlp_channels})")
        self.num_categories = num_categories
        self.hidden_channels = hidden_channels
        self.mlp_channels = mlp_channels
        self.num_layers = num_layers
        self.weights = OneHotFields(num_users, num_items, num_categories, 1)  # w
        # w_uk, one user's behind the other's; crosses that never occur in training stay at zero
        self.cross_weight = torch.nn.Parameter(torch.zeros(num_users * num_categories)) if num_categories else None
        self.fields = OneHotFields(num_users, num_items, num_categories, hidden_channels)  # e
        widths = [mlp_channels >> layer for layer in range(num_layers)]
        self.mlp = PairMLP(hidden_channels, self.fields.num_item_fields * hidden_channels, widths)

    def reset_parameters(self) -> None:
        """Draws everything anew; the weights of crosses start at zero."""
        super().reset_parameters()
        if self.cross_weight is not None:
            torch.nn.init.zeros_(self.cross_weight)

    def forward(self, data: HeteroData) -> Representations:
        """What users and items add to logits."""
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
        """``[..., w_u, 1, w_u1 ... w_uK, first layer]``."""
        w = self.weights.users(user)
        parts = [w, torch.ones_like(w)]
        if self.cross_weight is not None:
            crosses = self.cross_weight.view(self.num_users, self.num_categories)
            parts.append(crosses if user is None else take_rows(crosses, user))
        return torch.cat([*parts, self.mlp.users(self.fields.users(user))], dim=-1)

    def _items(self, data: HeteroData, item: Tensor | None = None) -> Tensor:
        """``[..., 1, w_i + w_c, onehot(c), first layer]``."""
        w = self.weights.items(data, item).sum(-2)
        parts = [torch.ones_like(w), w]
        if self.cross_weight is not None:
            category = (data[ITEM].category if item is None else data[ITEM].category[item]).unsqueeze(-1)
            onehot = w.new_zeros(*w.shape[:-1], self.num_categories)
            parts.append(onehot.scatter_(-1, category.clamp_min(0), (category >= 0).to(w)))
        return torch.cat([*parts, self.mlp.items(self.fields.items(data, item).flatten(-2))], dim=-1)

    def _logits(self, user: Tensor, item: Tensor) -> Tensor:
        """``[b, c]`` logits of ``[b, 1, channels]`` users and ``[b or 1, c, channels]`` items (Eq. 3)."""
        sizes = [2 + self.num_categories, self.mlp_channels]
        (wide_user, deep_user), (wide_item, deep_item) = user.split(sizes, dim=-1), item.split(sizes, dim=-1)
        out: Tensor = pair_products(wide_user, wide_item) + self.mlp(deep_user + deep_item)
        return out
