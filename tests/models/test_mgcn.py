from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import MGCN
from pyg_mmrec.nn.loss import info_nce
from pyg_mmrec.typing import INTERACTS, Triplets, similar
from pyg_mmrec.utils import modality_masks
from tests.models import in_numpy
from tests.models.in_numpy import adjacency, item_graph, light_gcn, linear, numbers, projected, sigmoid
from tests.models.model_tests import NAMES, FeatureModelTests


class Parts(NamedTuple):
    """Behaviour and modal parts of users and items, as the equations have them."""

    user_id: np.ndarray
    item_id: np.ndarray
    user_mul: np.ndarray
    item_mul: np.ndarray


def parts(data: HeteroData, model: MGCN) -> Parts:
    user, item = numbers(model.user_emb.weight), numbers(model.item_emb.weight)
    a = adjacency(data[INTERACTS].edge_index)
    user_id, item_id = light_gcn(a, user, item, model.num_layers)
    views, masks = {}, modality_masks(data, list(model.in_channels))
    for name, first in projected(data, model).items():
        purified = item * sigmoid(linear(model.gates[name].lin, first))
        if name in masks:
            purified = purified * masks[name].numpy()[:, None]
        views[name] = np.linalg.matrix_power(item_graph(data, name), model.num_item_layers) @ purified
    user_views = {name: a @ view for name, view in views.items()}
    return Parts(user_id, item_id, fuse(model, user_views, user_id), fuse(model, views, item_id))


def fuse(model: MGCN, views: dict[str, np.ndarray], behavior: np.ndarray) -> np.ndarray:
    if len(views) == 1:
        return next(iter(views.values()))
    w3, _, q = model.attention
    out = np.zeros_like(behavior)
    for n in range(len(behavior)):
        weight = {name: np.exp(linear(q, np.tanh(linear(w3, view[n])))[0]) for name, view in views.items()}
        shared = sum(weight[name] / sum(weight.values()) * view[n] for name, view in views.items())
        out[n] = shared
        for name, view in views.items():
            preference = sigmoid(linear(model.preference[name], behavior[n]))
            out[n] += (view[n] - shared) * preference / len(views)
    return out


class TestMGCN(FeatureModelTests[MGCN]):
    model_class = MGCN

    def drawn(self, data: HeteroData, **init_args: Any) -> MGCN:
        """Attention and gates are far from even, too."""
        model = super().drawn(data, **init_args)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if not name.endswith(("bias", "emb.weight")):
                    parameter.mul_(3)
        return model

    @pytest.mark.parametrize(("num_layers", "num_item_layers"), [(2, 1), (3, 2), (0, 0)])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_forward_equals_its_equations(self, data: HeteroData, num_layers: int, num_item_layers: int) -> None:
        model = self.drawn(data, num_layers=num_layers, num_item_layers=num_item_layers)
        expected, out = parts(data, model), model(data)
        for found, value in zip((*out.behavior, *out.modal), expected, strict=True):
            np.testing.assert_allclose(found.detach().numpy(), value, rtol=1e-4, atol=1e-5)
        user, item = expected.user_id + expected.user_mul, expected.item_id + expected.item_mul
        np.testing.assert_allclose(out.user.detach().numpy(), user, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out.item.detach().numpy(), item, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(self.all_scores(model, data).numpy(), user @ item.T, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData, l2_form: str) -> None:
        model = self.drawn(data, contrast_weight=0.7, temperature=0.5, l2_weight=0.3, l2_form=l2_form)
        batch, value = self.batch(data), parts(data, model)
        user, item = value.user_id + value.user_mul, value.item_id + value.item_mul
        tables = model.user_emb.weight.detach().numpy(), model.item_emb.weight.detach().numpy()
        bpr, squares = 0.0, np.zeros(3)
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(user[u] @ item[j] - user[u] @ item[i]))
            squares += [np.square(row).sum() for row in (tables[0][u], tables[1][i], tables[1][j])]
        users, items = sorted(set(batch.user.tolist())), sorted(set(batch.pos_item.tolist()))
        assert len(users) < batch.user.numel()
        assert len(items) < batch.user.numel()
        contrasts = in_numpy.info_nce(value.user_id[users], value.user_mul[users], 0.5)
        contrasts += in_numpy.info_nce(value.item_id[items], value.item_mul[items], 0.5)
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        losses = model.loss(data, batch)
        assert set(losses) == {"bpr", "contrast", "l2"}
        assert losses["bpr"].item() == pytest.approx(bpr / batch.user.numel(), rel=1e-4)
        assert losses["contrast"].item() == pytest.approx(0.7 * contrasts, rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / batch.user.numel(), rel=1e-4)

    def test_each_user_and_item_is_contrasted_once(self, data: HeteroData) -> None:
        model, batch = self.build(data, contrast_weight=1.0), self.batch(data)
        once = model.loss(data, batch)["contrast"]
        for order in (torch.randperm(batch.user.numel()), torch.arange(batch.user.numel()).repeat(2)):
            again = model.loss(data, Triplets(*(part[order] for part in batch)))["contrast"]
            torch.testing.assert_close(again, once)
        alone = Triplets(*(torch.full((5,), number) for number in (3, 7, 9)))
        assert model.loss(data, alone)["contrast"].item() == pytest.approx(0, abs=1e-6)
        out = model(data)
        pairs = zip(out.behavior, out.modal, (batch.user.unique(), batch.pos_item.unique()), strict=True)
        torch.testing.assert_close(once, sum(info_nce(one[index], other[index]) for one, other, index in pairs))

    def test_items_without_a_modality_send_nothing(self, data: HeteroData) -> None:
        data["item"].mask_image = torch.arange(30) % 3 > 0
        model = self.drawn(data)
        for found, value in zip(model(data).modal, parts(data, model)[2:], strict=True):
            np.testing.assert_allclose(found.detach().numpy(), value, rtol=1e-4, atol=1e-5)
        before = self.all_scores(model, data)
        data["item"].x_image[::3] = 7
        assert torch.equal(self.all_scores(model, data), before)
        views = model._item_views(data)[:, NAMES.index("image")]
        data[similar("item", "image")].edge_index[0] = 0  # everybody's only neighbour has no image
        assert views.abs().sum() > 0
        assert model._item_views(data)[:, NAMES.index("image")].abs().sum() == 0

    @pytest.mark.parametrize("data", [1], indirect=True)
    def test_one_modality_is_its_own_view(self, data: HeteroData) -> None:
        model = self.build(data)
        assert not any(name.startswith(("attention", "preference")) for name, _ in model.named_parameters())
        torch.testing.assert_close(model(data).modal.item, model._item_views(data)[:, 0])

    def test_equal_views_are_shared(self, data: HeteroData) -> None:
        """What is fused lies between the views: equal views leave no specific part."""
        model = self.drawn(data)
        view, behavior = torch.randn(7, 1, 16), torch.randn(7, 16)
        torch.testing.assert_close(model._fuse(view.expand(-1, 3, -1), behavior), view[:, 0])

    def test_modal_items_are_the_projected_features(self, data: HeteroData) -> None:
        model = self.drawn(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        for name, x in model.modal_items(data).items():
            expected = linear(model.projection.lins[name], data["item"][f"x_{name}"].numpy())
            np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_biases_start_at_zero(self, tiny_data: HeteroData) -> None:
        model = self.drawn(tiny_data)
        model.reset_parameters()
        for name, parameter in (*model.named_parameters(), *self.build(tiny_data).named_parameters()):
            assert (parameter.abs().max() == 0) == name.endswith("bias")

    def test_graphs_of_other_modalities(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        del tiny_data[similar("item", "image")]
        message = r"graph for each modality of its features, \['image', 'text'\] \(got graphs of \['text'\]\)$"
        with pytest.raises(ValueError, match=message):
            model(tiny_data)
        with pytest.raises(ValueError, match=r"of its features, \['image'\] \(got graphs of \['text'\]\)$"):
            self.losses(self.build(tiny_data, in_channels={"image": 12}), tiny_data)

    def test_data_without_item_graphs(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        for name in ("image", "text"):
            del tiny_data[similar("item", name)]
        with pytest.raises(ValueError, match=r"^the data has no item-item graph: "):
            model(tiny_data)

    @pytest.mark.parametrize("name", ["contrast_weight", "l2_weight"])
    def test_negative_weights(self, tiny_data: HeteroData, name: str) -> None:
        with pytest.raises(ValueError, match=rf"^'{name}' must not be negative \(got -1.0\)$"):
            self.build(tiny_data, **{name: -1.0})

    def test_temperature_must_be_positive(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'temperature' must be positive \(got 0.0\)$"):
            self.build(tiny_data, temperature=0.0)
