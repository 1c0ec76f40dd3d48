"""VBPR of this package and Cornac: an epoch of training, and the evaluation of all users."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from measure import seconds
from peers_data import Workload, features


def our_epoch(work: Workload) -> float:
    """An epoch by this package's loader and model."""
    from speed import epoch

    model, data = _ours(work)
    return epoch(model, data, work.sizes.repeats, work.sizes.batch_size)


def our_evaluation(work: Workload) -> float:
    """Recall and NDCG of all users by this package's evaluator."""
    from pyg_mmrec.evaluation import Evaluator

    model, data = _ours(work, held_out=True)
    evaluator = Evaluator([f"recall@{work.sizes.k}", f"ndcg@{work.sizes.k}"])
    return seconds(lambda: evaluator(model, data), work.sizes.repeats)


def cornac_epoch(work: Workload) -> float:
    """An epoch within Cornac's ``fit``, from asking for its first batch to the step on its last."""
    train = _cornac_data(work, *work.train, images=True)
    draw, times = train.uij_iter, []

    def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
        start = time.perf_counter()
        yield from draw(*args, **kwargs)
        times.append(time.perf_counter() - start)

    train.uij_iter = timed
    _cornac_model(work, n_epochs=1 + work.sizes.repeats, batch_size=work.sizes.batch_size).fit(train)
    return statistics.median(times[1:])


def cornac_evaluation(work: Workload) -> float:
    """Recall and NDCG of all users by Cornac's ``ranking_eval``."""
    from cornac.eval_methods.base_method import ranking_eval
    from cornac.metrics import NDCG, Recall

    train, test = _cornac_data(work, *work.train, images=True), _cornac_data(work, *work.held_out_edges, images=False)
    model = _cornac_model(work, trainable=False).fit(train)
    metrics = [Recall(k=work.sizes.k), NDCG(k=work.sizes.k)]
    return seconds(lambda: ranking_eval(model, metrics, train, test, exclude_unknowns=False), work.sizes.repeats)


def _ours(work: Workload, *, held_out: bool = False):  # type: ignore[no-untyped-def]
    import torch

    from pyg_mmrec.models import VBPR

    data = work.hetero(held_out=held_out)
    data["item"].x_image = torch.from_numpy(features(work.sizes.num_items, work.sizes.item_channels))
    return VBPR.from_data(data, hidden_channels=work.sizes.hidden_channels), data


def _cornac_data(work: Workload, user: np.ndarray, item: np.ndarray, *, images: bool):  # type: ignore[no-untyped-def]
    from cornac.data import Dataset, ImageModality

    ids = [{index: index for index in range(count)} for count in (work.sizes.num_users, work.sizes.num_items)]
    data = Dataset(work.sizes.num_users, work.sizes.num_items, *ids, (user, item, np.ones(len(user))), seed=0)
    if images:
        x = features(work.sizes.num_items, work.sizes.item_channels)
        data.add_modalities(item_image=ImageModality(features=x))
    return data


def _cornac_model(work: Workload, **arguments: Any):  # type: ignore[no-untyped-def]
    from cornac.models import VBPR

    return VBPR(k=work.sizes.hidden_channels, k2=work.sizes.hidden_channels, verbose=False, **arguments)
