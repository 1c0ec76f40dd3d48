from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import DualGNN
from pyg_mmrec.transforms import UserCooccurrence
from pyg_mmrec.typing import COOCCURS, INTERACTS
from pyg_mmrec.utils import cooccurrence_operator, with_operators
from tests.models.in_numpy import adjacency, light_gcn, numbers, projected, softmax
from tests.models.model_tests import NAMES, FeatureModelTests, Views, with_user_graphs


@pytest.fixture
def tiny_split(tiny_split: Views) -> Views:
    """With user-user graphs."""
    views = tuple(map(with_user_graphs, tiny_split))
    return views  # type: ignore[return-value]


def representations(data: HeteroData, model: DualGNN) -> tuple[np.ndarray, np.ndarray]:
    """Users and items by the equations."""
    a = adjacency(data[INTERACTS].edge_index)
    pairs = [
        light_gcn(a, numbers(model.user_emb[name].weight), item, model.num_layers)
        for name, item in projected(data, model).items()
    ]
    user_parts, item_parts = ([pair[side] for pair in pairs] for side in (0, 1))
    if model.fusion == "concat":
        user, item = np.concatenate(user_parts, axis=1), np.concatenate(item_parts, axis=1)
    else:
        weight = np.zeros((40, len(pairs)))
        if model.fusion == "weighted" and len(pairs) > 1:
            weight = numbers(model.user_weight.weight)
        weight = softmax(weight)
        user = sum(weight[:, m : m + 1] * part for m, part in enumerate(user_parts))
        item = sum(item_parts)
    graph, out = data[COOCCURS], user.copy()
    for u in range(40):
        edges = [edge for edge, centre in enumerate(graph.edge_index[1].tolist()) if centre == u]
        counts = [int(graph["count"][edge]) for edge in edges]
        for edge, count in zip(edges, counts, strict=True):
            out[u] += np.exp(count) / np.exp(counts).sum() * user[int(graph.edge_index[0, edge])]
    return out, item


class TestDualGNN(FeatureModelTests[DualGNN]):
    model_class = DualGNN

    def drawn(self, data: HeteroData, **init_args: Any) -> DualGNN:
        """Users weigh modalities unevenly, too."""
        model = super().drawn(data, **init_args)
        if model.user_weight is not None:
            torch.nn.init.normal_(model.user_weight.weight)
        return model

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
