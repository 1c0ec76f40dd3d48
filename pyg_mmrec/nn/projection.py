"""Linear maps from raw modal features to embeddings."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.nn.xavier import reset_xavier
from pyg_mmrec.typing import ITEM, mask_key
from pyg_mmrec.utils import graph_ids, item_features, take_rows

#: Rows gathered at a time: wide features in larger pieces make the allocator map fresh pages at every step.
ROWS_AT_ONCE = 1024


def check_modality_names(names: Iterable[str]) -> None:
    """Refuses modality names under which torch cannot keep weights.

    Raises:
        ValueError: If a name is empty, has a dot or is that of a method of :class:`torch.nn.ModuleDict`.
    """
    for name in names:
        if not name or "." in name or hasattr(torch.nn.ModuleDict, name) or hasattr(torch.nn.ParameterDict, name):
            raise ValueError(f"a modality cannot be called '{name}', because torch keeps no weights under that name")


class ModalProjection(torch.nn.Module):
    r"""Projects every modality of the items to a common width, :math:`\mathbf{x}_m \mathbf{W}_m + \mathbf{b}_m`.

    Only the rows that are asked for are projected, each once. Items without a modality (``mask_<modality>`` false)
    get zeros.

    Args:
        in_channels: Width of each modality's features.
        out_channels: Width of the projections.
        bias: Whether :math:`\mathbf{b}_m` is learned.

    Shapes:
        - **input:** the data, optionally ``[...]`` item indices
        - **output:** per modality ``[num_items, out_channels]``, or ``[..., out_channels]`` for the indices

    Raises:
        ValueError: In ``forward``, if the data lacks a modality or holds it in another width.
    """

    def __init__(self, in_channels: dict[str, int], out_channels: int, bias: bool = True) -> None:
        super().__init__()
        check_modality_names(in_channels)
        self.in_channels, self.out_channels = dict(in_channels), out_channels
        self.lins = torch.nn.ModuleDict(
            {name: torch.nn.Linear(width, out_channels, bias=bias) for name, width in in_channels.items()}
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws Xavier-uniform weights and zero biases."""
        reset_xavier(self)

    def forward(self, data: HeteroData, index: Tensor | None = None) -> dict[str, Tensor]:
        """Projects all items, or those of ``index``.

        Args:
            data: Carries ``data['item'].x_<modality>`` and, optionally, ``mask_<modality>``.
            index: Item indices of any shape, repeats allowed.
        """
        index = graph_ids(data, ITEM, index)
        rows, inverse = (None, None) if index is None else index.unique(return_inverse=True)
        out = {}
        for name, lin in self.lins.items():
            x = item_features(data, name, self.in_channels[name])
            mask = data[ITEM].get(mask_key(name))
            z = (
                lin(x)
                if rows is None
                else torch.cat([lin(x.index_select(0, part)) for part in rows.split(ROWS_AT_ONCE)])
            )
            if mask is not None:
                z = z * (mask if rows is None else mask[rows]).unsqueeze(-1)
            out[name] = z if inverse is None else take_rows(z, inverse)
        return out
