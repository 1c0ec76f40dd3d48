"""Labels of a few items."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_mmrec.typing import ITEM
from pyg_mmrec.utils.checks import check_int, check_names, check_share


class WeakLabels(BaseTransform):
    """Keeps the attribute labels ``attr_<name>`` of a random share of the items; -1 stands for the others.

    For experiments on how few labels are enough. The same items are kept for all attributes.

    Args:
        share: Of the labelled items, from 0 to 1; rounded to a number of items, at least one where it is not 0.
        attributes: Names of the attributes (default: all).
        seed: Which items.

    Raises:
        ValueError: If an argument is out of range; when applied, if the items have no such labels.

    Example:
        >>> data = HeteroData()
        >>> data['item'].attr_colour = torch.tensor([3, 1, -1, 2, 0])
        >>> (WeakLabels(0.5)(data)['item'].attr_colour >= 0).sum()
        tensor(2)
    """

    def __init__(self, share: float, attributes: Sequence[str] | None = None, seed: int = 0) -> None:
        check_share(share=share)
        check_int(0, seed=seed)
        if attributes is not None:
            check_names(attributes=attributes)
        self.share, self.seed = share, seed
        self.attributes = None if attributes is None else list(attributes)

    def forward(self, data: HeteroData) -> HeteroData:
        """Takes the other labels away."""
        there = [key.removeprefix("attr_") for key in data[ITEM] if key.startswith("attr_")]
        names = there if self.attributes is None else self.attributes
        missing = [name for name in names if name not in there]
        if missing or not names:
            raise ValueError(f"the items have no labels attr_<name> of {missing or 'any attribute'} (got {there})")
        labels = {name: data[ITEM][f"attr_{name}"] for name in names}
        labelled = torch.stack([label >= 0 for label in labels.values()]).any(0).nonzero().flatten()
        order = torch.randperm(labelled.numel(), generator=torch.Generator().manual_seed(self.seed))
        number = max(round(self.share * labelled.numel()), self.share > 0)
        kept = labelled[order[:number].to(labelled.device)]
        for name, label in labels.items():
            weak = torch.full_like(label, -1)
            weak[kept] = label[kept]
            data[ITEM][f"attr_{name}"] = weak
        return data
