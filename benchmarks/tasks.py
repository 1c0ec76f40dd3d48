"""The data sets of accuracy.py, and how models are graded on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.datasets import AttributeShop, MMRecDataset, PosterMovies
from pyg_mmrec.evaluation import BaseEvaluator, Evaluator, SampledEvaluator
from pyg_mmrec.transforms import ModalKNNGraph, WeakLabels, WordTokens
from pyg_mmrec.typing import ITEM

#: Of the movies' users, drawn at random, and of items with a label, where models read raw content.
NUM_USERS, LABELLED = 1000, 0.05


class Task(NamedTuple):
    """A data set, what models are graded by while training, and the metrics that are compared."""

    data: HeteroData
    evaluator: BaseEvaluator
    monitor: str
    metrics: list[str]
    results: str  #: Name of the files of results: what is ranked among all items is kept apart from what is sampled


def load(root: str, name: str) -> Task:
    """A data set in the published files by its name, or the built-in shop as ``'shop'``.

    ``'office'`` with its texts and ``'ml1m'`` with posters and plots are there for models that read raw content: their
    scores come from pairs, so that they are graded on sampled candidates.
    """
    if name == "office":
        return _sampled(_office(root))
    if name == "ml1m":
        data = PosterMovies(root, num_users=NUM_USERS, stop_words="english")[0]
        data[ITEM].attr_genre = data[ITEM].category
        return _sampled(WeakLabels(LABELLED)(data))
    data = ModalKNNGraph(k=10)(AttributeShop(root)[0]) if name == "shop" else MMRecDataset(root, name)[0]
    metrics = ["recall@10", "recall@20", "ndcg@10", "ndcg@20"]
    return Task(data, Evaluator(block_size=256), "recall@20", metrics, "accuracy")


def _sampled(data: HeteroData) -> Task:
    return Task(data, SampledEvaluator(["gauc", "ndcg@10"]), "gauc", ["gauc", "ndcg@10", "full_recall@20"], "sampled")


def _office(root: str) -> HeteroData:
    """Titles, brands and descriptions as words; categories, to their second level, as field and as weak labels."""
    items = json.loads(Path(root, "office", "item_text.json").read_text(encoding="utf-8"))
    texts = [f"{item['title']} {item['brand']} {item['description']}" for item in items]
    data = WordTokens(texts, stop_words="english")(MMRecDataset(root, "office")[0])
    names = [", ".join(item["categories"].split(", ")[:2]) for item in items]
    number = {name: index for index, name in enumerate(sorted(set(names)))}
    data[ITEM].category = torch.tensor([number[name] for name in names])
    data[ITEM].attr_category = data[ITEM].category
    return WeakLabels(LABELLED)(data)
