"""LayerGCN."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import XavierEmbedding
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import degree_sensitive_pruning, interaction_operator, triplet_scores
from pyg_mmrec.utils.checks import check_choice, check_int, check_not_negative, check_part

#: Added to the cosines.
EPSILON = 1e-8


class LayerGCN(Recommender):
    r"""LayerGCN: layers of light graph convolution, each refined by its likeness to the ID embeddings.

    From `"Layer-refined Graph Convolutional Networks for Recommendation" <https://arxiv.org/abs/2207.11088>`_.

    A layer is a step over the normalised user-item graph :math:`\hat{\mathbf{A}}`, in which each node is then scaled by
    its cosine with its ID embedding; the next layer goes on from there. The final embedding is the sum of the refined
    layers without the ID embedding itself:

    .. math::
        \tilde{\mathbf{X}}^{(l+1)} = \hat{\mathbf{A}} \mathbf{X}^{(l)}, \quad
        \mathbf{x}_n^{(l+1)} = \big( \cos(\tilde{\mathbf{x}}_n^{(l+1)}, \mathbf{x}_n^{(0)}) + \epsilon \big)
        \tilde{\mathbf{x}}_n^{(l+1)}, \quad
        \mathbf{x}_n = \sum_{l=1}^{L} \mathbf{x}_n^{(l)}, \quad
        \hat{y}_{ui} = \langle \mathbf{x}_u, \mathbf{x}_i \rangle

    While training, the graph is pruned anew each epoch, mostly between popular ends, and normalised by what is kept:

    .. math::
        p(u, i) \propto \frac{1}{\sqrt{|\mathcal{N}_u|} \sqrt{|\mathcal{N}_i|}}, \qquad
        \mathcal{L} = -\sum_{(u, i, j)} \ln \sigma(\hat{y}_{ui} - \hat{y}_{uj})
        + \lambda \lVert \mathbf{X}^{(0)} \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        hidden_channels: Width d of the embeddings (default: 64, the paper's).
        num_layers: L, at least 1 (default: 4, the paper's).
        pruning: Share of the edges left out in each epoch (default: 0.1; search it).
        l2_weight: :math:`\lambda` on the batch's layer-0 embeddings (default: 1e-3; search it).
        l2_form: See :func:`~pyg_mmrec.nn.loss.embedding_l2`.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        hidden_channels: int = 64,
        num_layers: int = 4,
        pruning: float = 0.1,
        l2_weight: float = 1e-3,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_int(1, hidden_channels=hidden_channels, num_layers=num_layers)
        check_part(pruning=pruning)
        check_not_negative(l2_weight=l2_weight)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.pruning = pruning
        self.l2_weight = l2_weight
        self.l2_form = l2_form
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)

    def resample(self, data: HeteroData, generator: torch.Generator) -> HeteroData:
        """Degree-sensitive edge pruning."""
        return degree_sensitive_pruning(data, self.pruning, generator)

    def forward(self, data: HeteroData) -> Representations:
        """The sums of the refined layers."""
        graph = interaction_operator(data)
        user, item = self.user_emb.weight, self.item_emb.weight
        users, items = [], []
        for _ in range(self.num_layers):
            user, item = graph.t() @ item, graph @ user
            user, item = _refine(user, self.user_emb.weight), _refine(item, self.item_emb.weight)
            users.append(user)
            items.append(item)
        return Representations(torch.stack(users).sum(0), torch.stack(items).sum(0))

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR and the L2 penalty."""
        out = self(data)
        layer0 = self.user_emb(batch.user), *self.item_emb(torch.stack([batch.pos_item, batch.neg_item]))
        return {
            "bpr": bpr_loss(*triplet_scores(out.user, out.item, batch)),
            "l2": self.l2_weight * embedding_l2(*layer0, form=self.l2_form),
        }


def _refine(x: Tensor, ego: Tensor) -> Tensor:
    """Rows scaled by their cosine with the ID embedding."""
    return (F.cosine_similarity(x, ego) + EPSILON).unsqueeze(1) * x
