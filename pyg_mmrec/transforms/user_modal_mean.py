"""User features from the features of their items."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_mmrec.transforms._modalities import check_modalities, choose_modalities, read_features
from pyg_mmrec.typing import ITEM, USER, feature_key, mask_key
from pyg_mmrec.utils import SparseOperator, interactions, modalities, normalized_weight, num_users_items

#: Channels averaged at a time: wider products are slower and hold a second copy of their result.
_BLOCK_CHANNELS = 64


class UserModalMean(BaseTransform):
    """Gives users the mean features of their items, ``data['user'].x_<modality>``.

    The mean runs over the items in ``edge_index`` that have the modality: not those that ``mask_<modality>`` leaves
    out, and not those with a zero or non-finite row, which count as missing, with a warning. Users without such an item
    get zeros and ``mask_<modality>`` false. User features of the same name are replaced. Apply it to the views of a
    split and not before it, where held-out items would count.

    Args:
        modalities: Names of the modalities (default: all that the items have).

    Raises:
        ValueError: If ``modalities`` is no list; when applied, if a modality is unknown, there is none, or its
            features do not fit the items.

    Example:
        >>> import torch
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 3
        >>> data['item'].x_text = torch.tensor([[1.0, 0.0], [3.0, 4.0], [5.0, 5.0]])
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0], [0, 1]])
        >>> user = UserModalMean()(data)['user']
        >>> user.x_text
        tensor([[2., 2.],
                [0., 0.]])
        >>> user.mask_text
        tensor([ True, False])
    """

    def __init__(self, modalities: Sequence[str] | None = None) -> None:
        self.modalities = check_modalities(modalities)

    def forward(self, data: HeteroData) -> HeteroData:
        """Averages the features."""
        edge_index = interactions(data)
        num_users, _ = num_users_items(data)
        names = choose_modalities(self.modalities, modalities(data, ITEM), ITEM)
        features = {name: read_features(data, ITEM, name) for name in names}
        for name, (_, usable) in features.items():
            unmarked = int((~usable & data[ITEM].get(mask_key(name), True)).sum())
            if unmarked:
                message = f"{unmarked} items have a zero or non-finite {name!r} row: they count as missing"
                warnings.warn(message, stacklevel=3)
        for name, (x, usable) in features.items():
            mean, mask = _mean(edge_index, x, usable, num_users)
            data[USER][feature_key(name)], data[USER][mask_key(name)] = mean, mask
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(modalities={self.modalities})"


def _mean(edge_index: Tensor, x: Tensor, usable: Tensor, num_users: int) -> tuple[Tensor, Tensor]:
    """The ``[num_users, channels]`` means and which users have one."""
    edges = edge_index[:, usable[edge_index[1]]].flip(0)  # item -> user
    weight = normalized_weight(edges, x.size(0), num_users, normalization="row")
    operator = SparseOperator.from_edge_index(edges, weight, num_src=x.size(0), num_dst=num_users)
    mean = x.new_empty(num_users, x.size(1))
    for part, target in zip(x.split(_BLOCK_CHANNELS, 1), mean.split(_BLOCK_CHANNELS, 1), strict=True):
        target.copy_(operator @ part.contiguous())
    mask = usable.new_zeros(num_users)
    mask[edges[1]] = True
    return mean, mask
