from __future__ import annotations

import os
import signal
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import BPRMF, FREEDOM, MGCN, VBPR, LightGCN, Recommender
from pyg_mmrec.training import Trainer

Views = tuple[HeteroData, HeteroData, HeteroData]


def trainer(**kwargs: Any) -> Trainer:
    defaults = {"max_epochs": 3, "batch_size": 64, "learning_rate": 0.02, "monitor": "recall@3", "neighbors": 3}
    more = {"evaluator": Evaluator(["recall@3"]), "accelerator": "cpu", "progress": False}
    return Trainer(**(defaults | more | kwargs))


def build(cls: type[Recommender], data: HeteroData) -> Recommender:
    torch.manual_seed(0)
    return cls.from_data(data, hidden_channels=8)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.02)


@pytest.mark.parametrize("cls", [BPRMF, VBPR, LightGCN, FREEDOM])
def test_all_neighbors_train_as_the_whole_graph(tiny_split: Views, cls: type[Recommender]) -> None:
    whole, sampled = build(cls, tiny_split[0]), build(cls, tiny_split[0])
    expected = trainer(neighbors=None, optimizer=adam).fit(whole, *tiny_split)
    result = trainer(neighbors=-1, optimizer=adam).fit(sampled, *tiny_split)
    for one, two in zip(expected.history, result.history, strict=True):
        assert {**two, "seconds": 0} == pytest.approx({**one, "seconds": 0}, abs=1e-4)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(sampled.state_dict()[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cls", [BPRMF, VBPR, LightGCN, FREEDOM])
def test_samples_train(tiny_split: Views, cls: type[Recommender]) -> None:
    model = build(cls, tiny_split[0])
    result = trainer(max_epochs=30, drop_targets=True).fit(model, *tiny_split)
    assert result.test["recall@3"] > 0.36  # three times chance: 3 of 25 unseen items
    assert not any(part.sparse for part in model.modules() if isinstance(part, torch.nn.Embedding))


@pytest.mark.parametrize("at", [3, 6])
def test_a_stopped_training_goes_on_to_the_same_weights(tiny_split: Views, tmp_path: Path, at: int) -> None:
    whole = build(FREEDOM, tiny_split[0])
    expected = trainer(run_dir=tmp_path / "whole").fit(whole, *tiny_split)
    stopped, calls = build(FREEDOM, tiny_split[0]), []
    compute = stopped.loss

    def loss(self: Any, *args: Any) -> dict[str, Tensor]:
        calls.append(1)
        if len(calls) == at:
            os.kill(os.getpid(), signal.SIGINT)
        return compute(*args)

    stopped.loss = MethodType(loss, stopped)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        trainer(run_dir=tmp_path / "stopped").fit(stopped, *tiny_split)
    resumed = build(FREEDOM, tiny_split[0])
    result = trainer(run_dir=tmp_path / "stopped").fit(resumed, *tiny_split, resume=True)
    assert result.test == expected.test
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_a_gradient_that_is_not_finite_is_found_in_a_table(tiny_split: Views) -> None:
    model = build(BPRMF, tiny_split[0])
    compute = model.loss

    def loss(self: Any, data: HeteroData, batch: Any) -> dict[str, Tensor]:
        zero = (model.user_emb(batch.user) * 0).sum()
        return {**compute(data, batch), "root": zero.abs().sqrt()}

    model.loss = MethodType(loss, model)  # type: ignore[method-assign]
    with pytest.raises(FloatingPointError, match=r"^the gradient of loss term 'root' for 'user_emb.weight' is not"):
        trainer().fit(model, *tiny_split)


def test_the_size_of_growing_batches_is_among_the_settings(tiny_split: Views, tmp_path: Path) -> None:
    fit = trainer(batch_size="auto", neighbors=[2, 3], run_dir=tmp_path, max_epochs=1)
    model = LightGCN.from_data(tiny_split[0], num_layers=2)
    fit.fit(model, *tiny_split)
    settings = (tmp_path / "settings.json").read_text()
    assert '"batch_size": 2048' in settings
    assert '"drop_targets": false' in settings
    with pytest.raises(ValueError, match=r"was written with neighbors = \[2, 3\], not \[3, 2\]"):
        trainer(batch_size="auto", neighbors=[3, 2], run_dir=tmp_path, max_epochs=1).fit(
            model, *tiny_split, resume=True
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"neighbors": 0}, "'neighbors' must be -1, for all, or positive (got 0)"),
        ({"neighbors": [5, "5"]}, "'neighbors' must be an int (got '5')"),
        ({"neighbors": None, "drop_targets": True}, "'drop_targets' needs 'neighbors': the whole graph has all inter"),
        ({"drop_targets": 1}, "'drop_targets' must be True or False (got 1)"),
        ({"batch_size": "large"}, "'batch_size' must be an int (got 'large')"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="'") as error:
        trainer(**arguments)
    assert str(error.value).startswith(message)


def test_models_that_cannot_be_sampled_are_refused(tiny_split: Views, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^MGCN reads the whole graph in each step and cannot be trained on samples"):
        trainer(run_dir=tmp_path).fit(build(MGCN, tiny_split[0]), *tiny_split)
    with pytest.raises(ValueError, match=r"each of the model's 3 layers over the interactions \(got \[5\]\)$"):
        trainer(neighbors=[5]).fit(build(LightGCN, tiny_split[0]), *tiny_split)
