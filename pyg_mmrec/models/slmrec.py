"""SLMRec."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Linear
from torch_geometric.data import HeteroData

from pyg_mmrec.models.base import Recommender, Representations, UserItem
from pyg_mmrec.nn import ModalProjection, XavierEmbedding, reset_xavier
from pyg_mmrec.nn.conv import LightGCNConv
from pyg_mmrec.nn.loss import bpr_loss, cross_modal_contrast, embedding_l2, info_nce
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import interaction_operator, modality_masks, take_rows
from pyg_mmrec.utils.checks import (
    check_channels,
    check_choice,
    check_int,
    check_not_negative,
    check_part,
    check_positive,
)


class SLMRec(Recommender):
    r"""SLMRec: one graph encoder for IDs and for each modality, and a self-supervised task on items.

    From `"Self-Supervised Learning for Multimedia Recommendation" <https://doi.org/10.1109/TMM.2022.3187556>`_.

    IDs count as a modality, :math:`m = 0`. Each has its own user embeddings, which are smoothed together with what it
    says of the items over the user-item graph and averaged over the layers; a linear map fuses them:

    .. math::
        \mathbf{X}_{i, 0} = \mathbf{E}_i, \quad \mathbf{X}_{i, m} = \mathbf{F}_m \mathbf{W}_m + \mathbf{b}_m, \quad
        (\mathbf{Z}_{u, m}, \mathbf{Z}_{i, m}) = \mathrm{LightGCN}(\mathbf{P}_m, \mathbf{X}_{i, m}), \quad
        \mathbf{e} = [\mathbf{z}_0 \Vert \ldots \Vert \mathbf{z}_M] \mathbf{W} + \mathbf{b}, \quad
        \hat{y}_{ui} = \langle \mathbf{e}_u, \mathbf{e}_i \rangle

    .. math::
        \mathcal{L} = \mathcal{L}_{BPR} + \alpha \mathcal{L}_{ssl} + \lambda \lVert \mathbf{X}^{(0)} \rVert^2

    The task, with :func:`~pyg_mmrec.nn.loss.info_nce` over the distinct items of a batch, is one of

    * ``'fac'``, features in fine and coarse spaces: each modality is mapped to its own fine space and contrasted there
      with the ID; one map leads on to a coarse space, where modalities are contrasted with each other,
    * ``'fd'``, feature dropout: two fused embeddings of an item, whose inputs lack different channels,
    * ``'fm'``, feature masking: the fused embedding of an item and one without one of its inputs.

    .. math::
        \mathcal{L}_{fac} = \frac{1}{M} \sum_{m \ge 1} \mathcal{L}_{NCE}(f_0(\mathbf{Z}_0), f_m(\mathbf{Z}_m)) +
        \binom{M}{2}^{-1} \sum_{1 \le m < n} \mathcal{L}_{NCE}(g(f_m(\mathbf{Z}_m)), g(f_n(\mathbf{Z}_n))), \qquad
        \mathcal{L}_{fd} = \mathcal{L}_{NCE}(\mathbf{E}', \mathbf{E}''), \qquad
        \mathcal{L}_{fm} = \mathcal{L}_{NCE}(\mathbf{E}, \mathbf{E}')

    Args:
        num_users: Number of users.
        num_items: Number of items.
        in_channels: Width of each modality's features.
        hidden_channels: Width d of the embeddings (default: 64).
        num_layers: Layers over the user-item graph (default: 2).
        task: ``'fac'`` (default), ``'fd'`` or ``'fm'``.
        contrast_weight: :math:`\alpha` (default: 0.01; search it).
        temperature: Of the contrast (default: 0.2).
        dropout: Share of the channels that feature dropout leaves out (default: 0.3; search it); only for ``'fd'``.
        l2_weight: :math:`\lambda` on the batch's layer-0 embeddings, projected features among them (default: 1e-4).
        l2_form: See :func:`~pyg_mmrec.nn.loss.embedding_l2`.

    Raises:
        ValueError: If there is no modality, one is called ``'id'``, or an argument is out of range.
    """

    two_lines = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: dict[str, int],
        *,
        hidden_channels: int = 64,
        num_layers: int = 2,
        task: Literal["fac", "fd", "fm"] = "fac",
        contrast_weight: float = 0.01,
        temperature: float = 0.2,
        dropout: float = 0.3,
        l2_weight: float = 1e-4,
        l2_form: Literal["squared", "norm"] = "squared",
    ) -> None:
        super().__init__(num_users, num_items)
        check_channels(in_channels, needed_by="SLMRec")
        if "id" in in_channels:
            raise ValueError("'in_channels' must not name a modality 'id', which stands for the items' own embeddings")
        check_int(1, hidden_channels=hidden_channels)
        check_int(0, num_layers=num_layers)
        check_choice(("fac", "fd", "fm"), task=task)
        check_not_negative(contrast_weight=contrast_weight, l2_weight=l2_weight)
        check_positive(temperature=temperature)
        check_part(dropout=dropout)
        check_choice(("squared", "norm"), l2_form=l2_form)
        self.in_channels = dict(in_channels)
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.task = task
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.dropout = dropout
        self.l2_weight = l2_weight
        self.l2_form = l2_form
        names = ["id", *in_channels]
        self.user_emb = XavierEmbedding(num_users, len(names) * hidden_channels)  # P_m side by side
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.projection = ModalProjection(in_channels, hidden_channels)
        self.conv = LightGCNConv(num_layers)
        self.fusion = Linear(len(names) * hidden_channels, hidden_channels)
        spaces = names if task == "fac" else []
        self.fine = torch.nn.ModuleDict({name: Linear(hidden_channels, hidden_channels) for name in spaces})
        self.coarse = Linear(hidden_channels, hidden_channels) if len(spaces) > 2 else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws tables and maps Xavier-uniform; biases start at zero."""
        reset_xavier(self)

    def forward(self, data: HeteroData) -> Representations:
        """Fused embeddings; what IDs give as behaviour, the mean of what modalities give as modal."""
        user, item = self._encode(data, self._inputs(data))
        return Representations(
            self.fusion(user.flatten(1)),
            self.fusion(item.flatten(1)),
            behavior=UserItem(user[:, 0], item[:, 0]),
            modal=UserItem(user[:, 1:].mean(1), item[:, 1:].mean(1)),
        )

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        """BPR, the self-supervised task and the L2 penalty."""
        inputs, items = self._inputs(data), torch.stack([batch.pos_item, batch.neg_item])
        user, item = self._encode(data, inputs)
        user_emb = self.fusion(take_rows(user, batch.user).flatten(-2))
        scores = (user_emb * self.fusion(take_rows(item, items).flatten(-2))).sum(-1)
        layer0 = self.user_emb(batch.user), *take_rows(inputs, items).flatten(-2)
        index = batch.pos_item.unique()
        if self.task == "fac":
            contrast = self._fine_and_coarse(data, take_rows(item, index), index)
        else:
            views = (inputs, inputs) if self.task == "fd" else (inputs,)
            fused = [self._encode(data, self._drop(view))[1] for view in views]
            fused = fused if self.task == "fd" else [item, *fused]
            one, other = (self.fusion(take_rows(view, index).flatten(1)) for view in fused)
            contrast = info_nce(one, other, self.temperature)
        return {
            "bpr": bpr_loss(*scores),
            "contrast": self.contrast_weight * contrast,
            "l2": self.l2_weight * embedding_l2(*layer0, form=self.l2_form),
        }

    def _inputs(self, data: HeteroData) -> Tensor:
        """``[num_items, 1 + M, channels]``: what IDs and modalities say of the items."""
        return torch.stack([self.item_emb.weight, *self.projection(data).values()], dim=1)

    def _encode(self, data: HeteroData, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """``[num_nodes, 1 + M, channels]`` of users and items, each modality smoothed by itself."""
        user, item = self.conv(self.user_emb.weight, inputs.flatten(1), interaction_operator(data))
        return user.view(self.num_users, *inputs.shape[1:]), item.view(inputs.shape)

    def _drop(self, inputs: Tensor) -> Tensor:
        """Inputs without some channels, or, to mask features, without one modality of each item."""
        if self.task == "fd":
            return F.dropout(inputs, self.dropout, self.training)
        if not self.training:
            return inputs
        gone = torch.randint(inputs.size(1), inputs.shape[:1], device=inputs.device)
        return inputs * (torch.arange(inputs.size(1), device=inputs.device) != gone.unsqueeze(1)).unsqueeze(-1)

    def _fine_and_coarse(self, data: HeteroData, item: Tensor, index: Tensor) -> Tensor:
        """Contrast of the ID with each modality, and of modalities with each other; ``[n, 1 + M, channels]`` rows."""
        masks = {name: mask[index] for name, mask in modality_masks(data, list(self.in_channels)).items()}
        fine = {name: lin(item[:, n]) for n, (name, lin) in enumerate(self.fine.items())}
        pairs = [{"id": fine["id"], name: fine[name]} for name in self.in_channels]
        loss = torch.stack([cross_modal_contrast(pair, self.temperature, masks) for pair in pairs]).mean()
        if self.coarse is None:
            return loss
        coarse = {name: self.coarse(fine[name]) for name in self.in_channels}
        return loss + cross_modal_contrast(coarse, self.temperature, masks)
