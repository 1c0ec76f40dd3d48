"""MMGCN."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import ModalProjection, XavierEmbedding, reset_xavier
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import interaction_operator, masked_mean, modality_masks, triplet_scores, unit_rows
from pyg_mmrec.utils.checks import check_channels, check_choice, check_int, check_not_negative


class MMGCN(Recommender):
    r"""MMGCN: a graph convolution of its own for each modality, which ID embeddings tie together.

    From `"MMGCN: Multi-modal Graph Convolution Network for Personalized Recommendation of Micro-video"
    <https://doi.org/10.1145/3343031.3351034>`_.

    In each modality m, users start at a table and items at their projected features, both of length one. A layer
    averages the neighbours :math:`\mathcal{N}` in the user-item graph (aggregation), and adds what the node itself was
    and its ID embedding, which all modalities share (combination):

    .. math::
        \mathbf{h} = \mathrm{LeakyReLU}\Big(\mathbf{W}_1 \frac{1}{|\mathcal{N}|} \sum_{j \in \mathcal{N}} \mathbf{x}_j
        \Big), \quad
        \hat{\mathbf{x}} = \mathrm{LeakyReLU}(\mathbf{W}_2 \mathbf{x} + \mathbf{b}_2) + \mathbf{e}_{id}, \quad
        \mathbf{x}' = \mathrm{LeakyReLU}(\mathbf{W}_3 \mathbf{h} + \hat{\mathbf{x}})

    with weights of their own for each modality and layer. The last layers are summed over the modalities:

    .. math::
        \mathbf{u}^* = \sum_m \mathbf{u}_m^{(L)}, \quad \mathbf{i}^* = \sum_m \mathbf{i}_m^{(L)}, \quad
        \hat{y}_{ui} = \langle \mathbf{u}^*, \mathbf{i}^* \rangle, \quad
        \mathcal{L} = \mathcal{L}_{BPR} + \lambda \lVert \Theta \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of all representations (default: 64, the paper's of ID embeddings).
        num_layers: L (default: 2, the paper's).
        combination: ``'add'``, as above (default), or ``'concat'``, where :math:`\mathbf{W}_3` maps
            :math:`[\mathbf{h}; \hat{\mathbf{x}}]`: the paper's element-wise and concatenation combination.
        l2_weight: :math:`\lambda` on the ID embeddings and the users' tables of the batch (default: 1e-4; search it).

    Raises:
        ValueError: If there is no modality or an argument is out of range.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        combination: Literal["add", "concat"] = "add",
        l2_weight: float = 1e-4,
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="MMGCN")
        check_int(1, hidden_channels=hidden_channels, num_layers=num_layers)
        check_choice(("add", "concat"), combination=combination)
        check_not_negative(l2_weight=l2_weight)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.combination = combination
        self.l2_weight = l2_weight
        self.user_id = XavierEmbedding(num_users, hidden_channels)
        self.item_id = XavierEmbedding(num_items, hidden_channels)
        # Any, because a ModuleDict gives plain modules back
        self.user_emb: Any = torch.nn.ModuleDict(
            {name: XavierEmbedding(num_users, hidden_channels) for name in in_channels}
        )
        self.projection = ModalProjection(in_channels, hidden_channels)
        self.layers: Any = torch.nn.ModuleDict(
            {
                name: torch.nn.ModuleList(_Layer(hidden_channels, combination) for _ in range(num_layers))
                for name in in_channels
            }
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws tables and maps Xavier-uniform; biases start at zero."""
        reset_xavier(self)

    def forward(self, data: HeteroData) -> Representations:
        """The last layers, summed over the modalities."""
        graph = interaction_operator(data)
        to_item, to_user = graph.mean(), graph.t().mean()
        masks, users, items = modality_masks(data, list(self.in_channels)), [], []
        for name, item in self.projection(data).items():
            user, item = unit_rows(self.user_emb[name].weight), unit_rows(item)
            for layer in self.layers[name]:
                user, item = (
                    layer(masked_mean(to_user, item, masks.get(name)), user, self.user_id.weight),
                    layer(to_item @ user, item, self.item_id.weight),
                )
            users.append(user)
            items.append(item)
        return Representations(torch.stack(users).sum(0), torch.stack(items).sum(0))

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR and the L2 penalty."""
        out = self(data)
        tables = [table(batch.user) for table in (self.user_id, *self.user_emb.values())]
        return {
            "bpr": bpr_loss(*triplet_scores(out.user, out.item, batch)),
            "l2": self.l2_weight * embedding_l2(*tables, *self.item_id(torch.stack([batch.pos_item, batch.neg_item]))),
        }


class _Layer(torch.nn.Module):
    """Aggregation and combination in one modality, the same for users and items."""

    def __init__(self, channels: int, combination: str) -> None:
        super().__init__()
        self.combination = combination
        self.neighbor = Linear(channels, channels, bias=False)  # W_1
        self.own = Linear(channels, channels)  # W_2
        self.combine = Linear(channels * (1 + (combination == "concat")), channels, bias=False)  # W_3

    def forward(self, mean: Tensor, x: Tensor, identity: Tensor) -> Tensor:
        h = F.leaky_relu(self.neighbor(mean))
        own = F.leaky_relu(self.own(x)) + identity
        out = self.combine(h) + own if self.combination == "add" else self.combine(torch.cat([h, own], dim=-1))
        return F.leaky_relu(out)
