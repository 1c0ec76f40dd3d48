from __future__ import annotations

import numpy as np
import pytest
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BPRMF
from tests.models.model_tests import ModelTests


class TestBPRMF(ModelTests[BPRMF]):
    model_class = BPRMF

    def test_scores_are_inner_products(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        user, item = model.user_emb.weight.detach().numpy(), model.item_emb.weight.detach().numpy()
        np.testing.assert_allclose(self.all_scores(model, tiny_data).numpy(), user @ item.T, rtol=1e-5, atol=1e-7)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    def test_loss_equals_its_equation(self, tiny_data: HeteroData, l2_form: str) -> None:
        model, batch = self.build(tiny_data, l2_weight=0.3, l2_form=l2_form), self.batch(tiny_data)
        user, item = model.user_emb.weight.detach().numpy(), model.item_emb.weight.detach().numpy()
        bpr, squares = 0.0, np.zeros(3)
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr -= np.log(1 / (1 + np.exp(-(user[u] @ item[i] - user[u] @ item[j]))))
            squares += (user[u] ** 2).sum(), (item[i] ** 2).sum(), (item[j] ** 2).sum()
        size = batch.user.numel()
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        losses = model.loss(tiny_data, batch)
        assert losses["bpr"].item() == pytest.approx(bpr / size, rel=1e-5)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / size, rel=1e-5)
        assert set(losses) == {"bpr", "l2"}
