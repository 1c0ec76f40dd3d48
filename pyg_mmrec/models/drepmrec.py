"""DRepMRec."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.nn import BehaviorModalAlignment, FilterGate, XavierEmbedding
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2
from pyg_mmrec.nn.projection import check_modality_names
from pyg_mmrec.nn.similarity import TargetMode
from pyg_mmrec.typing import ITEM, USER, Triplets
from pyg_mmrec.utils import (
    SparseOperator,
    interaction_operator,
    item_features,
    masked_mean,
    modality_masks,
    similarity_operators,
    triplet_scores,
)
from pyg_mmrec.utils.checks import check_channels, check_flag, check_int, check_not_negative


class DRepMRec(Recommender):
    r"""DRepMRec: a behaviour line and a modal line, learned apart and aligned.

    From "DRepMRec: A Dual Representation Learning Framework for Multimodal Recommendation" (Zhang et al., 2024).

    The behaviour line is LightGCN on ID embeddings (Eq. 1 to 3). The modal line filters these embeddings by each
    modality's features and passes them once over kNN graphs of similar items and of similar users (Eq. 4 to 7):

    .. math::
        \hat{\mathbf{E}}_m^i = \sigma(\mathbf{E}_m^i \mathbf{W}_m + \mathbf{b}_m) \odot \mathbf{E}_B^i, \quad
        \bar{\mathbf{E}}_M^i = \sum_m \alpha_m \tilde{\mathbf{S}}_m \hat{\mathbf{E}}_m^i, \quad
        \bar{\mathbf{E}}_M^u = \sum_m \alpha_m \tilde{\mathbf{J}}_m \hat{\mathbf{E}}_m^u

    where a user's features are the mean of its items'. The sum of both lines ranks (Eq. 13 and 16), and
    :class:`~pyg_mmrec.nn.BehaviorModalAlignment` aligns them (Eq. 8 to 12 and 15):

    .. math::
        \mathcal{L} = \mathcal{L}_{BPR} + \alpha \mathcal{L}_{Intra} + \beta \mathcal{L}_{Inter} +
        \gamma \mathcal{L}_{SSS}

    The ablations of Table 3 are weights of zero.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the embeddings (default: 64, the paper's).
        num_layers: Layers of the behaviour line (default: 2, the paper's).
        modality_weights: :math:`\alpha_m` by modality. By default 0.3 for images and 0.7 for texts where these are the
            two (the paper's best), equal shares otherwise.
        intra_weight: :math:`\alpha` (default: 0.1; the paper has it in a figure only, search it).
        inter_weight: :math:`\beta` (default: 0.1; likewise).
        sss_weight: :math:`\gamma` (default: 0.1; likewise).
        temperature: :math:`\tau` (default: 0.2, the paper's).
        l2_weight: :math:`\lambda` of the squared ID embeddings of the batch (default: 1e-4, the paper's).
        detach_behavior: Whether the modal line leaves the ID embeddings that it filters as they are, so that each line
            has parameters of its own, or trains them too, as printed (default: False).
        normalized_similarity: Whether modal similarities in Eq. 12 are cosines, or inner products as printed
            (default: True).
        targets: How the targets of Eq. 12 are computed, ``'direct'`` (default), ``'gram'`` or ``'projected'``; see
            :class:`~pyg_mmrec.nn.SimilarityTargets`.
        target_channels: Width of projections for ``'projected'`` (default: 256).

    Raises:
        ValueError: If there is no modality or an argument is out of range; in ``forward``, if the data lacks the
            graph of a modality.
    """

    modal_graphs: ClassVar[tuple[str, ...]] = (ITEM, USER)
    two_lines = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        modality_weights: dict[str, float] | None = None,
        intra_weight: float = 0.1,
        inter_weight: float = 0.1,
        sss_weight: float = 0.1,
        temperature: float = 0.2,
        l2_weight: float = 1e-4,
        detach_behavior: bool = False,
        normalized_similarity: bool = True,
        targets: TargetMode = "direct",
        target_channels: int = 256,
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="DRepMRec")
        check_int(1, hidden_channels=hidden_channels)
        check_int(0, num_layers=num_layers)
        check_not_negative(l2_weight=l2_weight)
        check_flag(detach_behavior=detach_behavior)
        check_modality_names(in_channels)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.modality_weights = modality_weights
        self.intra_weight, self.inter_weight, self.sss_weight = intra_weight, inter_weight, sss_weight
        self.temperature = temperature
        self.l2_weight = l2_weight
        self.detach_behavior = detach_behavior
        self.normalized_similarity = normalized_similarity
        self.targets, self.target_channels = targets, target_channels
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.conv = LightGCNConv(num_layers)
        self.gates: Any = torch.nn.ModuleDict(
            {name: FilterGate(width, hidden_channels) for name, width in in_channels.items()}
        )
        self.alignment = BehaviorModalAlignment(
            in_channels,
            intra_weight=intra_weight,
            inter_weight=inter_weight,
            sss_weight=sss_weight,
            temperature=temperature,
            modality_weights=modality_weights,
            normalized_similarity=normalized_similarity,
            targets=targets,
            target_channels=target_channels,
        )

    def reset_parameters(self) -> None:
        """Draws the embeddings and the gates anew."""
        super().reset_parameters()
        for gate in self.gates.values():
            gate.reset_parameters()

    def forward(self, data: HeteroData) -> Representations:
        """Both lines and their sum (Eq. 13)."""
        behavior = UserItem(*self.conv(self.user_emb.weight, self.item_emb.weight, interaction_operator(data)))
        modal = self._modal_line(data)
        return Representations(behavior.user + modal.user, behavior.item + modal.item, behavior=behavior, modal=modal)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR (Eq. 14), alignment (Eq. 15) and the L2 penalty."""
        out = self(data)
        layer0 = self.user_emb(batch.user), *self.item_emb(torch.stack([batch.pos_item, batch.neg_item]))
        return {
            "bpr": bpr_loss(*triplet_scores(out.user, out.item, batch)),
            **self.alignment(data, batch, out.behavior, out.modal),
            "l2": self.l2_weight * embedding_l2(*layer0),
        }

    def _modal_line(self, data: HeteroData) -> UserItem:
        """Filtered ID embeddings, passed once over the graphs of each modality (Eq. 4 to 7)."""
        user_emb, item_emb = self.user_emb.weight, self.item_emb.weight
        if self.detach_behavior:
            user_emb, item_emb = user_emb.detach(), item_emb.detach()
        weights = self.alignment.targets.weights  # by modality, the default ones where none were given
        user_graphs, item_graphs = (self._graphs(data, node_type) for node_type in (USER, ITEM))
        mean = interaction_operator(data).t().mean()
        masks = modality_masks(data, list(self.in_channels))
        user, item = torch.zeros_like(user_emb), torch.zeros_like(item_emb)
        for name, gate in self.gates.items():
            # The map of the gate is linear: the mean of projected items is the projection of a user's mean item.
            item_projected = gate.project(item_features(data, name, self.in_channels[name]))
            user_projected = masked_mean(mean, item_projected, masks.get(name))
            user = user.add(user_graphs[name] @ gate.filter(user_projected, user_emb), alpha=weights[name])
            item = item.add(item_graphs[name] @ gate.filter(item_projected, item_emb), alpha=weights[name])
        return UserItem(user, item)

    def _graphs(self, data: HeteroData, node_type: str) -> dict[str, SparseOperator]:
        graphs = similarity_operators(data, node_type)
        if set(graphs) != set(self.in_channels):
            raise ValueError(
                f"the data must have a {node_type}-{node_type} graph for each of the modalities "
                f"{sorted(self.in_channels)} (got {sorted(graphs)}): apply pyg_mmrec.transforms.ModalKNNGraph"
            )
        return graphs
