"""Matrix factorisation with the BPR criterion."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import XavierEmbedding
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2
from pyg_mmrec.typing import Reach, Triplets
from pyg_mmrec.utils.checks import check_choice, check_int, check_not_negative


class BPRMF(Recommender):
    r"""Matrix factorisation with the BPR criterion.

    From `"BPR: Bayesian Personalized Ranking from Implicit Feedback" <https://arxiv.org/abs/1205.2618>`_ (Section
    4.3.1).

    .. math::
        \hat{x}_{ui} = \langle \mathbf{e}_u, \mathbf{e}_i \rangle, \quad
        \mathcal{L} = -\sum_{(u, i, j)} \ln \sigma(\hat{x}_{ui} - \hat{x}_{uj}) + \lambda \lVert \Theta \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        hidden_channels: Width d of the embeddings (default: 64, the published protocol's).
        l2_weight: :math:`\lambda` on the batch's embeddings (default: 0.1, chosen on Amazon Baby's validation part).
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
        l2_weight: float = 0.1,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_int(1, hidden_channels=hidden_channels)
        check_not_negative(l2_weight=l2_weight)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.hidden_channels = hidden_channels
        self.l2_weight = l2_weight
        self.l2_form = l2_form
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)

    def forward(self, data: HeteroData) -> Representations:
        """The two embedding tables."""
        return Representations(self.user_emb.weight, self.item_emb.weight)

    def reach(self) -> Reach:
        """No messages are passed: the batch alone."""
        return Reach()

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR and the L2 penalty."""
        user, pos, neg = self.user_emb(batch.user), self.item_emb(batch.pos_item), self.item_emb(batch.neg_item)
        return {
            "bpr": bpr_loss((user * pos).sum(-1), (user * neg).sum(-1)),
            "l2": self.l2_weight * embedding_l2(user, pos, neg, form=self.l2_form),
        }
