from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import DeepFM
from tests.models.click_tests import ClickModelTests, fields_of, layers_of, perceptron


class TestDeepFM(ClickModelTests[DeepFM]):
    model_class = DeepFM

    def logit(self, model: DeepFM, data: HeteroData, user: int, item: int) -> float:
        """Eq. 1 to 4."""
        w, v = fields_of(model.weights, data, user, item), fields_of(model.fields, data, user, item)
        fm = float(sum(part[0] for part in w)) + sum(float(one @ other) for one, other in combinations(v, 2))
        return fm + perceptron(layers_of(model.mlp), np.concatenate(v))

    def test_representations_start_with_the_embeddings(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        out, item = model(tiny_data), model.fields.item_emb.weight
        if model.fields.category_emb is not None:
            category = tiny_data["item"].category
            item = item + torch.cat([model.fields.category_emb.weight, torch.zeros(1, 8)])[category]
        assert torch.equal(out.user[:, :8], model.fields.user_emb.weight)
        torch.testing.assert_close(out.item[:, :8], item)

    def test_defaults_are_those_of_the_paper(self) -> None:
        parts = list(DeepFM(3, 4).mlp.modules())
        assert [part.in_features for part in parts if isinstance(part, torch.nn.Linear)] == [20, 400, 400, 400]
        assert [part.p for part in parts if isinstance(part, torch.nn.Dropout)] == [0.5] * 3

    def test_dropout_is_for_training(self, tiny_data: HeteroData) -> None:
        model, batch = self.build(tiny_data, dropout=0.5), self.batch(tiny_data)
        trained = {model.loss(tiny_data, batch)["bce"].item() for _ in range(5)}
        model.eval()
        assert len(trained) == 5
        assert len({model.loss(tiny_data, batch)["bce"].item() for _ in range(5)}) == 1

    @pytest.mark.parametrize("value", [1.0, -0.1])
    def test_dropout_that_is_no_share(self, tiny_data: HeteroData, value: float) -> None:
        with pytest.raises(ValueError, match=rf"^'dropout' must lie in \[0, 1\) \(got {value}\)$"):
            self.build(tiny_data, dropout=value)
