"""MMGCL."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import ModalProjection, XavierEmbedding
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import bpr_loss, embedding_l2, info_nce
from pyg_mmrec.typing import INTERACTS, Triplets
from pyg_mmrec.utils import (
    SparseOperator,
    interaction_operator,
    interactions,
    take_rows,
    triplet_scores,
    with_interactions,
)
from pyg_mmrec.utils.checks import (
    check_channels,
    check_choice,
    check_flag,
    check_int,
    check_not_negative,
    check_part,
    check_positive,
)

#: Key under which a view of the data holds the graph with dropped edges.
DROPPED = "dropped_operator"


class MMGCL(Recommender):
    r"""MMGCL: contrast of two views of each user and item, in either of which one modality is disturbed.

    From `"Multi-modal Graph Contrastive Learning for Micro-video Recommendation"
    <https://doi.org/10.1145/3477495.3532027>`_.

    Each modality has its own user embeddings, which are smoothed together with the projected features over the
    user-item graph :math:`\mathcal{G}` and averaged over the layers; what modalities give is joined:

    .. math::
        (\mathbf{E}_{u, m}, \mathbf{E}_{i, m}) = \mathrm{LightGCN}_{\mathcal{G}}(\mathbf{P}_m,
        \mathbf{X}_m \mathbf{W}_m + \mathbf{b}_m), \quad
        \mathbf{e} = \mathbf{e}_1 \Vert \ldots \Vert \mathbf{e}_M, \quad
        \hat{y}_{ui} = \langle \mathbf{e}_u, \mathbf{e}_i \rangle

    In the first view a share :math:`\rho` of the edges of one modality's graph is dropped, :math:`\mathbf{e}'`
    (modality edge dropout); in the second one modality of a share of the nodes is left out before it is smoothed,
    :math:`\mathbf{e}''` (modality masking). Which modality it is, is drawn in each step. Challenging negatives
    :math:`\tilde{\mathbf{e}}^m` are the second view with modality m of another node, so that each modality is needed to
    tell them apart. Over the distinct users, and over the distinct items, of a batch:

    .. math::
        \mathcal{L}_{ssl} = -\frac{1}{B} \sum_b \ln \frac{\exp(\cos(\mathbf{e}'_b, \mathbf{e}''_b) / \tau)}
        {\sum_c \exp(\cos(\mathbf{e}'_b, \mathbf{e}''_c) / \tau) +
        \sum_m \exp(\cos(\mathbf{e}'_b, \tilde{\mathbf{e}}^m_b) / \tau)}, \qquad
        \mathcal{L} = \mathcal{L}_{BPR} + \alpha \mathcal{L}_{ssl} + \lambda \lVert \mathbf{E}^{(0)} \rVert^2

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of each modality's embeddings (default: 64).
        num_layers: Layers over the user-item graph (default: 2).
        edge_dropout: :math:`\rho`, drawn anew for each epoch (default: 0.2; search it).
        masking: Share of the nodes whose modality is left out (default: 0.2; search it).
        challenging_negatives: Whether there are :math:`\tilde{\mathbf{e}}^m` (default: True); with one modality there
            are none.
        contrast_weight: :math:`\alpha` (default: 0.01; search it).
        temperature: :math:`\tau` (default: 0.2).
        l2_weight: :math:`\lambda` on the batch's layer-0 embeddings, projected features among them (default: 1e-4).
        l2_form: See :func:`~pyg_mmrec.nn.loss.embedding_l2`.

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
        edge_dropout: float = 0.2,
        masking: float = 0.2,
        challenging_negatives: bool = True,
        contrast_weight: float = 0.01,
        temperature: float = 0.2,
        l2_weight: float = 1e-4,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="MMGCL")
        check_int(1, hidden_channels=hidden_channels)
        check_int(0, num_layers=num_layers)
        check_part(edge_dropout=edge_dropout, masking=masking)
        check_flag(challenging_negatives=challenging_negatives)
        check_not_negative(contrast_weight=contrast_weight, l2_weight=l2_weight)
        check_positive(temperature=temperature)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.edge_dropout = edge_dropout
        self.masking = masking
        self.challenging_negatives = challenging_negatives
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.l2_weight = l2_weight
        self.l2_form = l2_form
        self.user_emb = XavierEmbedding(num_users, len(in_channels) * hidden_channels)  # P_m side by side
        self.projection = ModalProjection(in_channels, hidden_channels)
        self.conv = LightGCNConv(num_layers)

    def resample(self, data: HeteroData, generator: torch.Generator) -> HeteroData:
        """A view that also holds the graph without the dropped edges, normalised anew."""
        view = copy.copy(super().resample(data, generator))
        edge_index = interactions(data)
        kept = torch.rand(edge_index.size(1), generator=generator).to(edge_index.device) >= self.edge_dropout
        view[INTERACTS][DROPPED] = interaction_operator(with_interactions(data, edge_index[:, kept]))
        return view

    def forward(self, data: HeteroData) -> Representations:
        """The joined embeddings of all modalities, on the whole graph."""
        inputs = self._inputs(data)
        return Representations(*self.conv(*(x.flatten(1) for x in inputs), interaction_operator(data)))

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR, the contrast of both views and the L2 penalty; edges are dropped in views of :meth:`resample` alone."""
        inputs, graph = self._inputs(data), interaction_operator(data)
        user, item = self.conv(*(x.flatten(1) for x in inputs), graph)
        whole = user.view(inputs[0].shape), item.view(inputs[1].shape)
        index = batch.user.unique(), batch.pos_item.unique()
        one = self._disturbed(inputs, whole, data[INTERACTS].get(DROPPED, graph), index, 0.0)
        other = self._disturbed(inputs, whole, graph, index, self.masking)
        contrasts = [
            info_nce(view.flatten(1), twin.flatten(1), self.temperature, negative=self._swapped(twin))
            for view, twin in zip(one, other, strict=True)
        ]
        layer0 = self.user_emb(batch.user), *take_rows(inputs[1], torch.stack(batch[1:])).flatten(-2)
        return {
            "bpr": bpr_loss(*triplet_scores(user, item, batch)),
            "contrast": self.contrast_weight * torch.stack(contrasts).sum(),
            "l2": self.l2_weight * embedding_l2(*layer0, form=self.l2_form),
        }

    def _inputs(self, data: HeteroData) -> tuple[Tensor, Tensor]:
        """``[num_nodes, M, channels]`` of users and items, before they are smoothed."""
        item = torch.stack(list(self.projection(data).values()), dim=1)
        return self.user_emb.weight.view(self.num_users, *item.shape[1:]), item

    def _disturbed(
        self,
        inputs: tuple[Tensor, Tensor],
        whole: tuple[Tensor, Tensor],
        graph: SparseOperator,
        index: tuple[Tensor, Tensor],
        masking: float,
    ) -> list[Tensor]:
        """``[n, M, channels]`` rows of users and items, with one modality smoothed anew, without that of some nodes."""
        rows = [take_rows(x, at) for x, at in zip(whole, index, strict=True)]
        if not self.training:
            return rows
        drawn = int(torch.randint(len(self.in_channels), ()))
        sides = [x[:, drawn] for x in inputs]
        if masking > 0:
            sides = [x * (torch.rand(x.size(0), 1, device=x.device) >= masking) for x in sides]
        anew = self.conv(*sides, graph)
        own = torch.arange(len(self.in_channels), device=graph.device).view(1, -1, 1) == drawn
        return [
            torch.where(own, take_rows(x, at).unsqueeze(1), row) for x, at, row in zip(anew, index, rows, strict=True)
        ]

    def _swapped(self, rows: Tensor) -> Tensor | None:
        """``[n, M, M * channels]``: rows ``[n, M, channels]`` with each modality in turn from another row."""
        num_rows, num_modalities = rows.shape[:2]
        if not self.challenging_negatives or num_rows == 1 or num_modalities == 1:
            return None
        shift = int(torch.randint(1, num_rows, ())) if self.training else 1
        swap = torch.eye(num_modalities, dtype=torch.bool, device=rows.device).unsqueeze(-1)
        return torch.where(swap, rows.roll(shift, 0).unsqueeze(1), rows.unsqueeze(1)).flatten(2)
