from __future__ import annotations

import copy
import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MethodType
from typing import Any

import pandas as pd
import pytest
import torch
from filelock import FileLock
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import (
    BPRMF,
    FREEDOM,
    LATTICE,
    MMSSL,
    SEA,
    VBPR,
    LightGCN,
    Popularity,
    Recommender,
    Representations,
    WithSEA,
)
from pyg_mmrec.nn import XavierEmbedding
from pyg_mmrec.nn.loss import bpr_loss
from pyg_mmrec.training import Trainer, TrainResult
from pyg_mmrec.training.interrupt import deferred_interrupt
from pyg_mmrec.typing import INTERACTS, Triplets
from pyg_mmrec.utils import interaction_operator, with_interactions

Views = tuple[HeteroData, HeteroData, HeteroData]
METRIC = "recall@3"


class Dropout(Recommender):
    """Matrix factorisation with dropout on the embeddings."""

    def __init__(self, num_users: int, num_items: int, *, hidden_channels: int = 8) -> None:
        super().__init__(num_users, num_items)
        self.hidden_channels = hidden_channels
        self.user_emb = XavierEmbedding(num_users, hidden_channels)
        self.item_emb = XavierEmbedding(num_items, hidden_channels)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, data: HeteroData) -> Representations:
        return Representations(self.dropout(self.user_emb.weight), self.dropout(self.item_emb.weight))

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        user, item = self(data)[:2]
        assert user is not None
        user = user[batch.user]
        return {"bpr": bpr_loss((user * item[batch.pos_item]).sum(-1), (user * item[batch.neg_item]).sum(-1))}


class Estimating(Recommender):
    """One number that is trained against another, which an inner loss fits to it."""

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items)
        self.outer = torch.nn.Parameter(torch.tensor(2.0))
        self.inner = torch.nn.Parameter(torch.tensor(-1.0))

    def forward(self, data: HeteroData) -> Representations:
        return Representations(self.outer.expand(self.num_users, 1), torch.ones(self.num_items, 1))

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        return {"product": self.outer * self.inner}  # its gradient reaches the inner parameter, too

    def auxiliary_parameters(self) -> Iterator[torch.nn.Parameter]:
        yield self.inner

    def auxiliary_loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        return {"fit": 0.5 * (self.inner - self.outer).square()}  # its gradient reaches the outer parameter, too


class Scripted(Evaluator):
    """Gives the values of a list, one a call, and remembers what it was called with."""

    def __init__(self, values: list[float]) -> None:
        super().__init__([METRIC])
        self.values = iter(values)
        self.calls: list[tuple[HeteroData, dict[str, Tensor]]] = []

    def __call__(self, model: Any, data: HeteroData) -> dict[str, float]:
        self.calls.append((data, {name: value.clone() for name, value in model.state_dict().items()}))
        return {METRIC: next(self.values)}


def trainer(**kwargs: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "max_epochs": 4,
        "batch_size": 64,
        "learning_rate": 0.02,
        "monitor": METRIC,
        "evaluator": Evaluator([METRIC, "ndcg@3"]),
        "accelerator": "cpu",
        "progress": False,
    }
    return Trainer(**(defaults | kwargs))


def build(model_class: type[Recommender], data: HeteroData, seed: int = 0) -> Recommender:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {} if model_class in (Popularity, Estimating) else {"hidden_channels": 8}
    if model_class is WithSEA:
        sizes = {"base_args": sizes}
    return model_class.from_data(data, **sizes)


def without_seconds(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


def assert_same(one: tuple[Recommender, TrainResult], two: tuple[Recommender, TrainResult]) -> None:
    """Weights and results are equal to the bit."""
    states = one[0].state_dict(), two[0].state_dict()
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        assert torch.equal(states[0][name], states[1][name]), name
    assert without_seconds(one[1].history) == without_seconds(two[1].history)
    for field in ("best_epoch", "num_epochs", "validation", "test"):
        assert getattr(one[1], field) == getattr(two[1], field), field


def read_history(folder: Path) -> list[dict[str, float]]:
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def before_call(model: Recommender, number: int, action: Callable[[], None]) -> None:
    """Acts when the loss is computed for the n-th time."""
    compute, calls = model.loss, []

    def loss(self: Recommender, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        calls.append(1)
        if len(calls) == number:
            action()
        return compute(data, batch)

    model.loss = MethodType(loss, model)


def interrupt() -> None:
    raise KeyboardInterrupt("injected")


def send_sigint() -> None:
    os.kill(os.getpid(), signal.SIGINT)


# Early stopping and selection


@pytest.mark.parametrize(
    ("values", "patience", "best_epoch", "num_epochs"),
    [
        ([0.1, 0.2, 0.3, *[0.3] * 40], 20, 2, 24),  # equal values are no improvement
        ([0.1, *[0.05] * 20, 0.2, *[0.1] * 40], 20, 21, 43),  # the 20th stale epoch does not stop, a better one counts
        ([0.1, *[0.05] * 21, 0.2, *[0.1] * 40], 20, 0, 22),  # the 21st does
        ([0.0] * 30, 20, 0, 22),
        ([-0.5, -0.4, -0.6], 0, 1, 3),
        ([0.1, 0.2, 0.15, 0.16, 0.17, 0.18], 2, 1, 5),
        ([0.1, 0.1 + 1e-15, 0.1], 0, 1, 3),  # unrounded
    ],
)
def test_early_stopping(
    tiny_split: Views, values: list[float], patience: int, best_epoch: int, num_epochs: int
) -> None:
    evaluator = Scripted(values)
    model = build(BPRMF, tiny_split[0])
    result = trainer(max_epochs=1000, patience=patience, evaluator=evaluator).fit(model, *tiny_split[:2])
    assert (result.best_epoch, result.num_epochs) == (best_epoch, num_epochs)
    assert result.validation == {METRIC: values[best_epoch]}
    assert len(evaluator.calls) == num_epochs
    for name, value in model.state_dict().items():
        assert torch.equal(value, evaluator.calls[best_epoch][1][name])


@pytest.mark.parametrize(
    ("values", "max_epochs", "best_epoch", "num_epochs"),
    [
        ([0.1, 0.2, 0.3], 7, 6, 7),  # validated after epochs 3 and 6, and after the last
        ([0.1, 0.3, 0.2], 7, 5, 7),
        ([0.2, 0.1, 0.1, 0.1], 100, 2, 9),  # 6 stale epochs where 4 are allowed; 3 are at the validation before
    ],
)
def test_validation_after_every_third_epoch(
    tiny_split: Views, tmp_path: Path, values: list[float], max_epochs: int, best_epoch: int, num_epochs: int
) -> None:
    evaluator = Scripted(values)
    settings: dict[str, Any] = {"max_epochs": max_epochs, "patience": 4, "evaluate_every": 3, "run_dir": tmp_path}
    result = trainer(**settings, evaluator=evaluator).fit(build(BPRMF, tiny_split[0]), *tiny_split[:2])
    assert (result.best_epoch, result.num_epochs) == (best_epoch, num_epochs)
    assert result.validation == {METRIC: max(values)}
    validated = [row["epoch"] for row in result.history if METRIC in row]
    assert validated == [epoch for epoch in range(num_epochs) if epoch % 3 == 2 or epoch == max_epochs - 1]
    table = pd.read_csv(tmp_path / "history.csv")
    assert table.index[table[METRIC].notna()].tolist() == validated
    assert table["loss_bpr"].notna().all()


def test_a_run_validated_every_other_epoch_resumes_exactly(tiny_split: Views, tmp_path: Path) -> None:
    model = build(BPRMF, tiny_split[0])
    expected = model, trainer(evaluate_every=2, max_epochs=5).fit(model, *tiny_split)
    stopped = build(BPRMF, tiny_split[0])
    before_call(stopped, 8, interrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer(evaluate_every=2, max_epochs=5, checkpoint_epochs=1, run_dir=tmp_path).fit(stopped, *tiny_split)
    resumed = build(BPRMF, tiny_split[0], seed=1)
    settings: dict[str, Any] = {"evaluate_every": 2, "max_epochs": 5, "checkpoint_epochs": 1, "run_dir": tmp_path}
    assert_same(expected, (resumed, trainer(**settings).fit(resumed, *tiny_split, resume=True)))


def test_training_on_a_cpu_keeps_freed_memory(tiny_split: Views, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[None] = []
    monkeypatch.setattr("pyg_mmrec.training.trainer.keep_freed_memory", lambda: calls.append(None))
    trainer(max_epochs=1).fit(build(BPRMF, tiny_split[0]), *tiny_split)
    assert len(calls) == 1


def test_training_ends_after_the_last_epoch(tiny_split: Views) -> None:
    evaluator = Scripted([0.3, 0.2, 0.1])
    result = trainer(max_epochs=3, evaluator=evaluator).fit(build(BPRMF, tiny_split[0]), *tiny_split[:2])
    assert (result.best_epoch, result.num_epochs, result.test) == (0, 3, {})


def test_the_test_view_is_used_once_with_the_best_weights(tiny_split: Views) -> None:
    evaluator = Scripted([0.1, 0.4, 0.2, 0.3, 0.77])
    result = trainer(max_epochs=4, evaluator=evaluator).fit(build(BPRMF, tiny_split[0]), *tiny_split)
    labels = [data[INTERACTS].edge_label_index for data, _ in evaluator.calls]
    assert [torch.equal(label, tiny_split[2][INTERACTS].edge_label_index) for label in labels] == [False] * 4 + [True]
    assert all(torch.equal(label, tiny_split[1][INTERACTS].edge_label_index) for label in labels[:4])
    for name, value in evaluator.calls[-1][1].items():
        assert torch.equal(value, evaluator.calls[1][1][name])
    assert result.test == {METRIC: 0.77}
    assert result.validation == {METRIC: 0.4}


def test_history(tiny_split: Views) -> None:
    model = build(BPRMF, tiny_split[0])
    terms: list[dict[str, float]] = []
    compute = model.loss

    def loss(self: Recommender, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        losses = compute(data, batch)
        terms.append({name: value.item() for name, value in losses.items()})
        return losses

    model.loss = MethodType(loss, model)
    result = trainer(max_epochs=2).fit(model, *tiny_split)
    assert [row["epoch"] for row in result.history] == [0, 1]
    assert len(terms) == 8
    for epoch, row in enumerate(result.history):
        assert set(row) == {"epoch", "loss_bpr", "loss_l2", METRIC, "ndcg@3", "seconds"}
        for name in ("bpr", "l2"):
            mean = sum(term[name] for term in terms[4 * epoch : 4 * epoch + 4]) / 4
            assert row[f"loss_{name}"] == pytest.approx(mean, rel=1e-6)
    assert result.seconds == pytest.approx(sum(row["seconds"] for row in result.history))


def test_training_equals_a_plain_loop(tiny_split: Views) -> None:
    from pyg_mmrec.loader import TripletLoader

    trained = build(LightGCN, tiny_split[0])
    trainer(max_epochs=2, evaluator=Scripted([0.1, 0.2]), seed=4).fit(trained, *tiny_split[:2])
    model = build(LightGCN, tiny_split[0])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for epoch in range(2):
        for batch in TripletLoader(tiny_split[0], 64, seed=4).epoch(epoch):
            optimizer.zero_grad()
            sum(model.loss(tiny_split[0], batch).values()).backward()
            optimizer.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_equal_seeds_give_equal_results(tiny_split: Views) -> None:
    def run(seed: int) -> tuple[Recommender, TrainResult]:
        model = build(Dropout, tiny_split[0])
        torch.manual_seed(torch.seed() % 1000)  # only the start of the weights reads the global generator
        return model, trainer(seed=seed, max_epochs=2).fit(model, *tiny_split)

    first, second, other = run(0), run(0), run(1)
    assert_same(first, second)
    assert first[1].history[0]["loss_bpr"] != other[1].history[0]["loss_bpr"]


def test_data_stays_as_it_was(tiny_split: Views) -> None:
    before = [{store._key: sorted(store.keys()) for store in view.stores[1:]} for view in tiny_split]
    edges = tiny_split[0][INTERACTS].edge_index.clone()
    trainer(max_epochs=1).fit(build(FREEDOM, tiny_split[0]), *tiny_split)
    assert [{store._key: sorted(store.keys()) for store in view.stores[1:]} for view in tiny_split] == before
    assert torch.equal(tiny_split[0][INTERACTS].edge_index, edges)


def test_an_epoch_trains_on_its_own_graph_and_is_validated_on_the_whole(tiny_split: Views) -> None:
    model, evaluator = build(FREEDOM, tiny_split[0]), Scripted([0.1, 0.2])
    graphs: list[Tensor] = []
    compute = model.loss

    def loss(self: Recommender, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        graphs.append(data[INTERACTS].edge_index)
        assert interaction_operator(data).num_edges == 40
        return compute(data, batch)

    model.loss = MethodType(loss, model)
    trainer(max_epochs=2, evaluator=evaluator).fit(model, *tiny_split[:2])
    assert all(graph is graphs[0] for graph in graphs[:4])
    assert not torch.equal(graphs[0], graphs[4])
    assert [data[INTERACTS].operator.num_edges for data, _ in evaluator.calls] == [200, 200]


@pytest.mark.parametrize("model_class", [LightGCN, FREEDOM, SEA])
def test_mixed_precision(tiny_split: Views, model_class: type[Recommender]) -> None:
    model = build(model_class, tiny_split[0])
    result = trainer(max_epochs=15, learning_rate=0.05, precision="bf16-mixed").fit(model, *tiny_split)
    assert result.history[-1]["loss_bpr"] < 0.9 * result.history[0]["loss_bpr"]
    assert result.test[METRIC] > 0.36
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("model_class", [BPRMF, LightGCN, VBPR, FREEDOM, SEA, WithSEA])
def test_mixed_precision_is_near_single_precision(tiny_split: Views, model_class: type[Recommender]) -> None:
    """Over some steps only: from there on, trainings of different rounding go ways of their own."""
    runs = []
    for precision in ("32-true", "bf16-mixed"):
        model = build(model_class, tiny_split[0])
        matmuls: list[torch.dtype] = []
        before_call(model, 1, lambda seen=matmuls: seen.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype))
        result = trainer(max_epochs=3, learning_rate=1e-3, precision=precision).fit(model, *tiny_split)
        assert matmuls == [torch.bfloat16 if precision == "bf16-mixed" else torch.float32]
        runs.append(result.history)
    for single, half in zip(*runs, strict=True):
        for name in single:
            if name.startswith("loss"):
                assert half[name] == pytest.approx(single[name], rel=0.02, abs=1e-3), name


class Loud(BPRMF):
    """Its gradients overflow half precision unless the scaler turns the loss down."""

    def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        return {**super().loss(data, batch), "sum": (self.user_emb.weight @ self.item_emb.weight.t()).sum()}


def half_trainer(**kwargs: Any) -> Trainer:
    """Trains in half precision with a scaler on the CPU, which Fabric would replace by bfloat16."""
    made = trainer(**kwargs)
    scaler = torch.amp.GradScaler("cpu", growth_interval=4)
    made.fabric._precision = made.fabric._strategy.precision = MixedPrecision("16-mixed", "cpu", scaler)
    return made


def test_overflow_in_half_precision_is_left_to_the_scaler(tiny_split: Views, tmp_path: Path) -> None:
    made = half_trainer(max_epochs=3)
    model = build(Loud, tiny_split[0])
    start = model.user_emb.weight.clone()
    before_call(model, 2, lambda: weights.append(model.user_emb.weight.detach().clone()))
    weights: list[Tensor] = []
    result = made.fit(model, *tiny_split)
    scaler = made.fabric._precision.scaler
    assert scaler.get_scale() < 65536  # where it began
    assert torch.equal(weights[0], start)  # the first step overflowed and was left out
    assert result.history[-1]["loss_sum"] < result.history[0]["loss_sum"]

    stopped = build(Loud, tiny_split[0])
    before_call(stopped, 6, interrupt)
    with pytest.raises(KeyboardInterrupt):
        half_trainer(max_epochs=3, checkpoint_epochs=1, run_dir=tmp_path).fit(stopped, *tiny_split)
    resumed = build(Loud, tiny_split[0], seed=1)
    again = half_trainer(max_epochs=3, checkpoint_epochs=1, run_dir=tmp_path)
    assert_same((model, result), (resumed, again.fit(resumed, *tiny_split, resume=True)))
    assert again.fabric._precision.scaler.get_scale() == scaler.get_scale()


# Optimisers


def test_optimizer_and_scheduler_are_used(tiny_split: Views) -> None:
    made: list[Any] = []

    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=1.0))
        return made[0]

    def scheduler(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        made.append(torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
        return made[1]

    trainer(max_epochs=3, optimizer=optimizer, scheduler=scheduler).fit(build(BPRMF, tiny_split[0]), *tiny_split)
    assert made[1].get_last_lr() == [0.125]
    assert made[0].param_groups[0]["lr"] == 0.125


def test_auxiliary_parameters_have_their_own_optimizer(tiny_split: Views) -> None:
    model = build(Estimating, tiny_split[0])
    rate, values = 0.1, [0.1, 0.2]
    trainer(
        max_epochs=2,
        evaluator=Scripted(values),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=rate),
    ).fit(model, *tiny_split[:2])
    outer, inner = 2.0, -1.0
    for _ in range(8):
        inner -= rate * (inner - outer)  # first the inner loss, which leaves the outer parameter alone
        outer -= rate * inner  # then the outer loss, which leaves the inner one alone
    assert model.outer.item() == pytest.approx(outer, rel=1e-5)
    assert model.inner.item() == pytest.approx(inner, rel=1e-5)


def test_models_without_parameters(tiny_split: Views, tmp_path: Path) -> None:
    model, evaluator = build(Popularity, tiny_split[0]), Evaluator([METRIC])
    result = trainer(run_dir=tmp_path, evaluator=evaluator).fit(model, *tiny_split)
    assert (result.best_epoch, result.num_epochs, result.history, result.seconds) == (-1, 0, [], 0.0)
    assert result.validation == evaluator(model, tiny_split[1])
    assert result.test == evaluator(model, tiny_split[2])
    assert isinstance(Recommender.from_pretrained(tmp_path / "model"), Popularity)
    assert json.loads((tmp_path / "metrics.json").read_text())["test"] == result.test


# The run folder


def test_run_folder(tiny_split: Views, tmp_path: Path) -> None:
    model = build(FREEDOM, tiny_split[0])
    result = trainer(run_dir=tmp_path, seed=3).fit(model, *tiny_split)
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith("events")}
    expected = {"settings.json", "environment.json", "history.csv", "metrics.json", "last.ckpt", "model", ".lock"}
    assert names == expected
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["model"] == "FREEDOM"
    assert settings["model.in_channels"] == {"image": 12, "text": 8}
    assert {key: settings[key] for key in ("seed", "max_epochs", "batch_size", "learning_rate", "monitor")} == {
        **{"seed": 3, "max_epochs": 4, "batch_size": 64, "learning_rate": 0.02, "monitor": METRIC}
    }
    assert read_history(tmp_path) == result.history
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["test"] == result.test
    assert metrics["validation"] == result.validation
    assert metrics["best_epoch"] == result.best_epoch
    loaded = Recommender.from_pretrained(tmp_path / "model")
    assert Evaluator([METRIC])(loaded, tiny_split[2])[METRIC] == result.test[METRIC]


def test_tensorboard_events(tiny_split: Views, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result = trainer(run_dir=tmp_path, max_epochs=3).fit(build(BPRMF, tiny_split[0]), *tiny_split)
    events = accumulator.EventAccumulator(str(tmp_path)).Reload()
    for name in (METRIC, "loss_bpr"):
        logged = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in logged] == [0, 1, 2]
        assert [value for _, value in logged] == pytest.approx([row[name] for row in result.history], rel=1e-6)


def test_nothing_is_written_without_a_folder(
    tiny_split: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer(max_epochs=1, checkpoint_minutes=1e-9).fit(build(BPRMF, tiny_split[0]), *tiny_split)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_every_few_epochs(tiny_split: Views, tmp_path: Path) -> None:
    model, epochs = build(BPRMF, tiny_split[0]), []
    path = tmp_path / "last.ckpt"
    for number in range(1, 25, 4):  # at the start of each epoch
        before_call(
            model,
            number,
            lambda: epochs.append(torch.load(path, weights_only=True)["progress"]["epoch"] if path.exists() else None),
        )
    trainer(run_dir=tmp_path, max_epochs=6, checkpoint_epochs=2).fit(model, *tiny_split)
    assert epochs == [None, None, 2, 2, 4, 4]
    assert torch.load(path, weights_only=True)["progress"]["finished"]


def test_checkpoints_hold_tensors_and_plain_values_only(tiny_split: Views, tmp_path: Path) -> None:
    trainer(run_dir=tmp_path, max_epochs=2).fit(build(FREEDOM, tiny_split[0]), *tiny_split)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert set(checkpoint) == {"format", "settings", "model", "best", "progress", "optimizers", "precision"}
    assert checkpoint["model"].keys() == checkpoint["best"].keys()


def test_an_existing_run_is_not_overwritten(tiny_split: Views, tmp_path: Path) -> None:
    trainer(run_dir=tmp_path, max_epochs=1).fit(build(BPRMF, tiny_split[0]), *tiny_split)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(ValueError, match=r"already holds a run: resume it or choose another 'run_dir'$"):
        trainer(run_dir=tmp_path, max_epochs=1).fit(build(BPRMF, tiny_split[0]), *tiny_split)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


# Interrupting and resuming


@pytest.mark.parametrize("model_class", [LightGCN, FREEDOM, LATTICE, MMSSL, SEA, Dropout, Estimating])
@pytest.mark.parametrize(("stop", "minutes"), [(send_sigint, 60.0), (interrupt, 1e-9)], ids=["SIGINT", "raised"])
@pytest.mark.parametrize("number", [1, 4, 11])  # of 16 steps: the first, the last of an epoch, within an epoch
def test_a_resumed_training_ends_with_the_same_weights(
    tiny_split: Views,
    tmp_path: Path,
    model_class: type[Recommender],
    stop: Callable[[], None],
    minutes: float,
    number: int,
) -> None:
    if stop is interrupt and number == 1:
        number = 2  # a checkpoint comes after the first step
    whole = build(model_class, tiny_split[0])
    expected = whole, trainer().fit(whole, *tiny_split)
    killed = build(model_class, tiny_split[0])
    before_call(killed, number, stop)
    with pytest.raises(KeyboardInterrupt):
        trainer(run_dir=tmp_path, checkpoint_minutes=minutes).fit(killed, *tiny_split)
    (tmp_path / ".last.ckpt.partial").write_bytes((tmp_path / "last.ckpt").read_bytes()[:100])
    progress = torch.load(tmp_path / "last.ckpt", weights_only=True)["progress"]
    assert 4 * progress["epoch"] + progress["step"] == (number if stop is send_sigint else number - 1)
    resumed = build(model_class, tiny_split[0], seed=1)
    result = trainer(run_dir=tmp_path).fit(resumed, *tiny_split, resume=True)
    assert_same(expected, (resumed, result))
    assert read_history(tmp_path) == result.history
    assert not list(tmp_path.glob(".*.partial"))


def test_a_scheduler_is_resumed(tiny_split: Views, tmp_path: Path) -> None:
    def run(model: Recommender, **kwargs: Any) -> TrainResult:
        resume = kwargs.pop("resume", False)
        make = trainer(scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1), **kwargs)
        return make.fit(model, *tiny_split, resume=resume)

    whole = build(BPRMF, tiny_split[0])
    expected = whole, run(whole)
    killed = build(BPRMF, tiny_split[0])
    before_call(killed, 6, send_sigint)
    with pytest.raises(KeyboardInterrupt):
        run(killed, run_dir=tmp_path)
    resumed = build(BPRMF, tiny_split[0], seed=1)
    assert_same(expected, (resumed, run(resumed, run_dir=tmp_path, resume=True)))


def test_a_training_is_interrupted_and_resumed_again_and_again(tiny_split: Views, tmp_path: Path) -> None:
    whole = build(FREEDOM, tiny_split[0])
    expected = whole, trainer(max_epochs=3).fit(whole, *tiny_split)
    for step in range(12):
        model = build(FREEDOM, tiny_split[0], seed=step)
        before_call(model, 1, send_sigint)
        where = f"epoch {step // 4} after batch {step % 4 + 1}"
        with pytest.raises(KeyboardInterrupt, match=f"^stopped in {where}: resume from '"):
            trainer(max_epochs=3, run_dir=tmp_path).fit(model, *tiny_split, resume=step > 0)
    model = build(FREEDOM, tiny_split[0], seed=99)
    assert_same(expected, (model, trainer(max_epochs=3, run_dir=tmp_path).fit(model, *tiny_split, resume=True)))


def test_an_interrupt_while_validating_waits_for_the_end_of_the_epoch(tiny_split: Views, tmp_path: Path) -> None:
    class Stopping(Evaluator):
        def __call__(self, model: Any, data: HeteroData) -> dict[str, float]:
            send_sigint()
            return super().__call__(model, data)

    model = build(BPRMF, tiny_split[0])
    with pytest.raises(KeyboardInterrupt, match=r"^stopped in epoch 1 after batch 0: resume from"):
        trainer(run_dir=tmp_path, evaluator=Stopping([METRIC, "ndcg@3"])).fit(model, *tiny_split)
    whole, resumed = build(BPRMF, tiny_split[0]), build(BPRMF, tiny_split[0], seed=1)
    expected = whole, trainer().fit(whole, *tiny_split)
    assert_same(expected, (resumed, trainer(run_dir=tmp_path).fit(resumed, *tiny_split, resume=True)))


def test_an_interrupt_without_a_folder(tiny_split: Views) -> None:
    model, handler = build(BPRMF, tiny_split[0]), signal.getsignal(signal.SIGINT)
    before_call(model, 2, send_sigint)
    with pytest.raises(KeyboardInterrupt, match=r"^stopped in epoch 0 after batch 2$"):
        trainer().fit(model, *tiny_split)
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_scheduler_s_signal_is_deferred_too() -> None:
    previous = signal.getsignal(signal.SIGTERM)
    with deferred_interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.requested
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is previous


def test_views_of_different_splits(tiny_split: Views) -> None:
    model, (train, _, _) = build(BPRMF, tiny_split[0]), tiny_split
    known = copy.copy(tiny_split[1])
    known[INTERACTS].edge_label_index = train[INTERACTS].edge_index[:, :7]
    with pytest.warns(
        UserWarning, match=r"^7 of the 7 held-out pairs of the validation view are among the train view's"
    ):
        trainer(max_epochs=1).fit(model, train, known)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (torch.tensor(1.0), r"a tensor of shape \[\]"),
        ({}, r"\{\}"),
        ({"bpr": torch.ones(3), "l2": 0.0}, r"\{'bpr': 'a tensor of shape \[3\]', 'l2': '0.0'\}"),
    ],
    ids=["tensor", "nothing", "vector"],
)
def test_a_loss_of_another_form(tiny_split: Views, given: Any, found: str) -> None:
    model = build(BPRMF, tiny_split[0])
    model.loss = MethodType(lambda self, data, batch: given, model)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=rf"^'loss' of the model must give a dictionary .* \(got {found}\)$"):
        trainer().fit(model, *tiny_split)


def test_batches_of_another_kind(tiny_split: Views) -> None:
    model = build(BPRMF, tiny_split[0])
    model.batches = "pairs"  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"^BPRMF.batches must be one of triplets, histories \(got 'pairs'\)$"):
        trainer().fit(model, *tiny_split)


def test_the_second_interrupt_acts_at_once() -> None:
    previous = signal.getsignal(signal.SIGINT)
    with deferred_interrupt() as interrupt:
        assert not interrupt.requested
        send_sigint()
        assert interrupt.requested
        with pytest.raises(KeyboardInterrupt):
            send_sigint()
    assert signal.getsignal(signal.SIGINT) is previous


def test_training_outside_the_main_thread(tiny_split: Views) -> None:
    results: list[TrainResult] = []
    model = build(BPRMF, tiny_split[0])
    thread = threading.Thread(target=lambda: results.append(trainer(max_epochs=1).fit(model, *tiny_split)))
    thread.start()
    thread.join()
    assert [result.num_epochs for result in results] == [1]


def test_a_finished_run_can_be_resumed(tiny_split: Views, tmp_path: Path) -> None:
    model = build(BPRMF, tiny_split[0])
    expected = model, trainer(run_dir=tmp_path).fit(model, *tiny_split)
    resumed = build(BPRMF, tiny_split[0], seed=1)
    before_call(resumed, 1, lambda: pytest.fail("trained on"))
    assert_same(expected, (resumed, trainer(run_dir=tmp_path).fit(resumed, *tiny_split, resume=True)))


def test_resuming_with_other_settings(tiny_split: Views, tmp_path: Path) -> None:
    trainer(run_dir=tmp_path, max_epochs=1).fit(build(BPRMF, tiny_split[0]), *tiny_split)
    others = {"learning_rate": 0.5, "batch_size": 7, "seed": 9, "max_epochs": 2, "patience": 1, "evaluate_every": 2}
    for key, value in others.items():
        with pytest.raises(ValueError, match=rf"was written with {key} = .*, not {value}: resume with the settings"):
            trainer(**({"max_epochs": 1} | {key: value}), run_dir=tmp_path).fit(
                build(BPRMF, tiny_split[0]), *tiny_split, resume=True
            )
    with pytest.raises(ValueError, match=r"was written with metrics = \['recall@3', 'ndcg@3'\], not \['recall@3'\]"):
        trainer(run_dir=tmp_path, max_epochs=1, evaluator=Evaluator([METRIC])).fit(
            build(BPRMF, tiny_split[0]), *tiny_split, resume=True
        )
    other = BPRMF.from_data(tiny_split[0], hidden_channels=16)
    with pytest.raises(ValueError, match=r"was written with model.hidden_channels = 8, not 16"):
        trainer(run_dir=tmp_path, max_epochs=1).fit(other, *tiny_split, resume=True)
    with pytest.raises(ValueError, match=r"was written with model = 'BPRMF', not 'LightGCN'"):
        trainer(run_dir=tmp_path, max_epochs=1).fit(build(LightGCN, tiny_split[0]), *tiny_split, resume=True)


def test_resuming_with_other_interactions(tiny_split: Views, tmp_path: Path) -> None:
    trainer(run_dir=tmp_path, max_epochs=1).fit(build(BPRMF, tiny_split[0]), *tiny_split)
    train_data = with_interactions(tiny_split[0], tiny_split[0][INTERACTS].edge_index.flip(1))
    with pytest.raises(ValueError, match=r"was written with interactions = '\w{16}', not '\w{16}': resume with"):
        trainer(run_dir=tmp_path, max_epochs=1).fit(build(BPRMF, tiny_split[0]), train_data, tiny_split[1], resume=True)


def test_resuming_with_another_optimizer(tiny_split: Views, tmp_path: Path) -> None:
    def fit(resume: bool, **kwargs: Any) -> None:
        settings = trainer(run_dir=tmp_path, optimizer=lambda parameters: torch.optim.SGD(parameters, **kwargs))
        settings.fit(build(BPRMF, tiny_split[0]), *tiny_split, resume=resume)

    fit(False, lr=0.1)
    fit(True, lr=0.1)
    with pytest.raises(ValueError, match=r"was trained with SGD\(.* lr=0.1.*\), not SGD\(.* lr=0.2.*\): resume with"):
        fit(True, lr=0.2)


def test_a_folder_in_use_is_refused(tiny_split: Views, tmp_path: Path) -> None:
    model = build(BPRMF, tiny_split[0])
    with FileLock(tmp_path / ".lock"), pytest.raises(ValueError, match=r"is in use by another process: wait until"):
        trainer(run_dir=tmp_path).fit(model, *tiny_split)
    assert not (tmp_path / "settings.json").exists()
    trainer(run_dir=tmp_path, max_epochs=1).fit(model, *tiny_split)


def test_a_full_disk_stops_the_training_and_keeps_the_last_checkpoint(
    tiny_split: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(BPRMF, tiny_split[0])
    expected = model, trainer().fit(model, *tiny_split)
    save, calls = torch.save, []

    def full(content: Any, path: Path) -> None:
        calls.append(path)
        save(content, path)
        if len(calls) == 6:
            os.truncate(path, 100)
            raise RuntimeError("[enforce fail at inline_container.cc:668] . PytorchStreamWriter failed writing file")

    settings: dict[str, Any] = {"run_dir": tmp_path, "checkpoint_minutes": 1e-9}
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"^cannot write '.*last.ckpt' \(.*failed writing file\): what was there before"):
        trainer(**settings).fit(build(BPRMF, tiny_split[0]), *tiny_split)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*.partial"))
    progress = torch.load(tmp_path / "last.ckpt", weights_only=True)["progress"]
    assert (progress["epoch"], progress["step"]) == (1, 0)
    resumed = build(BPRMF, tiny_split[0], seed=1)
    assert_same(expected, (resumed, trainer(**settings).fit(resumed, *tiny_split, resume=True)))


def test_resuming_what_is_not_there(tiny_split: Views, tmp_path: Path) -> None:
    model = build(BPRMF, tiny_split[0])
    with pytest.raises(ValueError, match=r"^'resume' needs the 'run_dir' of the run to go on with$"):
        trainer().fit(model, *tiny_split, resume=True)
    with pytest.raises(FileNotFoundError, match=r"to resume from: start without 'resume'$"):
        trainer(run_dir=tmp_path).fit(model, *tiny_split, resume=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("kill_training.py")), str(tmp_path)]
    done = subprocess.run(
        [*command, "--models", "FREEDOM", "--kills", "3"], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"FREEDOM: [1-3] kills, \d of them while a checkpoint was written, equal\n", done.stdout)
    whole, killed = tmp_path / "FREEDOM-whole", tmp_path / "FREEDOM-killed"
    for name in ("model/model.safetensors", "model/config.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    assert not list(killed.glob(".*.partial"))


# Losses that are not finite


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_stops_the_training(tiny_split: Views, tmp_path: Path, value: float) -> None:
    model, calls = build(BPRMF, tiny_split[0]), []
    compute, before = model.loss, {}

    def loss(self: Recommender, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
        calls.append(1)
        losses = compute(data, batch)
        if len(calls) == 4 + 3:
            before.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
            losses["l2"] = losses["l2"] * value
        return losses

    model.loss = MethodType(loss, model)
    with pytest.raises(FloatingPointError) as error:
        trainer(run_dir=tmp_path, checkpoint_epochs=1).fit(model, *tiny_split)
    message = str(error.value)
    assert message.startswith(f"loss term 'l2' is {value} in epoch 1, batch 2: lower the learning rate or check")
    assert message.endswith(f"; the last checkpoint is kept in '{tmp_path}'")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["progress"]["epoch"] == 1
    assert all(tensor.isfinite().all() for tensor in checkpoint["model"].values())


def test_an_auxiliary_loss_that_is_not_finite_stops_the_training(tiny_split: Views) -> None:
    model = build(Estimating, tiny_split[0])
    with torch.no_grad():
        model.inner.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match=r"^loss term 'fit' is nan in epoch 0, batch 0"):
        trainer().fit(model, *tiny_split)


@pytest.mark.parametrize("folder", [True, False])
def test_a_gradient_that_is_not_finite_stops_the_training(tiny_split: Views, tmp_path: Path, folder: bool) -> None:
    class Rooted(BPRMF):
        """A root that is at its corner from the second epoch on: the value is 0, the slope infinite."""

        def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
            self.calls = getattr(self, "calls", -1) + 1
            inside = (self.item_emb.weight[:1] - self.item_emb.weight[:1].detach()).square().sum()
            return {**super().loss(data, batch), "root": inside.sqrt() if self.calls > 5 else inside}

    model = build(Rooted, tiny_split[0])
    with pytest.raises(FloatingPointError) as error:
        trainer(run_dir=tmp_path if folder else None, checkpoint_epochs=1).fit(model, *tiny_split)
    kept = f"; the last checkpoint is kept in '{tmp_path}'" if folder else ""
    assert str(error.value) == (
        "the gradient of loss term 'root' for 'item_emb.weight' is not finite in epoch 1, batch 2: lower the learning "
        f"rate or check the features{kept}"
    )
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_large_gradients_are_no_overflow(tiny_split: Views) -> None:
    class Steep(BPRMF):
        def loss(self, data: HeteroData, batch: Triplets) -> dict[str, Tensor]:
            return {"steep": 1e30 * self.user_emb.weight.square().mean()}  # the norm of the gradient overflows

    result = trainer(max_epochs=1).fit(build(Steep, tiny_split[0]), *tiny_split)
    assert result.num_epochs == 1


def test_weights_that_are_not_finite_are_never_validated(tiny_split: Views) -> None:
    model = build(BPRMF, tiny_split[0])
    with torch.no_grad():
        model.item_emb.weight[3] = torch.nan
    with pytest.raises(ValueError, match=r"^the scores of user \d+ are NaN: the model has diverged$"):
        Evaluator([METRIC])(model, tiny_split[1])
    with pytest.raises(FloatingPointError, match=r"^loss term 'bpr' is nan in epoch 0, batch 0"):
        trainer(batch_size=200).fit(model, *tiny_split)


# Arguments


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("max_epochs", 0, "'max_epochs' must be positive (got 0)"),
        ("batch_size", 0, "'batch_size' must be positive (got 0)"),
        ("seed", -1, "'seed' must not be negative (got -1)"),
        ("patience", -1, "'patience' must not be negative (got -1)"),
        ("evaluate_every", 0, "'evaluate_every' must be positive (got 0)"),
        ("devices", 0, "'devices' must be positive (got 0)"),
        ("learning_rate", 0.0, "'learning_rate' must be positive (got 0.0)"),
        ("learning_rate", float("nan"), "'learning_rate' must be finite (got nan)"),
        ("checkpoint_minutes", -1, "'checkpoint_minutes' must be positive (got -1)"),
        ("max_epochs", 2.5, "'max_epochs' must be an int (got 2.5)"),
        ("batch_size", "64", "'batch_size' must be an int (got '64')"),
        ("num_nodes", True, "'num_nodes' must be an int (got True)"),
        ("learning_rate", float("inf"), "'learning_rate' must be finite (got inf)"),
        ("run_dir", 3, "'run_dir' must be a path, a text or a pathlib.Path (got 3)"),
        ("optimizer", "adam", "'optimizer' must be a function or None (got 'adam')"),
        ("progress", "no", "'progress' must be True or False (got 'no')"),
        ("checkpoint_epochs", 0, "'checkpoint_epochs' must be positive (got 0)"),
        ("monitor", "recall@20", "'monitor' must be one of recall@3, ndcg@3 (got 'recall@20')"),
    ],
)
def test_bad_arguments(key: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match="'") as error:
        trainer(**{key: value})
    assert str(error.value) == message


def test_defaults_are_the_published_protocol() -> None:
    defaults = Trainer(accelerator="cpu")
    assert (defaults.batch_size, defaults.max_epochs, defaults.patience) == (2048, 1000, 20)
    assert (defaults.monitor, defaults.evaluate_every) == ("recall@20", 1)
