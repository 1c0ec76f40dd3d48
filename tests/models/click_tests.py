"""The tests that every model of clicks on one-hot fields inherits, with and without categories of the items."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import Recommender
from pyg_mmrec.nn import OneHotFields, PairMLP, pairs
from tests.models.model_tests import Model, ModelTests, Views

#: Three categories that are not the planted blocks, and items of none.
CATEGORY = torch.arange(30) % 4 - 1
CATEGORY[7:14] = CATEGORY[7:14].flip(0)


def fields_of(fields: OneHotFields, data: HeteroData, user: int, item: int) -> list[np.ndarray]:
    """The paper's embeddings of one pair, a row for each field; zeros for an unknown category."""
    rows = [fields.user_emb.weight[user], fields.item_emb.weight[item]]
    if fields.category_emb is not None:
        category = int(data["item"].category[item])
        rows.append(fields.category_emb.weight[category] if category >= 0 else torch.zeros_like(rows[0]))
    return [row.detach().double().numpy() for row in rows]


def layers_of(mlp: PairMLP) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and biases of all layers, the first for the concatenation of all fields."""
    linear = [mlp.first, *(layer for layer in mlp.rest if isinstance(layer, torch.nn.Linear))]
    return [(layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()) for layer in linear]


def perceptron(layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> float:
    """The logit of a vector; hidden layers are rectified."""
    for weight, bias in layers[:-1]:
        x = np.maximum(weight @ x + bias, 0)
    return float((layers[-1][0] @ x + layers[-1][1])[0])


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


class ClickModelTests(ModelTests[Model]):
    """What holds for every model of clicks; a subclass gives the paper's logit of one pair."""

    init_args: ClassVar[dict[str, Any]] = {"hidden_channels": 8, "mlp_channels": 16, "num_layers": 2}

    #: What a model needs to learn a small planted structure.
    learning_args: ClassVar[dict[str, Any]] = {"hidden_channels": 16, "mlp_channels": 128}

    def logit(self, model: Any, data: HeteroData, user: int, item: int) -> float:
        raise AssertionError("a subclass transcribes its paper here")

    @pytest.fixture(params=[False, True], ids=["plain", "categories"])
    def tiny_data(self, request: pytest.FixtureRequest, tiny_data: HeteroData) -> HeteroData:
        if request.param:
            tiny_data["item"].category = CATEGORY.clone()
        return tiny_data

    def drawn(self, data: HeteroData, **init_args: Any) -> Recommender:
        """A model none of whose parameters are zero or small, in evaluation mode."""
        model = self.build(data, **init_args).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.uniform_(-0.5, 0.5)
        return model

    def test_planted_blocks_are_recovered(self, tiny_split: Views) -> None:
        self.init_args = self.init_args | self.learning_args  # of this instance
        super().test_planted_blocks_are_recovered(tiny_split)

    def check_scores(self, data: HeteroData, **init_args: Any) -> None:
        model = self.drawn(data, **init_args)
        expected = [[self.logit(model, data, user, item) for item in range(30)] for user in range(10)]
        np.testing.assert_allclose(self.all_scores(model, data)[:10].numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_scores_equal_the_equations(self, tiny_data: HeteroData) -> None:
        self.check_scores(tiny_data)

    def test_one_hidden_layer(self, tiny_data: HeteroData) -> None:
        self.check_scores(tiny_data, num_layers=1)

    def test_loss_equals_the_equations(self, tiny_data: HeteroData) -> None:
        model, batch = self.drawn(tiny_data), self.batch(tiny_data)
        total = 0.0
        for user, pos, neg in zip(*(part.tolist() for part in batch), strict=True):
            total -= np.log(sigmoid(self.logit(model, tiny_data, user, pos)))
            total -= np.log(1 - sigmoid(self.logit(model, tiny_data, user, neg)))
        losses = model.loss(tiny_data, batch)
        assert set(losses) == {"bce"}
        assert losses["bce"].item() == pytest.approx(total / (2 * batch.user.numel()), rel=1e-5)

    def test_scores_in_small_blocks(self, tiny_data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
        model = self.drawn(tiny_data)
        whole = self.all_scores(model, tiny_data)
        for numbers in (1, 200, 5000):
            monkeypatch.setattr(pairs, "NUMBERS_AT_ONCE", numbers)
            torch.testing.assert_close(self.all_scores(model, tiny_data), whole)
        self.test_scores_of_candidates_agree(tiny_data)

    def test_the_number_of_categories_is_read_from_the_data(self, tiny_data: HeteroData) -> None:
        assert self.build(tiny_data).num_categories == (3 if "category" in tiny_data["item"] else 0)
        tiny_data["item"].category = torch.full((30,), -1)
        assert self.build(tiny_data).num_categories == 0

    def test_categories_count(self, tiny_data: HeteroData) -> None:
        tiny_data["item"].category = CATEGORY
        model = self.drawn(tiny_data)
        before = self.all_scores(model, tiny_data)
        moved = CATEGORY.clone()
        moved[3] = (moved[3] + 1) % 3
        tiny_data["item"].category = moved
        after = self.all_scores(model, tiny_data)
        assert (after[:, 3] != before[:, 3]).all()
        others = torch.arange(30) != 3
        torch.testing.assert_close(after[:, others], before[:, others])

    @pytest.mark.parametrize(
        ("category", "message"),
        [
            (None, "data['item'].category must lie in -1..2, as the model was built for (got nothing)"),
            (torch.full((30,), 3), "data['item'].category must lie in -1..2, as the model was built for (got 3)"),
            (torch.full((30,), -2), "data['item'].category must not be below -1, which stands for unknown (got -2)"),
            (torch.zeros(30), "data['item'].category must be an int64 tensor of shape [30] (got [30], torch.float32)"),
            (torch.zeros(29).long(), "must be an int64 tensor of shape [30] (got [29], torch.int64)"),
            ([0] * 30, "must be an int64 tensor of shape [30] (got list)"),
        ],
    )
    def test_other_categories_are_refused(self, tiny_data: HeteroData, category: Any, message: str) -> None:
        tiny_data["item"].category = CATEGORY
        model = self.build(tiny_data)
        del tiny_data["item"].category
        if category is not None:
            tiny_data["item"].category = category
        for call in (lambda: model(tiny_data), lambda: model.recommend(tiny_data, torch.tensor([0]), 3)):
            with pytest.raises(ValueError, match=re.escape(message)):
                call()
        if category is not None and "must lie" not in message:
            with pytest.raises(ValueError, match=re.escape(message)):
                self.build(tiny_data)
