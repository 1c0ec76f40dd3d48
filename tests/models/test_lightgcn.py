from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import LightGCN
from pyg_mmrec.typing import INTERACTS
from tests.models.model_tests import ModelTests


def propagate(data: HeteroData, user: np.ndarray, item: np.ndarray, num_layers: int) -> tuple[np.ndarray, np.ndarray]:
    """Eq. 3, 4 and 7 of the LightGCN paper with the whole matrix of users and items."""
    num_users = len(user)
    a = np.zeros((len(user) + len(item),) * 2)
    for u, i in data[INTERACTS].edge_index.t().tolist():
        a[u, num_users + i] = a[num_users + i, u] = 1
    scale = 1 / np.sqrt(np.maximum(a.sum(1), 1))
    layers = [np.concatenate([user, item])]
    for _ in range(num_layers):
        layers.append(scale[:, None] * a * scale @ layers[-1])
    mean = np.mean(layers, axis=0)
    return mean[:num_users], mean[num_users:]


class TestLightGCN(ModelTests[LightGCN]):
    model_class = LightGCN

    @pytest.mark.parametrize("num_layers", [0, 1, 3])
    def test_forward_equals_its_equations(self, tiny_data: HeteroData, num_layers: int) -> None:
        model = self.build(tiny_data, num_layers=num_layers)
        tables = model.user_emb.weight.detach().numpy(), model.item_emb.weight.detach().numpy()
        user, item = propagate(tiny_data, *tables, num_layers)
        out = model(tiny_data)
        np.testing.assert_allclose(out.user.detach().numpy(), user, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(out.item.detach().numpy(), item, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(self.all_scores(model, tiny_data).numpy(), user @ item.T, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    def test_loss_equals_its_equation(self, tiny_data: HeteroData, l2_form: str) -> None:
        model, batch = self.build(tiny_data, l2_weight=0.3, l2_form=l2_form), self.batch(tiny_data)
        tables = model.user_emb.weight.detach().numpy(), model.item_emb.weight.detach().numpy()
        user, item = propagate(tiny_data, *tables, 3)
        bpr, squares = 0.0, np.zeros(3)
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr -= np.log(1 / (1 + np.exp(-(user[u] @ item[i] - user[u] @ item[j]))))
            squares += [np.square(row).sum() for row in (tables[0][u], tables[1][i], tables[1][j])]
        size = batch.user.numel()
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        losses = model.loss(tiny_data, batch)
        assert losses["bpr"].item() == pytest.approx(bpr / size, rel=1e-5)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / size, rel=1e-5)
        assert set(losses) == {"bpr", "l2"}

    def test_items_that_nobody_has_keep_a_share_of_their_embedding(self, tiny_data: HeteroData) -> None:
        edge_index = tiny_data[INTERACTS].edge_index
        tiny_data[INTERACTS].edge_index = edge_index[:, edge_index[1] != 7]
        model = self.build(tiny_data, num_layers=3)
        torch.testing.assert_close(model(tiny_data).item[7], model.item_emb.weight[7] / 4)
