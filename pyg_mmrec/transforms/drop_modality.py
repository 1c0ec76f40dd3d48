"""Items that lack a modality, for experiments."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_mmrec.transforms._modalities import choose_modalities, read_features
from pyg_mmrec.typing import ITEM, USER, feature_key, mask_key, similar
from pyg_mmrec.utils import modalities
from pyg_mmrec.utils.checks import check_int, check_share
from pyg_mmrec.utils.seeds import derive_seed


class DropModality(BaseTransform):
    """Takes a modality from a share of the items that have it: their features become zero, their mask False.

    The items are drawn by the seed for each modality apart, and those of a lower rate are among those of a higher one.
    Raw images, ``image``, go with the modality ``'image'``, whose mask they share, and ``tokens`` of words with
    ``'text'``; they need not have features beside them.

    Graphs ``similar_<modality>`` of items and users that the data already has were built from features that are now
    missing, so they are left out: apply :class:`ModalKNNGraph` afterwards. For the same reason, apply
    :class:`UserModalMean` afterwards.

    Args:
        rate: Share of the items with the modality that lose it, from 0 to 1, rounded to a number of items.
        modality: Its name (default: every modality).
        seed: Seed of the draw (default: 0).

    Raises:
        ValueError: If an argument is out of range; when applied, if there is no such modality.

    Example:
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 1, 4
        >>> data['item'].x_text = torch.ones(4, 2)
        >>> DropModality(0.5)(data)['item'].mask_text.sum()
        tensor(2)
    """

    def __init__(self, rate: float, modality: str | None = None, seed: int = 0) -> None:
        check_share(rate=rate)
        check_int(0, seed=seed)
        if modality is not None and (not isinstance(modality, str) or not modality):
            raise ValueError(f"'modality' must be the name of a modality or None (got {modality!r})")
        self.rate = rate
        self.modality = modality
        self.seed = seed

    def forward(self, data: HeteroData) -> HeteroData:
        """Drops the features."""
        raw = {"image": "image", "text": "tokens"}
        known = sorted({*modalities(data), *(name for name, key in raw.items() if key in data[ITEM])})
        wanted = None if self.modality is None else [self.modality]
        for name in choose_modalities(wanted, known, ITEM):
            usable = _usable(data, name)
            has = usable.nonzero().view(-1)
            generator = torch.Generator().manual_seed(derive_seed(self.seed, *name.encode()))
            order = torch.randperm(has.numel(), generator=generator).to(has.device)
            dropped = has[order[: round(self.rate * has.numel())]]
            mask = usable.clone()
            mask[dropped] = False
            if feature_key(name) in data[ITEM]:
                data[ITEM][feature_key(name)] = data[ITEM][feature_key(name)] * mask.unsqueeze(1)
            if not mask.all():
                data[ITEM][mask_key(name)] = mask
            if name == "image" and "image" in data[ITEM]:
                data[ITEM].image = data[ITEM].image * mask.view(-1, 1, 1, 1)
            if name == "text" and "tokens" in data[ITEM] and not mask.all():
                data[ITEM].tokens = data[ITEM].tokens * mask.unsqueeze(1)
                data[ITEM].mask_tokens = (data[ITEM].tokens > 0).any(1)
            for edge_type in (similar(ITEM, name), similar(USER, name)):
                if edge_type in data.edge_types:
                    del data[edge_type]
        return data

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rate={self.rate}, modality={self.modality!r}, seed={self.seed})"


def _usable(data: HeteroData, name: str) -> Tensor:
    """``[num_items]`` bool, which items have a modality: its features, or else a picture or a word."""
    if feature_key(name) in data[ITEM]:
        return read_features(data, ITEM, name)[1]
    if name == "text":
        usable: Tensor = (data[ITEM].tokens > 0).any(1)
        return usable
    image = data[ITEM].image
    there = torch.ones(image.size(0), dtype=torch.bool, device=image.device)
    usable = data[ITEM].get(mask_key(name), there)
    return usable
