"""Features for items that lack a modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_mmrec.transforms._modalities import check_modalities, choose_modalities, read_features
from pyg_mmrec.typing import ITEM, feature_key, mask_key
from pyg_mmrec.utils import SparseOperator, masked_mean, modalities, num_users_items
from pyg_mmrec.utils.checks import check_choice, check_int
from pyg_mmrec.utils.texts import train_edges

#: How features are imputed.
ImputeMethod = Literal["zero", "mean", "neighbors"]

#: Channels that are propagated at a time: wider products are slower and hold a second copy of their result.
_BLOCK_CHANNELS = 64


class ImputeFeatures(BaseTransform):
    r"""Fills in the features of items that lack a modality, which then count as having it.

    ``'neighbors'`` is `feature propagation <https://arxiv.org/abs/2111.12265>`_ over the train interactions: in each
    step a user takes the mean of the user's items that have features, given or imputed by then, and an item without
    the modality the mean of its users that have some. Given features stay as they are.

    .. math::
        \mathbf{x}_u = \frac{1}{|\mathcal{N}_u|} \sum_{i \in \mathcal{N}_u} \mathbf{x}_i, \quad
        \mathbf{x}_i \leftarrow \frac{1}{|\mathcal{N}_i|} \sum_{u \in \mathcal{N}_i} \mathbf{x}_u

    Items that no step reaches, such as those without train interactions, take the mean of the given features. Imputed
    features of ``'zero'`` are zeros: what a model makes of an item whose mask is left out. Apply it to the views of a
    split, or to data that brings its ``split``, whose train interactions are then read, and build graphs afterwards.

    Args:
        method: ``'zero'``, ``'mean'``, that of the items that have the modality, or ``'neighbors'`` (default).
        modalities: Names of the modalities (default: all that the items have).
        num_steps: Steps of ``'neighbors'`` (default: 3).

    Raises:
        ValueError: If an argument is out of range; when applied, if a modality is unknown, there is none, or no item
            has it.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 4
        >>> data['item'].x_text = torch.tensor([[1.0], [0.0], [6.0], [0.0]])
        >>> data['item'].mask_text = torch.tensor([True, False, True, False])
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0, 1], [0, 1, 2]])
        >>> ImputeFeatures()(data)['item'].x_text.flatten()
        tensor([1.0000, 1.0000, 6.0000, 3.5000])
    """

    def __init__(
        self, method: ImputeMethod = "neighbors", modalities: Sequence[str] | None = None, num_steps: int = 3
    ) -> None:
        check_choice(get_args(ImputeMethod), method=method)
        check_int(1, num_steps=num_steps)
        self.method: ImputeMethod = method
        self.modalities = check_modalities(modalities)
        self.num_steps = num_steps

    def forward(self, data: HeteroData) -> HeteroData:
        """Fills in the features."""
        operator: SparseOperator | None = None
        for name in choose_modalities(self.modalities, modalities(data, ITEM), ITEM):
            x, usable = read_features(data, ITEM, name)
            if not usable.all():
                if not usable.any():
                    raise ValueError(f"no item has usable {name!r} features to impute those of the others from")
                if self.method == "neighbors" and operator is None:
                    num_users, num_items = num_users_items(data)
                    edges = train_edges(data).flip(0)
                    operator = SparseOperator.from_edge_index(edges, num_src=num_items, num_dst=num_users)
                data[ITEM][feature_key(name)] = self._impute(x, usable, operator)
            if mask_key(name) in data[ITEM]:
                del data[ITEM][mask_key(name)]
        return data

    def _impute(self, x: Tensor, usable: Tensor, operator: SparseOperator | None) -> Tensor:
        """The features with the rows of other items filled in."""
        out = torch.zeros_like(x)
        out[usable] = x[usable]
        if self.method == "zero":
            return out
        mean = x[usable].mean(0)
        if operator is None:
            out[~usable] = mean
            return out
        to_user, to_item = operator.mean(), operator.t().mean()
        for block in out.split(_BLOCK_CHANNELS, dim=1):  # views, written in place
            has = usable
            for _ in range(self.num_steps):
                user = masked_mean(to_user, block, has)
                user_has = (to_user @ has.to(x.dtype).unsqueeze(1)).squeeze(1) > 0
                item = masked_mean(to_item, user, user_has)
                reached = (to_item @ user_has.to(x.dtype).unsqueeze(1)).squeeze(1) > 0
                block[~usable] = item[~usable]
                has = usable | reached
        out[~has] = mean
        return out

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(method={self.method!r}, modalities={self.modalities}, num_steps={self.num_steps})"
        )
