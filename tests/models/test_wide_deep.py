from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import WideDeep
from tests.models.click_tests import CATEGORY, ClickModelTests, fields_of, layers_of, perceptron


class TestWideDeep(ClickModelTests[WideDeep]):
    model_class = WideDeep

    def logit(self, model: WideDeep, data: HeteroData, user: int, item: int) -> float:
        """Eq. 1 to 3: w on all one-hot fields and their cross products, and the perceptron."""
        sizes = [40, 30, *([model.num_categories] if model.num_categories else [])]
        x = [np.zeros(size) for size in sizes]
        x[0][user] = x[1][item] = 1
        w = [model.weights.user_emb.weight, model.weights.item_emb.weight]
        if model.cross_weight is not None and model.weights.category_emb is not None:
            category = int(data["item"].category[item])
            x[2][category : category + 1] = category >= 0
            x.append(np.array([one * other for one in x[0] for other in x[2]]))  # phi
            w += [model.weights.category_emb.weight, model.cross_weight]
        wide = sum(float(weight.detach().numpy().ravel() @ part) for weight, part in zip(w, x, strict=True))
        return wide + perceptron(layers_of(model.mlp), np.concatenate(fields_of(model.fields, data, user, item)))

    def test_layers_are_halved(self) -> None:
        model = WideDeep(3, 4)
        sizes = [part.in_features for part in model.mlp.modules() if isinstance(part, torch.nn.Linear)]
        assert sizes == [64, 1024, 512, 256]
        assert not any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in model.modules())

    @pytest.mark.parametrize("num_layers", [3, 100])
    def test_layers_that_cannot_be_halved(self, num_layers: int) -> None:
        with pytest.raises(ValueError, match=rf"^'mlp_channels' cannot be halved for each of {num_layers} layers"):
            WideDeep(3, 4, mlp_channels=3, num_layers=num_layers)

    def test_crosses_that_never_occur_stay_at_zero(self, tiny_data: HeteroData) -> None:
        tiny_data["item"].category = CATEGORY
        model, batch = self.build(tiny_data), self.batch(tiny_data)
        assert model.cross_weight is not None
        assert model.cross_weight.abs().max() == 0
        model.loss(tiny_data, batch)["bce"].backward()
        seen = torch.zeros(40, 3, dtype=torch.bool)
        for item in (batch.pos_item, batch.neg_item):
            known = CATEGORY[item] >= 0
            seen[batch.user[known], CATEGORY[item][known]] = True
        assert torch.equal(model.cross_weight.grad.view(40, 3) != 0, seen)

    def test_crosses_are_drawn_anew(self, tiny_data: HeteroData) -> None:
        tiny_data["item"].category = CATEGORY
        model = self.drawn(tiny_data)
        model.reset_parameters()
        assert model.cross_weight.abs().max() == 0
