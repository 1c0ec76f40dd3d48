from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import LayerGCN
from pyg_mmrec.typing import INTERACTS
from tests.models.model_tests import ModelTests


def refined_layers(data: HeteroData, model: LayerGCN) -> list[np.ndarray]:
    """Layers 1 to L of users and items together, node by node."""
    ego = torch.cat([model.user_emb.weight, model.item_emb.weight]).detach().numpy()
    a = np.zeros((len(ego),) * 2)
    for u, i in data[INTERACTS].edge_index.t().tolist():
        a[u, model.num_users + i] = a[model.num_users + i, u] = 1
    scale = 1 / np.sqrt(np.maximum(a.sum(1), 1))
    x, layers = ego, []
    for _ in range(model.num_layers):
        x = scale[:, None] * a * scale @ x
        for n in range(len(x)):
            length = np.linalg.norm(x[n]) * np.linalg.norm(ego[n])
            x[n] *= x[n] @ ego[n] / length if length else 0
        layers.append(x)
    return layers


class TestLayerGCN(ModelTests[LayerGCN]):
    model_class = LayerGCN

    @pytest.mark.parametrize("num_layers", [1, 2, 4])
    def test_forward_equals_its_equations(self, tiny_data: HeteroData, num_layers: int) -> None:
        model = self.build(tiny_data, num_layers=num_layers)
        expected = np.sum(refined_layers(tiny_data, model), axis=0)
        out = model(tiny_data)
        np.testing.assert_allclose(torch.cat([out.user, out.item]).detach().numpy(), expected, rtol=1e-4, atol=1e-6)
        scores = self.all_scores(model, tiny_data).numpy()
        np.testing.assert_allclose(scores, expected[:40] @ expected[40:].T, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    def test_loss_equals_its_equation(self, tiny_data: HeteroData, l2_form: str) -> None:
        model, batch = self.build(tiny_data, l2_weight=0.3, l2_form=l2_form), self.batch(tiny_data)
        tables = model.user_emb.weight.detach().numpy(), model.item_emb.weight.detach().numpy()
        x = np.sum(refined_layers(tiny_data, model), axis=0)
        user, item = x[:40], x[40:]
        bpr, squares = 0.0, np.zeros(3)
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(user[u] @ item[j] - user[u] @ item[i]))
            squares += [np.square(row).sum() for row in (tables[0][u], tables[1][i], tables[1][j])]
        size = batch.user.numel()
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        losses = model.loss(tiny_data, batch)
        assert set(losses) == {"bpr", "l2"}
        assert losses["bpr"].item() == pytest.approx(bpr / size, rel=1e-5)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / size, rel=1e-5)

    def test_nodes_without_edges(self, tiny_data: HeteroData) -> None:
        """The ID embedding is no layer, so they are left with nothing, and gradients stay finite."""
        edge_index = tiny_data[INTERACTS].edge_index
        tiny_data[INTERACTS].edge_index = edge_index[:, (edge_index[1] != 7) & (edge_index[0] != 3)]
        model = self.build(tiny_data)
        out = model(tiny_data)
        assert out.item[7].abs().sum() == out.user[3].abs().sum() == 0
        (out.user.square().sum() + out.item.square().sum()).backward()
        assert model.item_emb.weight.grad.isfinite().all()

    def test_a_layer_against_the_id_embedding_is_turned(self, tiny_data: HeteroData) -> None:
        """The second layer goes on from the refined first: neighbours that oppose a node reach it with their sign."""
        model = self.build(tiny_data, num_layers=1)
        with torch.no_grad():
            model.item_emb.weight.fill_(-1)
            model.user_emb.weight.fill_(1)
        out = model(tiny_data)
        assert (out.user > 0).all()
        assert (out.item[tiny_data[INTERACTS].edge_index[1].unique()] < 0).all()

    @pytest.mark.parametrize(("pruning", "num_kept"), [(0.1, 180), (0.0, 200), (0.5, 100)])
    def test_each_epoch_prunes(self, tiny_data: HeteroData, pruning: float, num_kept: int) -> None:
        model = self.build(tiny_data, pruning=pruning)
        view, again = (model.resample(tiny_data, torch.Generator().manual_seed(seed)) for seed in (0, 1))
        edges = view[INTERACTS].edge_index
        assert edges.size(1) == num_kept
        assert torch.equal(edges, again[INTERACTS].edge_index) == (pruning == 0)
        expected = np.sum(refined_layers(view, model), axis=0)[:40]
        np.testing.assert_allclose(model(view).user.detach().numpy(), expected, rtol=1e-4, atol=1e-6)

    def test_recommending_uses_the_whole_graph(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, pruning=0.5)
        before = self.all_scores(model, tiny_data)
        model.loss(model.resample(tiny_data, torch.Generator().manual_seed(0)), self.batch(tiny_data))
        scores, items = model.recommend(tiny_data, torch.tensor([6]), k=3)
        torch.testing.assert_close(scores[0], before[6, items[0]])

    @pytest.mark.parametrize("pruning", [-0.1, 1.0])
    def test_pruning_out_of_range(self, tiny_data: HeteroData, pruning: float) -> None:
        with pytest.raises(ValueError, match=rf"^'pruning' must lie in \[0, 1\) \(got {pruning}\)$"):
            self.build(tiny_data, pruning=pruning)

    def test_there_must_be_a_layer(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'num_layers' must be positive \(got 0\)$"):
            self.build(tiny_data, num_layers=0)
