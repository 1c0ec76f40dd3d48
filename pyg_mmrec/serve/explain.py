"""Why an item is recommended to a user."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyg_mmrec.models import MDR, MMIL
from pyg_mmrec.retrieval import Retriever

#: Items of the history that are named, and parts such as attributes.
NUM_REASONS = 5


@torch.no_grad()
def explain(retriever: Retriever, history: Tensor, user: int, item: int) -> dict[str, Any]:
    """What speaks for an item, in a form that all models share.

    :class:`~pyg_mmrec.models.MDR` says what attributes of the item and of the history gave to its score, and
    :class:`~pyg_mmrec.models.MMIL` how likely the user's intents are, what modalities weigh, and which items carry the
    likeliest intent. For every other model, each item of the history has the share of its inner product with the item
    in the sum of the positive ones: which of them are near it, not how the model computes.

    Args:
        retriever: Has the model, its data and its representations.
        history: ``[n]`` items of the user.
        user: The user's node.
        item: The item's node.

    Returns:
        ``kind`` (``'attributes'``, ``'intents'`` or ``'history'``); ``parts``, named numbers, largest first; ``items``
        of the history as ``(node, share)``, largest first.

    Example:
        >>> from torch_geometric.data import HeteroData
        >>> from pyg_mmrec.models import Popularity
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 2, 3
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 1, 1], [2, 2, 0]])
        >>> retriever = Retriever(Popularity.from_data(data), data)
        >>> [(item, round(share, 2)) for item, share in explain(retriever, torch.tensor([0, 2]), 1, 2)['items']]
        [(2, 0.67), (0, 0.33)]
    """
    model = retriever.model
    if isinstance(model, MDR):
        told = model.explain(retriever.data, user, item)
        parts = {name: told.candidate[name] + float(told.history[name].sum()) for name in told.candidate}
        by_item = sum(told.history.values(), torch.zeros(told.item.numel()))
        return {"kind": "attributes", "parts": _largest(parts), "items": _shares(told.item, by_item)}
    if isinstance(model, MMIL) and model.num_intents and model.modal_awareness:
        why = model.explain(retriever.data, user)
        first = int(why.intent.argmax())
        parts = {f"intent {number + 1}": share for number, share in enumerate(why.intent.tolist())}
        modalities = {f"modality {name}": weight for name, weight in why.modality.items()}
        named = [*_largest(parts)[:NUM_REASONS], *_largest(modalities)]
        return {"kind": "intents", "parts": named, "items": _shares(why.item, why.carried[first])}
    every = retriever.representations.item
    return {"kind": "history", "parts": [], "items": _shares(history, every[history] @ every[item])}


def _largest(parts: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(parts.items(), key=lambda part: -part[1])


def _shares(item: Tensor, value: Tensor) -> list[tuple[int, float]]:
    """Items with the shares of their values in the sum of the positive ones."""
    value = value.float().clamp_min(0).cpu()
    total = float(value.sum())
    if total == 0:
        return []
    top = value.topk(min(NUM_REASONS, value.numel()))
    found = zip(item.cpu()[top.indices].tolist(), (top.values / total).tolist(), strict=True)
    return [(int(node), share) for node, share in found if share > 0]
