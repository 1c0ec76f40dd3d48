"""What the equations of several papers share, in NumPy and in dense matrices, for graphs of a few nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import similar
from pyg_mmrec.utils import modality_masks


def numbers(parameter: Tensor) -> np.ndarray:
    """What a tensor holds."""
    return parameter.detach().numpy()


def linear(lin: Any, x: np.ndarray) -> np.ndarray:
    """x W + b, without b where the layer has none."""
    return x @ numbers(lin.weight).T + (0 if lin.bias is None else numbers(lin.bias))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length one; zeros stay zeros."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def adjacency(edge_index: Tensor, num_users: int = 40, num_items: int = 30) -> np.ndarray:
    """``[num_users, num_items]`` 1 / sqrt(|N_u| |N_i|) where u has interacted with i."""
    a = np.zeros((num_users, num_items))
    for u, i in edge_index.t().tolist():
        a[u, i] = 1
    return a / np.sqrt(np.maximum(a.sum(1, keepdims=True), 1)) / np.sqrt(np.maximum(a.sum(0), 1))


def light_gcn(a: np.ndarray, user: np.ndarray, item: np.ndarray, num_layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Users and items, averaged over the layers of LightGCN."""
    users, items = [user], [item]
    for _ in range(num_layers):
        users, items = [*users, a @ items[-1]], [*items, a.T @ users[-1]]
    return np.mean(users, axis=0), np.mean(items, axis=0)


def item_graph(data: HeteroData, name: str) -> np.ndarray:
    """``[num_items, num_items]`` weights of a modality's item graph, by centre and neighbour."""
    num_items, graph = data["item"].num_nodes, data[similar("item", name)]
    s = np.zeros((num_items, num_items))
    for (neighbor, centre), weight in zip(graph.edge_index.t().tolist(), graph.edge_weight.tolist(), strict=True):
        s[centre, neighbor] += weight
    return s


def projected(data: HeteroData, model: Any) -> dict[str, np.ndarray]:
    """Each modality's projected features, zeros for items that lack it."""
    masks = modality_masks(data, list(model.in_channels))
    out = {name: linear(lin, data["item"][f"x_{name}"].numpy()) for name, lin in model.projection.lins.items()}
    return {name: x * masks[name].numpy()[:, None] if name in masks else x for name, x in out.items()}


def info_nce(anchor: np.ndarray, positive: np.ndarray, temperature: float) -> float:
    """Mean over the anchors of -log of their own positive's share among all positives, by cosine."""
    logits = unit(anchor) @ unit(positive).T / temperature
    return float(np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits)))
