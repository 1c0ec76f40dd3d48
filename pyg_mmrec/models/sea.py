"""SEA."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations
from pyg_mmrec.nn import SeparateLearning, XavierEmbedding, composed_linear, reset_xavier
from pyg_mmrec.nn.conv import LightGCNConv, ModalGraphConv, default_graph_weights
from pyg_mmrec.nn.loss import bpr_loss
from pyg_mmrec.nn.projection import check_modality_names
from pyg_mmrec.nn.separate import Alignment, Distancing
from pyg_mmrec.typing import ITEM, Triplets
from pyg_mmrec.utils import (
    interaction_operator,
    item_features,
    modalities,
    modality_masks,
    similar_modalities,
    similarity_operators,
    triplet_scores,
    unit_rows,
)
from pyg_mmrec.utils.checks import (
    check_by_name,
    check_channels,
    check_flag,
    check_int,
    check_not_negative,
)


class SEA(Recommender):
    r"""SEA: separate learning of what modalities share and of what each has alone.

    From `"It is Never Too Late to Mend: Separate Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_.

    Items have no ID embedding; users have one for each modality. With
    :math:`\mathbf{T}_m = \mathbf{X}_m \mathbf{A}_m + \mathbf{a}_m`, a perceptron, and rows of length one (Section 4.1),

    .. math::
        \mathbf{x}_m^{(0)} = \Big[ \frac{\mathbf{P}_m}{\lVert \cdot \rVert} ;
        \frac{\mathrm{MLP}(\mathbf{T}_m)}{\lVert \cdot \rVert} \Big], \quad
        \bar{\mathbf{x}}_m = \sum_{l=0}^{L} \hat{\mathbf{A}}^l \mathbf{x}_m^{(0)}, \quad
        \mathbf{e}_u = \Vert_m \, w_{u,m} \bar{\mathbf{x}}_{u,m}, \quad
        \mathbf{e}_i = \mathbf{r}_i + (\mathbf{S}^n \mathbf{r})_i, \; \mathbf{r}_i = \Vert_m \bar{\mathbf{x}}_{i,m}

    where :math:`\mathbf{S} = \sum_m \alpha_m \mathbf{S}_m` is the sum of the modal item graphs (Eq. 6 to 12 and 17).
    Scores are inner products. The first half of :math:`\mathbf{T}_m` is the generic part, aligned across modalities,
    the second the unique part, kept apart from it (:class:`~pyg_mmrec.nn.SeparateLearning`); the objective is Eq. 19:

    .. math::
        \mathcal{L} = \mathcal{L}_{BPR} + \alpha \mathcal{L}_{align} + \frac{\beta}{M} \sum_m \mathcal{L}_{distance, m}

    Everything reads :math:`\mathbf{T}_m` through linear maps, so it is never built: their weights are multiplied with
    :math:`\mathbf{A}_m` instead (:func:`~pyg_mmrec.nn.composed_linear`), about a seventh of the arithmetic for the
    same function and gradients.

    The variants of Table 4 are SEA-a ``alignment='solosim', distancing='club'`` (the method), SEA-b ``'solosim',
    'negative'``, SEA-c ``'infonce', 'club'``, SEA-d ``'infonce', 'negative'``; None leaves a part out (Figure 3).

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of each modality's embeddings (default: 64, the paper's).
        num_layers: L, layers over the user-item graph (default: 2, the paper's).
        num_item_layers: n, layers over the item graphs (default: 1, the authors').
        graph_weights: :math:`\alpha_m` by modality, the starting values where they are learned. By default 0.1 for
            images and 0.9 for texts where these are the two graphs (the authors'), equal shares otherwise.
        learn_graph_weights: Whether :math:`\alpha_m` are learned, as in the paper, or fixed as in the authors' code
            (default: True).
        alignment: Loss that aligns generic parts, ``'solosim'`` (default) or ``'infonce'``; None for none. See
            :class:`~pyg_mmrec.nn.SeparateLearning` for this and all arguments that follow.
        distancing: Loss that keeps the two parts apart, ``'club'`` (default) or ``'negative'``; None for none.
        align_weight: :math:`\alpha` (default: 0.012, the authors' for Amazon Clothing; search it).
        distance_weight: :math:`\beta` (default: 0.006, the authors' for Amazon Clothing; search it).
        temperature: :math:`\tau` (default: 0.2, the authors').
        align_items: Items among which the alignment is taken for each batch (default: all).
        shared_estimator: One CLUB estimator, as in the authors' code (default: False).
        raw_heads: Heads that are not standardised, as in the authors' code (default: False).
        estimator_lr: Learning rate of the CLUB estimators (default: 1e-4, the authors').
        estimator_steps: Steps of the CLUB estimators for each batch (default: 50, the authors').
        estimator_items: Items that the CLUB estimators are fitted on for each batch (default: all).
        log2: Whether BPR takes logarithms to base 2, as in the authors' code: 1.44 times the loss (default: False).

    Raises:
        ValueError: If there is no modality, one alone with ``alignment`` on, or an argument is out of range; in
            ``forward``, if the data has no item-item graph or ``graph_weights`` names other ones.
    """

    modal_graphs: ClassVar[tuple[str, ...]] = (ITEM,)

    #: Arguments under which the model is that of the authors' code: ``SEA.from_data(data, **SEA.RELEASED)``.
    RELEASED: ClassVar[dict[str, Any]] = {
        "learn_graph_weights": False,
        "shared_estimator": True,
        "raw_heads": True,
        "log2": True,
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        graph_weights: dict[str, float] | None = None,
        learn_graph_weights: bool = True,
        alignment: Alignment | None = "solosim",
        distancing: Distancing | None = "club",
        align_weight: float = 0.012,
        distance_weight: float = 0.006,
        temperature: float = 0.2,
        align_items: int | None = None,
        shared_estimator: bool = False,
        raw_heads: bool = False,
        estimator_lr: float = 1e-4,
        estimator_steps: int = 50,
        estimator_items: int | None = None,
        log2: bool = False,
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="SEA")
        check_int(1, hidden_channels=hidden_channels)
        check_int(0, num_layers=num_layers, num_item_layers=num_item_layers)
        check_flag(learn_graph_weights=learn_graph_weights, log2=log2)
        if graph_weights is not None:
            check_by_name(check_not_negative, graph_weights=graph_weights)
        check_modality_names(in_channels)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_item_layers = num_item_layers
        self.graph_weights = graph_weights
        self.learn_graph_weights = learn_graph_weights
        self.alignment, self.distancing = alignment, distancing
        self.align_weight, self.distance_weight = align_weight, distance_weight
        self.temperature, self.align_items = temperature, align_items
        self.shared_estimator, self.raw_heads = shared_estimator, raw_heads
        self.estimator_lr, self.estimator_steps = estimator_lr, estimator_steps
        self.estimator_items = estimator_items
        self.log2 = log2
        self.user_emb = torch.nn.ModuleDict(
            {name: XavierEmbedding(num_users, hidden_channels) for name in in_channels}  # P_m
        )
        self.transform = self._linears(dict(in_channels), None)  # A_m
        self.encoder_in = self._linears(dict(in_channels), 4 * hidden_channels)  # W1
        self.encoder_out = self._linears(dict.fromkeys(in_channels, 4 * hidden_channels), hidden_channels)  # W2
        self.conv = LightGCNConv(num_layers)
        self.item_conv = ModalGraphConv(num_item_layers)
        self.user_weight = torch.nn.Parameter(torch.empty(num_users, len(in_channels)))  # w
        learned = self._start_weights() if learn_graph_weights and num_item_layers > 0 else {}
        self.graph_weight = torch.nn.ParameterDict({name: torch.empty(()) for name in learned})  # alpha
        self.separate = SeparateLearning(
            in_channels,
            alignment=alignment,
            distancing=distancing,
            align_weight=align_weight,
            distance_weight=distance_weight,
            temperature=temperature,
            align_items=align_items,
            shared_estimator=shared_estimator,
            raw_heads=raw_heads,
            estimator_lr=estimator_lr,
            estimator_steps=estimator_steps,
            estimator_items=estimator_items,
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws tables and maps Xavier-uniform; users' modality weights start as a softmax, as in the authors' code."""
        reset_xavier(self)
        with torch.no_grad():
            torch.nn.init.xavier_normal_(self.user_weight)
            self.user_weight.copy_(self.user_weight.softmax(dim=1))
            for name, weight in self.graph_weight.items():
                weight.fill_(self._start_weights()[name])

    @classmethod
    def from_data(cls, data: HeteroData, **kwargs: Any) -> SEA:
        """Builds the model; graph weights are those of the data's item graphs where these are of other modalities."""
        graphs, modalities_read = similar_modalities(data), kwargs.get("in_channels", modalities(data))
        if graphs and set(graphs) != set(modalities_read):
            kwargs.setdefault("graph_weights", default_graph_weights(graphs))
        return super().from_data(data, **kwargs)

    def forward(self, data: HeteroData) -> Representations:
        """Final embeddings, and in eval mode the heads of generic and unique parts where the method learns them."""
        first = self._first_layers(data)
        user, item = self._propagate(data, first)
        if self.training:  # batch normalisation in the heads would count this call
            return Representations(user, item)
        generic, unique = self.separate.heads(first, modality_masks(data, list(first)))
        return Representations(user, item, generic=generic, unique=unique)

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR, alignment and distancing (Eq. 19)."""
        first = self._first_layers(data)
        user_emb, item_emb = self._propagate(data, first)
        bpr = bpr_loss(*triplet_scores(user_emb, item_emb, batch))
        if self.log2:
            bpr = bpr / math.log(2)
        return {"bpr": bpr, **self.separate.losses(first, modality_masks(data, list(first)))}

    @torch.no_grad()
    def parts(self, data: HeteroData) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The generic and the unique half of T_m by modality, ``[num_items, d_m / 2]`` each: for diagnostics."""
        halves = {
            name: transform(item_features(data, name, width)).split([width // 2, width - width // 2], dim=-1)
            for (name, width), transform in zip(self.in_channels.items(), self.transform.values(), strict=True)
        }
        return {name: half[0] for name, half in halves.items()}, {name: half[1] for name, half in halves.items()}

    def _first_layers(self, data: HeteroData) -> dict[str, dict[str, Tensor]]:
        """By modality, what reads T_m: the encoder's first layer and those of separate learning."""
        first = {}
        for name, width in self.in_channels.items():
            transform, encoder = cast("Linear", self.transform[name]), cast("Linear", self.encoder_in[name])
            layers = {"encoder": (encoder, slice(None)), **self.separate.first_layers(name)}
            first[name] = composed_linear(item_features(data, name, width), transform, layers)
        return first

    def _propagate(self, data: HeteroData, first: dict[str, dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
        """Embeddings of users and items (Eq. 6 to 12 and 17)."""
        masks, user, item = modality_masks(data, list(first)), [], []
        for name, outputs in first.items():
            z = self.encoder_out[name](F.leaky_relu(outputs["encoder"]))
            if name in masks:
                z = z * masks[name].unsqueeze(-1)
            user.append(unit_rows(cast("XavierEmbedding", self.user_emb[name]).weight))
            item.append(unit_rows(z))
        graph = interaction_operator(data)
        mean_user, mean_item = self.conv(torch.cat(user, dim=-1), torch.cat(item, dim=-1), graph)
        x_user, r = (self.num_layers + 1) * mean_user, (self.num_layers + 1) * mean_item  # sums over the layers
        e_user = x_user.unflatten(1, (len(first), -1)) * self.user_weight.unsqueeze(-1)
        graphs = similarity_operators(data)
        return e_user.flatten(1), r + self.item_conv(r, graphs, self._weights(list(graphs)))

    def _weights(self, names: list[str]) -> dict[str, Any]:
        return dict(self.graph_weight.items()) or self.graph_weights or default_graph_weights(names)

    def _start_weights(self) -> dict[str, float]:
        return self.graph_weights or default_graph_weights(list(self.in_channels))

    @staticmethod
    def _linears(widths: dict[str, int], out_channels: int | None) -> torch.nn.ModuleDict:
        return torch.nn.ModuleDict({name: Linear(d, out_channels or d) for name, d in widths.items()})
