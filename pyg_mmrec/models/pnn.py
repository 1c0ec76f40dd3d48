"""PNN."""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import OneHotFields, PairMLP, score_pairs
from pyg_mmrec.nn.loss import bce_loss
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils.checks import check_choice, check_int


class PNN(Recommender):
    r"""PNN: a perceptron whose first layer also reads products of the fields' embeddings.

    From `"Product-based Neural Networks for User Response Prediction" <https://arxiv.org/abs/1611.00144>`_.

    The fields are the user, the item and, where the data has ``data['item'].category``, its category. With their
    embeddings :math:`\mathbf{f}_1, \ldots, \mathbf{f}_N` (Eq. 1 to 5),

    .. math::
        \mathbf{l}_1 = \mathrm{relu}(\mathbf{l}_z + \mathbf{l}_p + \mathbf{b}_1), \quad
        \mathbf{l}_z = \mathbf{W}_z [\mathbf{f}_1, \ldots, \mathbf{f}_N], \quad
        \hat{y} = \sigma(\mathrm{MLP}(\mathbf{l}_1))

    and the products, in the forms to which the paper reduces them (Sections III-B and III-C), are

    .. math::
        \textrm{inner:} \quad l_p^n = \sum_{i, j} \theta_i^n \theta_j^n \langle \mathbf{f}_i, \mathbf{f}_j \rangle
        = \Big\lVert \sum_i \theta_i^n \mathbf{f}_i \Big\rVert^2, \qquad
        \textrm{outer:} \quad l_p^n = \mathbf{f}_\Sigma^\top \mathbf{W}_p^n \mathbf{f}_\Sigma, \quad
        \mathbf{f}_\Sigma = \sum_i \mathbf{f}_i

    trained by binary cross entropy on observed and sampled items.

    Of the first layer, the user alone adds a part, the item with its category another, and the third takes both: it is
    :math:`2 \theta_u^n (\theta_i^n \langle \mathbf{f}_u, \mathbf{f}_i \rangle + \theta_c^n \langle \mathbf{f}_u,
    \mathbf{f}_c \rangle)` or :math:`\mathbf{f}_u^\top (\mathbf{W}_p^n + {\mathbf{W}_p^n}^\top) (\mathbf{f}_i +
    \mathbf{f}_c)`. The representations hold the embeddings and, behind them, the first two parts; only the third and
    the layers that follow are computed for each pair.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        num_categories: Number of categories of items; 0 for no such field.
        product: ``'inner'`` (default), IPNN, or ``'outer'``, OPNN.
        hidden_channels: Width M of the embeddings (default: 10, the paper's).
        mlp_channels: Width of each hidden layer, of the first :math:`D_1` (default: 400, as DeepFM's paper
            reports PNN's in Section 3.1).
        num_layers: Number of hidden layers (default: 3, the paper's).
        dropout: Share of the neurons that is left out in training (default: 0.5, the paper's).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 3, 4
        >>> data['item'].category = torch.tensor([0, 1, 1, -1])
        >>> model = PNN.from_data(data, mlp_channels=8)
        >>> model.num_categories, model.score(data, model(data), torch.tensor([2, 0])).shape
        (2, torch.Size([2, 4]))
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        num_categories: int = 0,
        product: Literal["inner", "outer"] = "inner",
        hidden_channels: int = 10,
        mlp_channels: int = 400,
        num_layers: int = 3,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(num_users, num_items)
        check_int(0, num_categories=num_categories)
        check_int(1, hidden_channels=hidden_channels, mlp_channels=mlp_channels, num_layers=num_layers)
        check_choice(("inner", "outer"), product=product)
        self.num_categories = num_categories
        self.product = product
        self.hidden_channels = hidden_channels
        self.mlp_channels = mlp_channels
        self.num_layers = num_layers
        self.dropout = dropout
        self.fields = OneHotFields(num_users, num_items, num_categories, hidden_channels)  # f
        num_fields = 1 + self.fields.num_item_fields
        item_channels = self.fields.num_item_fields * hidden_channels
        self.mlp = PairMLP(hidden_channels, item_channels, [mlp_channels] * num_layers, dropout)
        # theta, a row for each field, or W_p, a row for each entry of the outer product
        rows = num_fields if product == "inner" else hidden_channels**2
        self.product_weight = torch.nn.Parameter(torch.empty(rows, mlp_channels))
        torch.nn.init.xavier_uniform_(self.product_weight)

    def reset_parameters(self) -> None:
        """Draws everything anew."""
        super().reset_parameters()
        torch.nn.init.xavier_uniform_(self.product_weight)

    def forward(self, data: HeteroData) -> Representations:
        """The embeddings that products are between, and the first layer of users and items alone.

        Users have f_u; for inner products it is repeated where items have two fields. Items have f_i and f_c; for
        outer products their sum.
        """
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
        f = self.fields.users(user)
        alone = self.mlp.users(f) + self._alone(f.unsqueeze(-2), slice(0, 1))
        repeats = self.fields.num_item_fields if self.product == "inner" else 1
        return torch.cat([*[f] * repeats, alone], dim=-1)

    def _items(self, data: HeteroData, item: Tensor | None = None) -> Tensor:
        f = self.fields.items(data, item)  # [..., num_item_fields, M]
        alone = self.mlp.items(f.flatten(-2)) + self._alone(f, slice(1, None))
        return torch.cat([f.flatten(-2) if self.product == "inner" else f.sum(-2), alone], dim=-1)

    def _logits(self, user: Tensor, item: Tensor) -> Tensor:
        """``[b, c]`` logits of ``[b, 1, channels]`` users and ``[b or 1, c, channels]`` items."""
        sizes = [user.size(-1) - self.mlp_channels, self.mlp_channels]
        (f_user, of_user), (f_item, of_item) = user.split(sizes, dim=-1), item.split(sizes, dim=-1)
        out: Tensor = self.mlp(of_user + of_item + self._between(f_user, f_item))
        return out

    def _alone(self, f: Tensor, which: slice) -> Tensor:
        """``[..., D_1]``, l_p of some of the fields alone, ``[..., num_fields, M]``."""
        if self.product == "inner":
            theta = self.product_weight[which]
            return (torch.matmul(f @ f.transpose(-1, -2), theta) * theta).sum(-2)
        total = f.sum(-2)
        return torch.matmul((total.unsqueeze(-1) * total.unsqueeze(-2)).flatten(-2), self.product_weight)

    def _between(self, user: Tensor, item: Tensor) -> Tensor:
        """``[b, c, D_1]``, the part of l_p that takes both the user and the item."""
        m = self.hidden_channels
        if self.product == "inner":
            products = (user * item).unflatten(-1, (-1, m)).sum(-1)  # <f_u, f_i> and <f_u, f_c>
            return torch.matmul(products, 2 * self.product_weight[:1] * self.product_weight[1:])
        weight = self.product_weight.view(m, m, -1)
        maps = user @ (weight + weight.transpose(0, 1)).flatten(1)  # [b, 1, M D_1]
        return torch.matmul(item, maps.view(-1, m, self.mlp_channels))
