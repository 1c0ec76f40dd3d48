from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import GRCN
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import modality_masks
from tests.models.in_numpy import linear, numbers, unit
from tests.models.model_tests import NAMES, FeatureModelTests


def softmax(scores: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Over the edges of each row; rows without any get zeros."""
    share = np.exp(scores) * edges
    return share / np.maximum(share.sum(1, keepdims=True), 1e-12)


def representations(data: HeteroData, model: GRCN) -> tuple[np.ndarray, np.ndarray]:
    """Users and items by the equations, with dense matrices."""
    edges = np.zeros((40, 30))
    for u, i in data[INTERACTS].edge_index.t().tolist():
        edges[u, i] = 1
    masks = modality_masks(data, list(model.in_channels))
    users, items, user_weights, item_weights = [], [], [], []
    for m, (name, lin) in enumerate(model.projection.lins.items()):
        z = linear(lin, data["item"][f"x_{name}"].numpy())
        held = edges * masks[name].numpy() if name in masks else edges
        item = unit(np.where(z > 0, z, 0.01 * z)) * (masks[name].numpy()[:, None] if name in masks else 1)
        user = unit(numbers(model.preference[name].weight))
        for _ in range(model.num_routing):
            user = unit(user + softmax(user @ item.T, held) @ item)
        to_user, to_item = softmax(user @ item.T, held), softmax(item @ user.T, held.T)
        users.append(user + to_user @ item)
        items.append(item + to_item @ user)
        user_weights.append(model.user_confidence.detach().numpy()[:, m : m + 1] * to_user)
        item_weights.append(model.item_confidence.detach().numpy()[:, m : m + 1] * to_item)
    to_user = np.maximum(np.max(user_weights, axis=0), 0) * edges
    to_item = np.maximum(np.max(item_weights, axis=0), 0) * edges.T
    layers = [(numbers(model.user_emb.weight), numbers(model.item_emb.weight))]
    for _ in range(model.num_layers):
        layers.append((to_user @ layers[-1][1], to_item @ layers[-1][0]))
    user_id, item_id = (np.sum(side, axis=0) for side in zip(*layers, strict=True))
    return np.concatenate([user_id, *users], axis=1), np.concatenate([item_id, *items], axis=1)


class TestGRCN(FeatureModelTests[GRCN]):
    model_class = GRCN

    def drawn(self, data: HeteroData, **init_args: Any) -> GRCN:
        """Some nodes trust no modality, too."""
        model = super().drawn(data, **init_args)
        for confidence in (model.user_confidence, model.item_confidence):
            torch.nn.init.uniform_(confidence, -1, 2)
        return model

    @pytest.mark.parametrize(("num_layers", "num_routing"), [(1, 0), (2, 3)])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_forward_equals_its_equations(self, data: HeteroData, num_layers: int, num_routing: int) -> None:
        data[INTERACTS].edge_index = data[INTERACTS].edge_index[:, 5:]  # user 0 has no items
        model = self.drawn(data, num_layers=num_layers, num_routing=num_routing)
        user, item = representations(data, model)
        out = model(data)
        np.testing.assert_allclose(out.user.detach().numpy(), user, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out.item.detach().numpy(), item, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(self.all_scores(model, data).numpy(), user @ item.T, rtol=1e-4, atol=1e-4)
        for behavior, modal, whole in zip(out.behavior, out.modal, out[:2], strict=True):
            assert torch.equal(torch.cat([behavior, modal], dim=1), whole)
            assert behavior.size(1) == 16

    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData) -> None:
        model, batch = self.drawn(data, l2_weight=0.3), self.batch(data)
        user, item = representations(data, model)
        user_id, item_id = numbers(model.user_emb.weight), numbers(model.item_emb.weight)
        bpr, squares = 0.0, 0.0
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(user[u] @ item[j] - user[u] @ item[i]))
            squares += sum(np.square(row).sum() for row in (user_id[u], item_id[i], item_id[j]))
        losses = model.loss(data, batch)
        assert set(losses) == {"bpr", "l2"}
        assert losses["bpr"].item() == pytest.approx(bpr / batch.user.numel(), rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * squares / 2 / batch.user.numel(), rel=1e-4)

    def test_items_without_a_modality_are_left_out_of_it(self, data: HeteroData) -> None:
        data["item"].mask_image = torch.arange(30) % 3 > 0
        model = self.drawn(data)
        for found, expected in zip(model(data)[:2], representations(data, model), strict=True):
            np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
        assert model(data).modal.item[::3].unflatten(1, (3, 16))[:, 1].abs().sum() == 0
        before = self.all_scores(model, data)
        data["item"].x_image[::3] = 7
        assert torch.equal(self.all_scores(model, data), before)

    def test_nothing_passes_to_nodes_that_trust_no_modality(self, data: HeteroData) -> None:
        model = self.build(data)
        with torch.no_grad():
            model.user_confidence[7:] = -1
            model.item_confidence.fill_(-1)
        out = model(data).behavior
        torch.testing.assert_close(out.item, model.item_emb.weight)
        torch.testing.assert_close(out.user[7:], model.user_emb.weight[7:])
        assert not torch.isclose(out.user[:7], model.user_emb.weight[:7]).all(1).any()

    def test_no_edge_is_pruned_at_the_start(self, data: HeteroData) -> None:
        model = self.build(data)
        for confidence in (model.user_confidence, model.item_confidence):
            assert 0 <= confidence.min() < confidence.max() <= 1

    def test_routing_draws_preferences_to_the_users_items(self, data: HeteroData) -> None:
        """The distance of a preference to the mean prototype of the user's items shrinks with every iteration."""
        user, item = data[INTERACTS].edge_index
        cosine = []
        for num_routing in range(4):
            model = self.build(data, num_routing=num_routing)
            modal = model(data).modal.user[:, :16]
            mean = torch.zeros(40, 16).index_add_(0, user, model.modal_items(data)["audio"][item])
            cosine.append(torch.cosine_similarity(modal, mean).mean().item())
        assert cosine == sorted(cosine)
        assert cosine[3] > cosine[0] + 0.05

    def test_modal_items_are_the_prototypes(self, data: HeteroData) -> None:
        model = self.drawn(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        for x in model.modal_items(data).values():
            assert x.shape == (30, 16)
            torch.testing.assert_close(x.norm(dim=1), torch.ones(30))

    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("num_layers", 0, "be positive"),
            ("num_routing", -1, "not be negative"),
            ("l2_weight", -1, "not be negative"),
        ],
    )
    def test_bad_arguments(self, tiny_data: HeteroData, name: str, value: int, rule: str) -> None:
        with pytest.raises(ValueError, match=rf"^'{name}' must {rule} \(got {value}\)$"):
            self.build(tiny_data, **{name: value})
