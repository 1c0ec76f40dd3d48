"""Evidence of intents: whether they are the planted ones, and whether they serve those that are rare in a history."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.diagnostics._plots import write_tables
from pyg_mmrec.metrics import intent_recovery
from pyg_mmrec.models import Recommender
from pyg_mmrec.typing import INTERACTS, ITEM, USER
from pyg_mmrec.utils import interactions, num_users_items
from pyg_mmrec.utils.modes import evaluating


class IntentReport(NamedTuple):
    """The tables of :func:`intent_report`."""

    #: ``intents`` (``'model'``, ``'k-means on the truth'``, ``'model, users shuffled'``), ``nmi``, ``accuracy``
    recovery: pd.DataFrame
    #: ``intent`` (``'dominant'``, ``'other'``), ``hits@20``, ``num_interactions``
    shift: pd.DataFrame

    def save(self, folder: str | Path) -> None:
        """Writes each table as ``<name>.csv``."""
        write_tables(folder, self._asdict())


def intent_report(
    model: Recommender,
    data: HeteroData,
    heldout: HeteroData,
    *,
    min_share: float = 0.6,
    folder: str | Path | None = None,
    seed: int = 0,
) -> IntentReport:
    """Compares a model's intents with those that users were drawn from.

    Made for "Multimodal-aware Multi-intention Learning for Recommendation", and works for every model whose
    :class:`~pyg_mmrec.models.Representations` fill ``intent``, on :class:`~pyg_mmrec.datasets.AttributeShop`.

    - **recovery**: :func:`~pyg_mmrec.metrics.intent_recovery` of each user's likeliest intent, over the users whose
      dominant planted intent has at least ``min_share``; beside it what k-means makes of the planted probabilities of
      all items (their square roots), with as many clusters as the model has intents, and the model's with the users
      shuffled.
    - **shift**: the share of held-out interactions among a user's first 20 recommendations, by whether they come from
      the intent that dominates the user's train interactions or from another: the paper's intent overfitting.

    Args:
        model: The model; it is read in evaluation mode.
        data: The whole graph, with the planted truth.
        heldout: A view with held-out interactions.
        min_share: Of the dominant planted intent (default: 0.6).
        folder: Where to write the tables; nothing is written without it.
        seed: Of k-means and of the shuffle.

    Raises:
        ValueError: If the data carry no planted truth, or the model has no intents, or the view is of another graph.
    """
    if "dominant_intent" not in data[USER] or "intent" not in data[INTERACTS]:
        raise ValueError("the data carry no planted truth, data['user'].dominant_intent and the interactions' intent")
    with torch.no_grad(), evaluating(model):
        intent = model(heldout).intent
    if intent is None:
        raise ValueError(f"{type(model).__name__} has no intents to compare with the planted ones")
    clear, planted = data[USER].dominant_share >= min_share, data[USER].dominant_intent
    likely = (data[USER].preference @ data[ITEM].affinity.t()).sqrt().numpy()  # Hellinger's distance, once squared
    clusters = KMeans(intent.size(1), n_init=10, random_state=seed).fit_predict(likely)
    order = torch.randperm(int(clear.sum()), generator=torch.Generator().manual_seed(seed))
    found = {
        "model": intent[clear],
        "k-means on the truth": torch.from_numpy(clusters).long()[clear],
        "model, users shuffled": intent[clear][order],
    }
    rows = [{"intents": name, **intent_recovery(groups, planted[clear])} for name, groups in found.items()]
    report = IntentReport(pd.DataFrame(rows), _shift(model, data, heldout))
    if folder is not None:
        report.save(folder)
    return report


def _shift(model: Recommender, data: HeteroData, heldout: HeteroData, k: int = 20) -> pd.DataFrame:
    """Hits of held-out interactions by whether their intent dominates the train interactions of their user."""
    train, held = interactions(heldout), heldout[INTERACTS].edge_label_index
    of_train, of_held = (_planted(data, edges) for edges in (train, held))
    known = of_train >= 0
    num_intents = int(data[INTERACTS].intent.max()) + 1
    counts = torch.zeros(model.num_users, num_intents, dtype=torch.long)
    counts.index_put_((train[0][known], of_train[known]), torch.ones(()).long(), accumulate=True)
    user, place = held[0].unique(return_inverse=True)
    items = model.recommend(heldout, user, k)[1]
    hit = (items[place] == held[1].unsqueeze(1)).any(1)
    dominant = of_held == counts.argmax(1)[held[0]]
    seen = (of_held >= 0) & (counts[held[0]].sum(1) > 0)
    rows = []
    for name, group in (("dominant", dominant & seen), ("other", ~dominant & seen)):
        share = float(hit[group].double().mean()) if group.any() else float("nan")
        rows.append({"intent": name, f"hits@{k}": share, "num_interactions": int(group.sum())})
    return pd.DataFrame(rows)


def _planted(data: HeteroData, edges: Tensor) -> Tensor:
    """The intents that some interactions were drawn from."""
    user, item = interactions(data)
    width = num_users_items(data)[1]
    key, order = (user * width + item).sort()
    wanted = edges[0] * width + edges[1]
    place = torch.searchsorted(key, wanted).clamp_max(key.numel() - 1)
    if not torch.equal(key[place], wanted):
        raise ValueError("'heldout' has interactions that 'data' lacks: give the graph that it was split from")
    intent: Tensor = data[INTERACTS].intent[order[place]]
    return intent
