from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import PNN
from tests.models.click_tests import CATEGORY, ClickModelTests, fields_of, layers_of, perceptron


class TestPNN(ClickModelTests[PNN]):
    model_class = PNN
    learning_args = {"hidden_channels": 32, "mlp_channels": 256, "dropout": 0.3}  # noqa: RUF012

    def logit(self, model: PNN, data: HeteroData, user: int, item: int) -> float:
        """Eq. 1 to 5 with the reduced products: all pairs of fields, each with itself too."""
        f = fields_of(model.fields, data, user, item)
        (first, bias), *others = layers_of(model.mlp)
        weight = model.product_weight.detach().double().numpy()
        pairs = list(itertools.product(range(len(f)), repeat=2))
        l_p = np.zeros(model.mlp_channels)
        for n in range(model.mlp_channels):
            if model.product == "inner":
                l_p[n] = sum(weight[i, n] * weight[j, n] * (f[i] @ f[j]) for i, j in pairs)
            else:
                p = np.sum([np.outer(f[i], f[j]) for i, j in pairs], axis=0)
                l_p[n] = (weight[:, n].reshape(p.shape) * p).sum()
        l_z = first @ np.concatenate(f)
        return perceptron([(np.eye(len(l_p)), np.zeros(len(l_p))), *others], l_z + l_p + bias)

    def test_outer_products_equal_the_equations(self, tiny_data: HeteroData) -> None:
        self.check_scores(tiny_data, product="outer", hidden_channels=4)

    @pytest.mark.parametrize("categories", [False, True])
    def test_inner_products_are_squared_lengths(self, tiny_data: HeteroData, categories: bool) -> None:
        """The other form of Section III-B."""
        if categories:
            tiny_data["item"].category = CATEGORY
        model = self.drawn(tiny_data)
        f = np.stack(fields_of(model.fields, tiny_data, 3, 6))
        theta = model.product_weight.detach().double().numpy()
        squares = [np.square(theta[:, n] @ f).sum() for n in range(model.mlp_channels)]
        user, item = (torch.from_numpy(part).float() for part in (f[:1], f[1:]))
        between = model._between(user.repeat(1, len(item)), item.flatten()[None])[0]
        found = model._alone(user, slice(0, 1)) + model._alone(item, slice(1, None)) + between
        np.testing.assert_allclose(found.detach().numpy(), squares, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("product", ["inner", "outer"])
    def test_both_products(self, tiny_data: HeteroData, product: Any) -> None:
        init_args = self.init_args | {"product": product}
        for test in (
            self.test_every_parameter_gets_a_gradient,
            self.test_representations,
            self.test_scores_of_candidates_agree,
            self.test_double_precision,
        ):
            self.init_args = init_args  # of this instance
            test(tiny_data)

    def test_outer_products_learn(self, tiny_split: Any) -> None:
        self.init_args = self.init_args | {"product": "outer"}
        self.test_planted_blocks_are_recovered(tiny_split)

    def test_representations_start_with_the_embeddings(self, tiny_data: HeteroData) -> None:
        for product in ("inner", "outer"):
            model = self.build(tiny_data, product=product)
            out, items = model(tiny_data), model.fields.items(tiny_data)
            width = out.user.size(1) - 16
            assert width == 8 * (items.size(1) if product == "inner" else 1)
            for start in range(0, width, 8):
                assert torch.equal(out.user[:, start : start + 8], model.fields.user_emb.weight)
            assert torch.equal(out.item[:, :width], items.flatten(1) if product == "inner" else items.sum(1))
