"""Every argument of every model, transform, data set, loader and evaluator, with values of other kinds and ranges."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec import datasets, models, transforms
from pyg_mmrec.datasets import AmazonReviews, AttributeShop, MMRecDataset, PosterMovies, TableDataset, from_tables
from pyg_mmrec.evaluation import Evaluator, SampledEvaluator
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import BPRMF, FREEDOM, SEA, VBPR, DRepMRec, Recommender, WithSEA
from pyg_mmrec.utils import knn, rank_items

NAN, INF, HUGE = float("nan"), float("inf"), 2**70

#: By kind of argument, what is no value of that kind in any range.
WRONG: dict[str, list[Any]] = {
    "int": ["3", -1, 2.5, 64.0, NAN, INF, True, HUGE, np.int64(3), [3]],
    "float": ["0.1", -1.0, NAN, INF, -INF, True, 1j, np.float32(0.5), torch.tensor(0.5)],
    "bool": ["yes", 1, 0.0],
    "choice": ["nonsense", 3, True],
    "names": ["image", 3, [3], [None]],
    "sizes": ["x", 3, [1], {1: 1}, {"image": "1"}, {"image": NAN}, {"image": 0}, {"image": -1}, {"image": 2.5}],
    "weights": ["x", 3, [1], {1: 1}, {"image": "1"}, {"image": NAN}, {"image": INF}, {"image": -1}, {"image": True}],
    "path": [3, True, "", "a\0b", b"a"],
    "function": [3, "x"],
}

#: Kinds of the arguments whose annotation does not tell.
SPECIAL = {"base": "choice", "edge_types": "names", "base_args": "arguments", "name": "name", "separator": "separator"}
SPECIAL |= {"columns": "columns", "root": "path", "cache_dir": "path", "transform": "function"}
SPECIAL |= {"vectors": "path", "interactions": "path", "items": "path", "users": "path", "image_root": "path"}
SPECIAL |= {"words": "arguments", "features": "features", "min_rating": "number", "modality": "word"}
SPECIAL |= {"text_encoder": "encoder", "image_encoder": "encoder"}
SPECIAL |= {
    "pre_transform": "function",
    "in_channels": "sizes",
    "graph_weights": "weights",
    "modality_weights": "weights",
}
WRONG |= {"arguments": ["x", 3, [1], {1: 1}, {"hiden": 3}], "name": [3, None, "", "..", "a/b", b"toy", "a\0"]}
WRONG |= {"separator": [3, True, "", "ab", b","], "columns": ["x", 3, ["user"], {"user": 3}, {3: "a"}, {"usr": "a"}]}
SPECIAL |= {"url": "url", "checksums": "checksums"}
WRONG |= {"url": [3, True, "", "host/folder", "ftp://host", "file:///host", "http://", "http://a b", b"http://host"]}
WRONG |= {"checksums": ["x", 3, ["x"], {1: "0"}, {"meta_Toy.json.gz": 3}, {"meta_Toy.json.gz": "0"}, {"a": "0" * 64}]}
WRONG |= {
    "features": ["x", 3, [1], {1: 3}, {"image": 3}],
    "number": ["4", NAN, INF, True, 1j],
    "encoder": [3, True, "", b"a", "a\0"],
    "word": [3, "", True, ["a"]],
}


def kind(name: str, annotation: str) -> str:
    if name in SPECIAL:
        return SPECIAL[name]
    if "Sequence" in annotation or "list" in annotation:
        return "names"
    found = re.match(r"bool|int|float", annotation)
    return found[0] if found else "choice"


def bad_values(name: str, parameter: inspect.Parameter) -> list[Any]:
    values = WRONG[kind(name, str(parameter.annotation))]
    required = "None" not in str(parameter.annotation) and parameter.default is not None
    return [*values, None] if required else values


def models_with_sizes() -> Iterator[tuple[type, dict[str, Any]]]:
    for name in models.__all__:
        cls = getattr(models, name)
        if isinstance(cls, type) and issubclass(cls, Recommender) and not inspect.isabstract(cls):
            yield cls, cls.sizes(4, 5, {"image": 4, "text": 4})


CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    **{cls.__name__: (cls, base) for cls, base in models_with_sizes()},
    **{name: (getattr(transforms, name), {}) for name in transforms.__all__},
    "DropModality": (transforms.DropModality, {"rate": 0.5}),
    "WeakLabels": (transforms.WeakLabels, {"share": 0.5}),
    "WordTokens": (transforms.WordTokens, {"texts": ["a"]}),
    "Evaluator": (Evaluator, {}),
    "SampledEvaluator": (SampledEvaluator, {}),
    "AmazonReviews": (AmazonReviews, {"root": "unused", "name": "Toy"}),
    "AttributeShop": (AttributeShop, {"root": "unused", "num_users": 30, "num_items": 60}),
    "MMRecDataset": (MMRecDataset, {"root": "unused", "name": "toy"}),
    "PosterMovies": (PosterMovies, {"root": "unused", "name": "toy"}),
    "TableDataset": (TableDataset, {"interactions": "toy/toy.inter", "items": "toy/toy.inter"}),
    "from_tables": (from_tables, {"interactions": "toy/toy.inter", "items": "toy/toy.inter"}),
}
ARGUMENTS = [(label, name) for label, (call, _) in CALLS.items() for name in inspect.signature(call).parameters]


def test_nothing_is_forgotten() -> None:
    assert {*transforms.__all__, *datasets.__all__} <= CALLS.keys()
    assert len(ARGUMENTS) > 80


@pytest.mark.parametrize(("label", "name"), ARGUMENTS)
def test_bad_values_are_refused_in_one_line_that_names_the_argument(
    label: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    call, base = CALLS[label]
    if label in ("MMRecDataset", "PosterMovies"):
        base = {**base, "root": str(toy.parent)}
    for value in bad_values(name, inspect.signature(call).parameters[name]):
        if label == "AttributeShop" and (isinstance(value, np.generic) or (name == "seed" and value is HUGE)):
            continue  # it turns NumPy's scalars into Python's, and any seed will do
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            call(**{**base, name: value})
        message = str(caught.value)
        assert name in message or (name == "metrics" and "kind@k" in message), (value, message)
        assert "\n" not in message, (value, message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy"]  # nothing was written


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BPRMF(0, 3), "'num_users' must be positive (got 0)"),
        (lambda: BPRMF(3, 3, hidden_channels=64.0), "'hidden_channels' must be an int (got 64.0)"),  # type: ignore[arg-type]
        (lambda: BPRMF(3, 3, hidden_channels=0), "'hidden_channels' must be positive (got 0)"),
        (lambda: BPRMF(3, 3, l2_weight=NAN), "'l2_weight' must be finite (got nan)"),
        (lambda: BPRMF(3, 3, l2_form="cube"), "'l2_form' must be 'squared' or 'norm' (got 'cube')"),  # type: ignore[arg-type]
        (lambda: VBPR(3, 3, {"image": 0}), "'in_channels.image' must be positive (got 0)"),
        (lambda: VBPR(3, 3, {}), "'in_channels' names no modality: VBPR needs item features x_<modality>"),
        (lambda: FREEDOM(3, 3, {"a": 2}, num_item_layers=-1), "'num_item_layers' must not be negative (got -1)"),
        (lambda: FREEDOM(3, 3, {"a": 2}, pruning=1.0), "'pruning' must lie in [0, 1) (got 1.0)"),
        (lambda: SEA(3, 3, {"a": 2}), "alignment needs two modalities or more (got a): set 'alignment' to None"),
        (lambda: WithSEA(3, 3, {"a": 2}), "alignment needs two modalities or more (got a): set 'alignment' to None"),
        (lambda: SEA(3, 3, {}), "'in_channels' names no modality: SEA needs item features x_<modality>"),
        (
            lambda: WithSEA(3, 3, {"a": 2, "b": 2}, base="VPBR"),
            "'base': there is no model 'VPBR', did you mean 'VBPR'?",
        ),
        (
            lambda: WithSEA(3, 3, {"a": 2, "b": 2}, base="Zzz"),
            "'base': there is no model 'Zzz', known are ABAE, BM3, BPRMF",
        ),
        (lambda: DRepMRec(3, 3, {}), "'in_channels' names no modality: DRepMRec needs item features x_<modality>"),
        (lambda: transforms.ModalKNNGraph(k=0), "'k' must be positive (got 0)"),
        (lambda: transforms.TemporalSplit(val=INF), "'val' must be finite (got inf)"),
        (lambda: Evaluator("recall@20"), "'metrics' must be a list of names, ['recall@20'] (got 'recall@20')"),  # type: ignore[arg-type]
        (lambda: Evaluator(["recall@0"]), "with k at least 1 (got 'recall@0')"),
        (lambda: Evaluator(["recal@5"]), "unknown metric 'recal@5': did you mean 'recall@5'"),
    ],
)
def test_messages(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


@pytest.mark.parametrize("name", ["batch_size", "seed", "rank", "world_size"])
def test_arguments_of_the_loader(whole: HeteroData, name: str) -> None:
    for value in [*WRONG["int"], None]:
        with pytest.raises(ValueError, match=f"'{name}' must"):
            TripletLoader(whole, **{name: value})
    with pytest.raises(ValueError, match=r"^'rank' must lie in 0..1, below 'world_size' \(got 2\)$"):
        TripletLoader(whole, rank=2, world_size=2)


@pytest.mark.parametrize("value", [*WRONG["int"], None, 0, 11])
def test_k_of_searches(value: Any) -> None:
    with pytest.raises(ValueError, match="'k' must"):
        knn(torch.rand(10, 3), value)
    with pytest.raises(ValueError, match="'k' must"):
        rank_items(lambda user, item: torch.rand(len(user), len(item)), torch.arange(2), value, 10)


@pytest.mark.parametrize("value", [*WRONG["int"], 0])
def test_block_sizes(value: Any) -> None:
    with pytest.raises(ValueError, match="'block_size' must"):
        knn(torch.rand(10, 3), 2, block_size=value)
    with pytest.raises(ValueError, match="'block_size' must"):
        Evaluator(block_size=value)


@pytest.mark.parametrize("num_items", [20, 40])
def test_a_shop_item_that_is_not_there(tmp_path: Path, num_items: int) -> None:
    shop = AttributeShop(tmp_path, 5, num_items, interactions_per_user=5)
    for item in ("1", 1.5, True, None, -1, num_items):
        with pytest.raises(ValueError, match="'item' must"):
            shop.text(item)  # type: ignore[arg-type]


def test_a_shop_in_a_place_that_cannot_be_written_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")

    def draw(*_: Any) -> None:
        raise AssertionError("it was drawn")

    monkeypatch.setattr("pyg_mmrec.datasets.attribute_shop.generate", draw)
    with pytest.raises(OSError, match="file"):
        AttributeShop(tmp_path / "file" / "shop")
