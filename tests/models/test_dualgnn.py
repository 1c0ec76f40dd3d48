from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import DualGNN
from pyg_mmrec.transforms import UserCooccurrence
from pyg_mmrec.typing import COOCCURS, INTERACTS
from pyg_mmrec.utils import cooccurrence_operator, modality_masks, with_operators
from tests.models.model_tests import FeatureModelTests, Views, with_features, with_user_graphs

NAMES = ["audio", "image", "text"]


@pytest.fixture
def tiny_split(tiny_split: Views) -> Views:
    """With user-user graphs."""
    views = tuple(map(with_user_graphs, tiny_split))
    return views  # type: ignore[return-value]


def representations(data: HeteroData, model: DualGNN) -> tuple[np.ndarray, np.ndarray]:
    """Users and items by the equations."""
    a = np.zeros((40, 30))
    for u, i in data[INTERACTS].edge_index.t().tolist():
        a[u, i] = 1
    a = a / np.sqrt(np.maximum(a.sum(1, keepdims=True), 1)) / np.sqrt(np.maximum(a.sum(0), 1))
    names, masks = list(model.in_channels), modality_masks(data, list(model.in_channels))
    user_parts, item_parts = [], []
    for name in names:
        lin = model.projection.lins[name]
        item = data["item"][f"x_{name}"].numpy() @ lin.weight.detach().numpy().T + lin.bias.detach().numpy()
        if name in masks:
            item = item * masks[name].numpy()[:, None]
        users, items = [model.user_emb[name].weight.detach().numpy()], [item]
        for _ in range(model.num_layers):
            users, items = [*users, a @ items[-1]], [*items, a.T @ users[-1]]
        user_parts.append(np.mean(users, axis=0))
        item_parts.append(np.mean(items, axis=0))
    if model.fusion == "concat":
        user, item = np.concatenate(user_parts, axis=1), np.concatenate(item_parts, axis=1)
    else:
        weight = np.zeros((40, len(names)))
        if model.fusion == "weighted" and len(names) > 1:
            weight = model.user_weight.weight.detach().numpy()
        weight = np.exp(weight) / np.exp(weight).sum(1, keepdims=True)
        user = sum(weight[:, m : m + 1] * part for m, part in enumerate(user_parts))
        item = sum(item_parts)
    graph, out = data[COOCCURS], user.copy()
    for u in range(40):
        edges = [edge for edge, centre in enumerate(graph.edge_index[1].tolist()) if centre == u]
        counts = [int(graph["count"][edge]) for edge in edges]
        for edge, count in zip(edges, counts, strict=True):
            out[u] += np.exp(count) / np.exp(counts).sum() * user[int(graph.edge_index[0, edge])]
    return out, item


class TestDualGNN(FeatureModelTests):
    model_class = DualGNN

    def build(self, data: HeteroData, seed: int = 0, **init_args: object) -> DualGNN:
        model = super().build(data, seed, **init_args)
        assert isinstance(model, DualGNN)
        return model

    def drawn(self, data: HeteroData, **init_args: object) -> DualGNN:
        """A model whose biases are not zero and whose users weigh modalities unevenly."""
        model = self.build(data, **init_args)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.uniform_(-0.5, 0.5)
                elif name.startswith("user_weight"):
                    parameter.normal_()
        return model

    @pytest.fixture
    def data(self, tiny_data: HeteroData, request: pytest.FixtureRequest) -> HeteroData:
        """The tiny graph with as many modalities as the test asks for, three by default."""
        x = {"audio": torch.rand(30, 5), "image": tiny_data["item"].x_image, "text": tiny_data["item"].x_text}
        return with_features(tiny_data, {name: x[name] for name in NAMES[: getattr(request, "param", 3)]})

    @pytest.mark.parametrize("num_layers", [0, 2])
    @pytest.mark.parametrize("fusion", ["weighted", "mean", "concat"])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_forward_equals_its_equations(self, data: HeteroData, fusion: str, num_layers: int) -> None:
        model = self.drawn(data, fusion=fusion, num_layers=num_layers)
        user, item = representations(data, model)
        out = model(data)
        np.testing.assert_allclose(out.user.detach().numpy(), user, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out.item.detach().numpy(), item, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(self.all_scores(model, data).numpy(), user @ item.T, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData) -> None:
        model, batch = self.drawn(data, l2_weight=0.3), self.batch(data)
        user, item = representations(data, model)
        bpr, squares = 0.0, 0.0
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(user[u] @ item[j] - user[u] @ item[i]))
            squares += sum(float(table.weight[u].detach().square().sum()) for table in model.user_emb.values())
        losses = model.loss(data, batch)
        assert set(losses) == {"bpr", "l2"}
        assert losses["bpr"].item() == pytest.approx(bpr / batch.user.numel(), rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * squares / 2 / batch.user.numel(), rel=1e-4)

    def test_items_without_a_modality_send_nothing_of_it(self, data: HeteroData) -> None:
        data["item"].mask_image = torch.arange(30) % 3 > 0
        model = self.drawn(data)
        np.testing.assert_allclose(model(data).item.detach().numpy(), representations(data, model)[1], atol=1e-5)
        before = self.all_scores(model, data)
        data["item"].x_image[::3] = 7
        assert torch.equal(self.all_scores(model, data), before)

    @pytest.mark.parametrize("data", [1], indirect=True)
    def test_one_modality_is_not_weighed(self, data: HeteroData) -> None:
        scores = [self.all_scores(self.build(data, fusion=fusion), data) for fusion in ("weighted", "mean", "concat")]
        assert self.build(data).user_weight is None
        torch.testing.assert_close(scores[0], scores[1])
        torch.testing.assert_close(scores[0], scores[2])

    def test_users_without_neighbours_keep_their_own(self, data: HeteroData) -> None:
        model, graph = self.drawn(data), data[COOCCURS]
        with_all = model(data)
        kept = graph.edge_index[1] != 3
        graph.edge_index, graph.edge_weight = graph.edge_index[:, kept], graph.edge_weight[kept]
        alone = model(data)
        others = torch.arange(40) != 3
        torch.testing.assert_close(alone.user[others], with_all.user[others])
        torch.testing.assert_close(alone.item, with_all.item)
        assert not torch.allclose(alone.user[3], with_all.user[3])

    def test_the_graph_of_users_is_held_with_the_data(self, data: HeteroData) -> None:
        view = with_operators(data)
        assert cooccurrence_operator(view) is cooccurrence_operator(view)
        assert cooccurrence_operator(data) is not cooccurrence_operator(data)
        operator = cooccurrence_operator(view)
        torch.testing.assert_close(operator.to_dense().sum(1), torch.ones(40))
        assert operator.shape == (40, 40)

    def test_modal_items_are_the_projected_features(self, data: HeteroData) -> None:
        model = self.drawn(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        for name, x in model.modal_items(data).items():
            torch.testing.assert_close(x, model.projection.lins[name](data["item"][f"x_{name}"]))

    def test_data_without_the_graph_of_users(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        del tiny_data[COOCCURS]
        message = r"^the data has no graph of users with common items: apply pyg_mmrec.transforms.UserCooccurrence to"
        for call in (lambda: model(tiny_data), lambda: self.losses(model, tiny_data)):
            with pytest.raises(ValueError, match=message):
                call()

    def test_a_graph_that_names_no_users(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        UserCooccurrence(k=2)(tiny_data)
        tiny_data[COOCCURS].edge_index = tiny_data[COOCCURS].edge_index + 5
        with pytest.raises(ValueError, match=r"names users outside 0..39 \(got 5..44\)"):
            model(tiny_data)

    def test_bad_arguments(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'fusion' must be 'weighted', 'mean' or 'concat' \(got 'sum'\)$"):
            self.build(tiny_data, fusion="sum")
        with pytest.raises(ValueError, match=r"^'l2_weight' must not be negative \(got -1.0\)$"):
            self.build(tiny_data, l2_weight=-1.0)
        with pytest.raises(ValueError, match=r"^'num_layers' must not be negative \(got -1\)$"):
            self.build(tiny_data, num_layers=-1)
