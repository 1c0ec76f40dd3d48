"""The nearest rows to each row by cosine similarity, itself among them: this package, the dense way and libraries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from measure import seconds
from peers_data import Workload, features

K = 10
Search = Callable[[np.ndarray, int], np.ndarray]


def ours(x: np.ndarray, k: int) -> np.ndarray:
    """Blocks of products."""
    import torch

    from pyg_mmrec.utils import knn

    return knn(torch.from_numpy(x), k)[0].numpy()


def dense(x: np.ndarray, k: int) -> np.ndarray:
    """One product of all rows with all, as published code does it."""
    import torch

    unit = torch.nn.functional.normalize(torch.from_numpy(x))
    return (unit @ unit.t()).topk(k).indices.numpy()


def sklearn(x: np.ndarray, k: int) -> np.ndarray:
    """scikit-learn's brute force, its only way for cosines."""
    from sklearn.neighbors import NearestNeighbors

    found: np.ndarray = NearestNeighbors(n_neighbors=k, metric="cosine").fit(x).kneighbors(x, return_distance=False)
    return found


def faiss(x: np.ndarray, k: int) -> np.ndarray:
    """The exact index of inner products."""
    import faiss

    unit = x.copy()
    faiss.normalize_L2(unit)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    found: np.ndarray = index.search(unit, k)[1]
    return found


def search(work: Workload, method: Search, rows: int, channels: int) -> float:
    """Seconds of a search among random rows; many rows are searched three times at most."""
    x = features(rows, channels)
    return seconds(lambda: method(x, K), min(work.sizes.repeats, 3) if rows > 10_000 else work.sizes.repeats)
