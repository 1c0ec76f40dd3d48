from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch_geometric.data import HeteroData

from pyg_mmrec.models import FREEDOM
from pyg_mmrec.typing import INTERACTS, similar
from pyg_mmrec.utils import interaction_operator
from tests.models.in_numpy import adjacency, item_graph, light_gcn, numbers
from tests.models.model_tests import FeatureModelTests, with_features


def smooth(data: HeteroData, model: FREEDOM, alpha: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Users, and items with their modal neighbourhood, as the equations have them."""
    s = sum(weight * item_graph(data, name) for name, weight in alpha.items())
    first, a = numbers(model.item_emb.weight), adjacency(data[INTERACTS].edge_index)
    user, item = light_gcn(a, numbers(model.user_emb.weight), first, model.num_layers)
    return user, item + np.linalg.matrix_power(s, model.num_item_layers) @ first


def kept_edges(view: HeteroData) -> set[tuple[int, int]]:
    return set(map(tuple, view[INTERACTS].edge_index.t().tolist()))


class TestFREEDOM(FeatureModelTests[FREEDOM]):
    model_class = FREEDOM

    @pytest.mark.parametrize(("num_layers", "num_item_layers"), [(2, 1), (3, 2), (0, 0)])
    def test_forward_equals_its_equations(self, tiny_data: HeteroData, num_layers: int, num_item_layers: int) -> None:
        alpha = {"image": 0.3, "text": 0.7}
        model = self.build(tiny_data, num_layers=num_layers, num_item_layers=num_item_layers, graph_weights=alpha)
        user, item = smooth(tiny_data, model, alpha)
        out = model(tiny_data)
        np.testing.assert_allclose(out.user.detach().numpy(), user, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(out.item.detach().numpy(), item, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(self.all_scores(model, tiny_data).numpy(), user @ item.T, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize(
        ("names", "alpha"),
        [
            (["image", "text"], {"image": 0.1, "text": 0.9}),
            (["text"], {"text": 1.0}),
            (["audio", "text"], {"audio": 0.5, "text": 0.5}),
            (["audio", "image", "text"], {"audio": 1 / 3, "image": 1 / 3, "text": 1 / 3}),
        ],
        ids=str,
    )
    def test_default_weights_of_the_graphs(
        self, tiny_data: HeteroData, names: list[str], alpha: dict[str, float]
    ) -> None:
        features = {"audio": torch.rand(30, 5), "image": tiny_data["item"].x_image, "text": tiny_data["item"].x_text}
        data = with_features(tiny_data, {name: features[name] for name in names})
        model = self.build(data)
        found = model(data).item.detach().numpy()
        np.testing.assert_allclose(found, smooth(data, model, alpha)[1], rtol=1e-4, atol=1e-6)

    def test_loss_equals_its_equation(self, tiny_data: HeteroData) -> None:
        model, batch = self.build(tiny_data, modal_loss_weight=0.2), self.batch(tiny_data)
        with torch.no_grad():
            model.projection.lins["text"].bias.uniform_(-1, 1)
        user, item = smooth(tiny_data, model, {"image": 0.1, "text": 0.9})
        terms = {"bpr": (1.0, item)}
        for name in ("image", "text"):
            lin = model.projection.lins[name]
            x = tiny_data["item"][f"x_{name}"].numpy() @ lin.weight.detach().numpy().T + lin.bias.detach().numpy()
            terms[f"bpr_{name}"] = (0.2, x)
        losses = model.loss(tiny_data, batch)
        assert set(losses) == set(terms)
        for name, (weight, table) in terms.items():
            total = 0.0
            for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
                total += np.log1p(np.exp(user[u] @ table[j] - user[u] @ table[i]))
            assert losses[name].item() == pytest.approx(weight * total / batch.user.numel(), rel=1e-4)

    def test_without_the_modal_loss_no_features_are_read(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, modal_loss_weight=0.0)
        del tiny_data["item"].x_image, tiny_data["item"].x_text
        assert set(self.losses(model, tiny_data)) == {"bpr"}
        assert {name for name, _ in model.named_parameters()} == {"user_emb.weight", "item_emb.weight"}
        FREEDOM(40, 30, {}, modal_loss_weight=0.0)

    @pytest.mark.parametrize(("pruning", "num_kept"), [(0.8, 40), (0.7, 60), (0.9, 20), (0.0, 200), (0.333, 133)])
    def test_number_of_kept_edges(self, tiny_data: HeteroData, pruning: float, num_kept: int) -> None:
        view = self.build(tiny_data, pruning=pruning).resample(tiny_data, torch.Generator().manual_seed(0))
        assert view[INTERACTS].edge_index.size(1) == num_kept
        assert len(kept_edges(view)) == num_kept  # none twice
        assert kept_edges(view) <= kept_edges(tiny_data)

    def test_pruned_edges_are_normalised_anew(self, tiny_data: HeteroData) -> None:
        view = self.build(tiny_data).resample(tiny_data, torch.Generator().manual_seed(0))
        expected = adjacency(view[INTERACTS].edge_index).T
        np.testing.assert_allclose(interaction_operator(view).to_dense().numpy(), expected, rtol=1e-5)

    def test_edges_are_kept_in_proportion_to_their_weight(self) -> None:
        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = 3, 4
        edge_index = torch.tensor([[0, 0, 0, 1, 1, 2, 0], [0, 1, 2, 0, 1, 0, 3]])
        data[INTERACTS].edge_index = edge_index
        model = FREEDOM(3, 4, {}, pruning=6 / 7, modal_loss_weight=0.0)
        count = np.zeros(7)
        generator = torch.Generator().manual_seed(0)
        for _ in range(3000):
            ((u, i),) = kept_edges(model.resample(data, generator))
            count[((edge_index[0] == u) & (edge_index[1] == i)).numpy()] += 1
        degree_user, degree_item = np.bincount(edge_index[0]), np.bincount(edge_index[1])
        p = 1 / np.sqrt(degree_user[edge_index[0]] * degree_item[edge_index[1]])
        assert chisquare(count, 3000 * p / p.sum()).pvalue > 1e-3

    def test_pruning_follows_the_generator(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        one, two, other = (
            kept_edges(model.resample(tiny_data, torch.Generator().manual_seed(seed))) for seed in (1, 1, 2)
        )
        assert one == two
        assert one != other

    def test_pruning_leaves_the_rest_of_the_view(self, tiny_data: HeteroData) -> None:
        view = self.build(tiny_data).resample(tiny_data, torch.Generator().manual_seed(0))
        assert torch.equal(view[INTERACTS].edge_label_index, tiny_data[INTERACTS].edge_label_index)
        assert view["item"].x_text is tiny_data["item"].x_text
        assert torch.equal(view[similar("item", "text")].edge_index, tiny_data[similar("item", "text")].edge_index)

    def test_recommending_uses_the_whole_graph(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, pruning=0.9)
        before = self.all_scores(model, tiny_data)
        model.loss(model.resample(tiny_data, torch.Generator().manual_seed(0)), self.batch(tiny_data))
        assert torch.equal(self.all_scores(model, tiny_data), before)
        scores, items = model.recommend(tiny_data, torch.tensor([6]), k=3)
        torch.testing.assert_close(scores[0], before[6, items[0]])

    def test_trained_features(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, train_features=True)
        fixed = self.build(tiny_data)
        for name in ("image", "text"):
            assert torch.equal(model.features[name], tiny_data["item"][f"x_{name}"])
            assert model.features[name] is not tiny_data["item"][f"x_{name}"]
        losses = self.losses(model, tiny_data)
        assert losses == self.losses(fixed, tiny_data)
        sum(losses.values()).backward()
        batch = self.batch(tiny_data)
        read = set(batch.pos_item.tolist()) | set(batch.neg_item.tolist())
        for parameter in model.features.values():
            assert set(parameter.grad.abs().sum(1).nonzero().flatten().tolist()) == read
        with torch.no_grad():
            model.features["text"].mul_(2)
        assert self.losses(model, tiny_data)["bpr_text"] != losses["bpr_text"]
        assert len(fixed.features) == 0

    @pytest.mark.parametrize("pruning", [-0.1, 1.0])
    def test_pruning_out_of_range(self, tiny_data: HeteroData, pruning: float) -> None:
        with pytest.raises(ValueError, match=rf"^'pruning' must lie in \[0, 1\) \(got {pruning}\)$"):
            self.build(tiny_data, pruning=pruning)

    def test_weights_of_other_graphs(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, graph_weights={"image": 1.0})
        with pytest.raises(ValueError, match=r"'graph_weights', must name the graphs \['image', 'text'\] "):
            model(tiny_data)

    def test_data_without_item_graphs(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        for name in ("image", "text"):
            del tiny_data[similar("item", name)]
        with pytest.raises(ValueError, match=r"^the data has no item-item graph: "):
            model(tiny_data)
