"""Choosing modalities and reading their features, with checks."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import ITEM, feature_key, mask_key
from pyg_mmrec.utils import num_users_items
from pyg_mmrec.utils.checks import check_names
from pyg_mmrec.utils.knn import usable_rows


def choose_modalities(wanted: Sequence[str] | None, known: Sequence[str], node_type: str) -> list[str]:
    """The wanted modalities, by default all that a node type has.

    Args:
        wanted: Names of modalities.
        known: The names that the data has.
        node_type: ``'user'`` or ``'item'``, for the messages.

    Raises:
        ValueError: If there are none, or one that is wanted is unknown.
    """
    if not known:
        raise ValueError(f"data['{node_type}'] has no features; store some as data['{node_type}'].x_<modality>")
    for name in wanted or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"data['{node_type}'] has no modality {name!r}; it has {', '.join(known)}{hint}")
    return list(known if wanted is None else dict.fromkeys(wanted))


def check_modalities(wanted: Sequence[str] | None) -> tuple[str, ...] | None:
    """The ``modalities`` argument of a transform as a tuple.

    Raises:
        ValueError: If it is no list of names.
    """
    if wanted is None:
        return None
    check_names(modalities=wanted)
    return tuple(wanted)


def read_features(data: HeteroData, node_type: str, modality: str) -> tuple[Tensor, Tensor]:
    """A modality's features and which of their rows can be used.

    Returns:
        ``[num_nodes, channels]`` features; ``[num_nodes]`` bool, false where ``mask_<modality>`` is, and where a row is
        zero or not finite, which counts as missing.

    Raises:
        ValueError: If the features or the mask do not have one row per node.
    """
    num_nodes = num_users_items(data)[node_type == ITEM]
    x: Tensor = data[node_type][feature_key(modality)]
    if x.dim() != 2 or x.size(0) != num_nodes or x.size(1) == 0 or not x.is_floating_point():
        raise ValueError(
            f"data['{node_type}'].{feature_key(modality)} must be a float tensor of shape [{num_nodes}, channels] "
            f"(got {tuple(x.shape)}, {x.dtype})"
        )
    mask = data[node_type].get(mask_key(modality))
    if mask is not None and (mask.dtype != torch.bool or mask.shape != (num_nodes,)):
        raise ValueError(
            f"data['{node_type}'].{mask_key(modality)} must be a bool tensor of shape [{num_nodes}] "
            f"(got {tuple(mask.shape)}, {mask.dtype})"
        )
    return x, usable_rows(x, mask)
