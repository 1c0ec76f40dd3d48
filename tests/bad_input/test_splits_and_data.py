"""Graphs that do not hold together, splits that leave nothing, and graphs that are not a model's."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec import models
from pyg_mmrec.benchmark import prepare
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.loader import TripletLoader
from pyg_mmrec.models import (
    ABAE,
    BPRMF,
    FREEDOM,
    LATTICE,
    MDR,
    MGCN,
    MICRO,
    MMIL,
    SEA,
    DINPlus,
    DRepMRec,
    DualGNN,
    Popularity,
    Recommender,
    WithSEA,
)
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import LabelSplit, ModalKNNGraph, RandomSplit, UserModalMean
from pyg_mmrec.typing import COOCCURS, INTERACTS, similar
from tests.models.test_meta import EXPORTED

Views = tuple[HeteroData, HeteroData, HeteroData]
MODELS: list[type[Recommender]] = [getattr(models, name) for name in EXPORTED]
WITH_FEATURES = [cls for cls in MODELS if "in_channels" in inspect.signature(cls).parameters]
GRAPH = similar("item", "image")
EVALUATOR = Evaluator(["recall@3"])


SMALL: dict[type[Recommender], dict[str, Any]] = {
    SEA: {"estimator_steps": 2},
    WithSEA: {"estimator_steps": 2},
    LATTICE: {"num_neighbors": 3},
    MICRO: {"num_neighbors": 3},
    ABAE: {"num_parts": 2},
    DINPlus: {"num_parts": 2},
    MDR: {"layout": {"modalities": {"block": ["image", "text"]}, "num_black_box": 1}},
}


def build(cls: type[Recommender], data: HeteroData) -> Recommender:
    return cls.from_data(data, **SMALL.get(cls, {}))


def fit(model: Recommender, views: Views) -> dict[str, float]:
    trainer = Trainer(
        max_epochs=1, batch_size=16, evaluator=EVALUATOR, monitor="recall@3", accelerator="cpu", progress=False
    )
    return trainer.fit(model, *views).test


def with_entry(edges: Tensor, row: int, value: int) -> Tensor:
    edges = edges.clone()
    edges[row, 0] = value
    return edges


def change(views: Views, store: Any, key: str, new: Any) -> Views:
    """The views with a key of a store replaced, or without it for None."""
    changed = [copy.copy(view) for view in views]
    for view in changed:
        value = new(view[store].get(key)) if callable(new) else new
        if value is None:
            del view[store][key]
        else:
            view[store][key] = value
    return changed[0], changed[1], changed[2]


EDGES, NODES = "data['user', 'interacts', 'item'].edge_index", "data['item', 'similar_image', 'item'].edge_index"
SHAPE = " must be an int64 tensor of shape [2, num_edges] (got "
BROKEN: dict[str, tuple[Any, str, Any, str]] = {
    "item 99": (INTERACTS, "edge_index", lambda e: with_entry(e, 1, 99), f"{EDGES} names items outside 0..9"),
    "item -1": (INTERACTS, "edge_index", lambda e: with_entry(e, 1, -1), f"{EDGES} names items outside 0..9"),
    "user 99": (INTERACTS, "edge_index", lambda e: with_entry(e, 0, 99), f"{EDGES} names users outside 0..11"),
    "32 bits": (INTERACTS, "edge_index", lambda e: e.int(), f"{EDGES}{SHAPE}torch.int32"),
    "decimals": (INTERACTS, "edge_index", lambda e: e.float(), f"{EDGES}{SHAPE}torch.float32"),
    "one row": (INTERACTS, "edge_index", lambda e: e[0], f"{EDGES}{SHAPE}"),
    "transposed": (INTERACTS, "edge_index", lambda e: e.t().contiguous(), f"{EDGES}{SHAPE}"),
    "no interactions": (INTERACTS, "edge_index", None, "the data has no ('user', 'interacts', 'item') edge_index"),
    "held-out item 99": (INTERACTS, "edge_label_index", lambda e: with_entry(e, 1, 99), "edge_label_index names items"),
    "held-out user 99": (INTERACTS, "edge_label_index", lambda e: with_entry(e, 0, 99), "edge_label_index names users"),
    "nothing held out": (INTERACTS, "edge_label_index", lambda e: e[:, :0], "the data has no "),
    "weights NaN": (INTERACTS, "edge_weight", lambda _: torch.full((3,), torch.nan), "edge_weight of 3 edges is NaN"),
    "weights missing": (INTERACTS, "edge_weight", lambda _: torch.ones(3), "'edge_weight' must have shape"),
    "neighbour 99": (GRAPH, "edge_index", lambda e: with_entry(e, 0, 99), f"{NODES} names items outside 0..9"),
    "neighbours gone": (GRAPH, "edge_index", None, f"{NODES}{SHAPE}NoneType"),
    "neighbours infinite": (
        GRAPH,
        "edge_weight",
        lambda w: w / 0,
        "'item'].edge_weight of 30 edges is NaN or infinite",
    ),
    "features short": ("item", "x_image", lambda x: x[:5], "x_image must be a float tensor of shape [10, channels]"),
    "features long": ("item", "x_image", lambda x: x.repeat(2, 1), "x_image must be a float tensor of shape [10, "),
    "features 1-d": ("item", "x_image", lambda x: x[:, 0], "x_image must be a float tensor of shape [10, channels]"),
    "features 3-d": ("item", "x_image", lambda x: x[None], "(got [1, 10, 6], torch.float32)"),
    "features 0 wide": ("item", "x_image", lambda x: x[:, :0], "(got [10, 0], torch.float32)"),
    "features int": ("item", "x_image", lambda x: x.long(), "(got [10, 6], torch.int64)"),
    "features double": (
        "item",
        "x_image",
        lambda x: x.double(),
        "x_image is float64 but the model torch.float32: store it as",
    ),
    "features NumPy": ("item", "x_image", lambda x: x.numpy(), "(got ndarray)"),
    "mask int": (
        "item",
        "mask_image",
        lambda _: torch.ones(10).long(),
        "mask_image must be a bool tensor of shape [10]",
    ),
    "mask short": ("item", "mask_image", lambda _: torch.ones(4).bool(), "mask_image must be a bool tensor of shape"),
    "num_nodes gone": ("user", "num_nodes", None, "data['user'].num_nodes is not set"),
    "num_nodes 12.0": ("user", "num_nodes", 12.0, "data['user'].num_nodes must be an int (got 12.0)"),
    "num_nodes 8": ("item", "num_nodes", 8, "outside 0..7"),
    "pointers short": ("user", "seen_ptr", lambda p: p[:4], "data['user'].seen_ptr must be 13 pointers"),
    "pointers alone": ("user", "seen_item", None, "data['user'].seen_ptr must be 13 pointers"),
    "seen item 99": ("user", "seen_item", lambda s: s * 0 + 99, "seen_item must lie in 0..9 (got 99..99)"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_graph_is_refused_in_one_line(views: Views, case: str) -> None:
    store, key, new, message = BROKEN[case]
    model = FREEDOM.from_data(views[0])
    broken = change(views, store, key, new)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        fit(FREEDOM.from_data(broken[0]) if store == "item" and key != "num_nodes" else model, broken)
    found = str(caught.value)
    assert "\n" not in found
    assert message in found or (case == "num_nodes 8" and "FREEDOM was built for 12 and 10" in found), found


@pytest.mark.parametrize("cls", MODELS)
def test_a_graph_of_another_size_is_refused_before_the_first_step(cls: type[Recommender], views: Views) -> None:
    model = build(cls, views[0])
    before = copy.deepcopy(model.state_dict())
    other = copy.copy(views[0])
    other["user"].num_nodes = 13
    other["user"].seen_ptr = torch.cat([other["user"].seen_ptr, other["user"].seen_ptr[-1:]])
    calls: list[Callable[[], Any]] = [
        lambda: model(other),
        lambda: EVALUATOR(model, other),
        lambda: model.recommend(other, torch.tensor([0]), 3),
        lambda: fit(model, (other, other, other)),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match=r"^the data has 13 users and 10 items but \w+ was built for 12 and 10: pass"
        ):
            call()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("cls", WITH_FEATURES)
def test_no_modality_where_one_is_needed(cls: type[Recommender], views: Views) -> None:
    for name in ("image", "text"):
        del views[0]["item"][f"x_{name}"]
    with pytest.raises(ValueError, match="'in_channels' names no modality"):
        build(cls, views[0])


@pytest.mark.parametrize("cls", [SEA, WithSEA])
def test_one_modality_where_two_are_needed(cls: type[Recommender], views: Views) -> None:
    del views[0]["item"].x_image
    with pytest.raises(ValueError, match=r"needs two modalities or more \(got text\): set 'alignment' to None"):
        build(cls, views[0])


@pytest.mark.parametrize("cls", [FREEDOM, MGCN, LATTICE, MICRO, MMIL, SEA, DRepMRec])
def test_item_graphs_that_are_missing(cls: type[Recommender], views: Views) -> None:
    for name in ("image", "text"):
        del views[0][similar("item", name)]
    with pytest.raises(ValueError, match=r"the data has no item-item graph: apply .*ModalKNNGraph to it first"):
        fit(build(cls, views[0]), views)


def test_a_user_graph_that_is_missing(views: Views) -> None:
    for view in views:
        del view[COOCCURS]
    with pytest.raises(
        ValueError, match=r"the data has no graph of users .*: apply .*UserCooccurrence to the train view"
    ):
        fit(build(DualGNN, views[0]), views)


@pytest.mark.parametrize("cls", WITH_FEATURES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_features_that_are_not_finite_stop_the_training(cls: type[Recommender], views: Views, value: float) -> None:
    broken = change(views, "item", "x_image", lambda x: x * value)
    with pytest.raises((FloatingPointError, ValueError), match=r"check the features|NaN"):
        fit(build(cls, broken[0]), broken)


def test_an_unknown_modality_of_a_transform(whole: HeteroData) -> None:
    with pytest.raises(ValueError, match=r"has no modality 'imge'; it has image, text; did you mean image\?"):
        UserModalMean(modalities=["imge"])(whole)


def test_constant_features_are_named_where_graphs_are_made(whole: HeteroData) -> None:
    whole["item"].x_image[:] = 3.0
    with pytest.warns(UserWarning, match="all items have the same 'image' features: their neighbours mean nothing"):
        ModalKNNGraph(k=3, overwrite=True)(whole)


# Splits --------------------------------------------------------------------------------------------------------------


def labelled(rows: list[tuple[int, int, int]], num_users: int = 6, num_items: int = 8) -> HeteroData:
    """User, item and label of each interaction; features and graphs at random."""
    user, item, label = torch.tensor(rows).t()
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = num_users, num_items
    data[INTERACTS].edge_index, data[INTERACTS].split = torch.stack([user, item]), label
    generator = torch.Generator().manual_seed(0)
    for name in ("image", "text"):
        data["item"][f"x_{name}"] = torch.randn(num_items, 4, generator=generator)
    return ModalKNNGraph(k=3)(data)


GOOD = [(0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 1, 0), (1, 2, 0), (1, 0, 1), (1, 4, 2)]
EMPTY = {
    "train": ([row for row in GOOD if row[2] != 0], "leaves no train interactions"),
    "validation": ([row for row in GOOD if row[2] != 1], "leaves no validation interactions"),
    "test": ([row for row in GOOD if row[2] != 2], "leaves no test interactions"),
    "test of known users": (
        [row for row in GOOD if row[2] != 2] + [(5, 1, 2)],
        "leaves no test interactions of users with train interactions",
    ),
    "train and test at once": ([*GOOD, (0, 0, 2)], "1 user-item pairs are repeats of others; keep one edge of each"),
    "label 3": ([*GOOD, (2, 0, 3)], "'split' must be 0, 1 or 2 everywhere (got 3)"),
}


@pytest.mark.parametrize("case", EMPTY)
def test_a_split_that_cannot_be_graded(case: str) -> None:
    rows, message = EMPTY[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        LabelSplit()(labelled(rows))
    assert message in str(caught.value)


@pytest.mark.parametrize("cls", MODELS)
def test_users_and_items_of_validation_or_test_alone(cls: type[Recommender]) -> None:
    """Item 5 is in validation alone, item 6 in test alone, item 7 nowhere; user 4 in test alone, user 5 nowhere."""
    rows = [*GOOD, (0, 5, 1), (1, 6, 2), (4, 1, 2), (2, 3, 0), (3, 4, 0)]
    views = prepare(labelled(rows), [DRepMRec, DualGNN], LabelSplit(), ModalKNNGraph(k=2))
    assert 4 not in views[2][INTERACTS].edge_label_index[0]  # nothing is known of user 4
    assert 6 in views[2][INTERACTS].edge_label_index[1]  # item 6 is a candidate
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        model = build(cls, views[0])
        result = fit(model, views)
        scores, items = model.recommend(views[0], torch.arange(6), k=8, exclude_seen=False)
    assert all(np.isfinite(value) for value in result.values())
    assert scores.isfinite().all()
    assert sorted(items[4].tolist()) == list(range(8))


@pytest.mark.parametrize("cls", MODELS)
def test_a_view_by_hand_may_ask_for_users_without_train_interactions(cls: type[Recommender]) -> None:
    views = prepare(labelled(GOOD), [DRepMRec, DualGNN], LabelSplit(), ModalKNNGraph(k=2))
    views[2][INTERACTS].edge_label_index = torch.tensor([[0, 5], [3, 7]])
    assert 0 <= EVALUATOR(build(cls, views[0]), views[2])["recall@3"] <= 1


# recommend, Evaluator ------------------------------------------------------------------------------------------------

USERS: dict[str, tuple[Any, str]] = {
    "list": ([0, 1], "int64 of shape [n] (got list)"),
    "number": (3, "int64 of shape [n] (got int)"),
    "nothing": (None, "int64 of shape [n] (got NoneType)"),
    "scalar": (torch.tensor(3), "int64 of shape [n] (got torch.int64, [])"),
    "matrix": (torch.tensor([[0]]), "int64 of shape [n] (got torch.int64, [1, 1])"),
    "decimals": (torch.tensor([0.0]), "int64 of shape [n] (got torch.float32, [1])"),
    "mask": (torch.tensor([True]), "int64 of shape [n] (got torch.bool, [1])"),
    "32 bits": (torch.tensor([0], dtype=torch.int32), "int64 of shape [n] (got torch.int32, [1])"),
    "beyond": (torch.tensor([0, 99]), "'user' must lie in 0..11 (got 0..99)"),
    "negative": (torch.tensor([-1]), "'user' must lie in 0..11 (got -1..-1)"),
}


@pytest.mark.parametrize("case", USERS)
def test_recommend_for_what_are_no_users(views: Views, case: str) -> None:
    user, message = USERS[case]
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        BPRMF.from_data(views[0]).recommend(views[0], user)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "'k' must lie in 1..10, the number of items (got 0)"),
        ({"k": 11}, "'k' must lie in 1..10, the number of items (got 11)"),
        ({"k": -1}, "'k' must not be negative (got -1)"),
        ({"k": 2.0}, "'k' must be an int (got 2.0)"),
        ({"k": True}, "'k' must be an int (got True)"),
        ({"block_size": 0}, "'block_size' must be positive (got 0)"),
        ({"exclude_seen": 1}, "'exclude_seen' must be True or False (got 1)"),
    ],
)
def test_other_arguments_of_recommend(views: Views, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        BPRMF.from_data(views[0]).recommend(views[0], torch.tensor([0]), **arguments)
    assert message in str(caught.value)


def test_a_metric_beyond_the_catalogue_is_known_before_a_training(views: Views) -> None:
    with pytest.raises(ValueError, match=r"^'recall@20' asks for more than the 10 items of the catalogue$"):
        Evaluator().check(views[1])
    EVALUATOR.check(views[1])


def test_a_whole_graph_has_nothing_held_out(whole: HeteroData) -> None:
    with pytest.raises(ValueError, match="has no held-out interactions, 'edge_label_index': pass a view that a split"):
        EVALUATOR(Popularity.from_data(whole), whole)


def test_a_user_who_has_everything_has_no_negatives() -> None:
    data = labelled([(0, item, 0) for item in range(8)])
    with pytest.raises(ValueError, match="user 0 has interacted with every train item: no negative can be drawn, drop"):
        TripletLoader(data)


def test_random_splits_of_too_little(whole: HeteroData) -> None:
    whole[INTERACTS].edge_index = whole[INTERACTS].edge_index[:, :1]
    with pytest.raises(ValueError, match="leaves no validation interactions"):
        RandomSplit()(whole)
