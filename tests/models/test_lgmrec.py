from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import LGMRec
from pyg_mmrec.typing import INTERACTS, Triplets
from pyg_mmrec.utils import modality_masks
from tests.models.in_numpy import adjacency, info_nce, light_gcn, numbers, softmax, unit
from tests.models.model_tests import NAMES, FeatureModelTests


class Parts(NamedTuple):
    """Local and global embeddings, as the equations have them; lists hold one matrix for each modality."""

    user_id: np.ndarray
    item_id: np.ndarray
    user_modal: list[np.ndarray]
    item_modal: list[np.ndarray]
    user_global: list[np.ndarray]
    item_global: list[np.ndarray]


def parts(data: HeteroData, model: LGMRec) -> Parts:
    a = adjacency(data[INTERACTS].edge_index)
    local = light_gcn(a, numbers(model.user_emb.weight), numbers(model.item_emb.weight), model.num_layers)
    out = Parts(*local, [], [], [], [])
    masks = modality_masks(data, list(model.in_channels))
    for name in model.in_channels:
        held = masks[name].numpy()[:, None] if name in masks else np.ones((30, 1))
        weight, x = model.projection.lins[name].weight.detach().numpy(), data["item"][f"x_{name}"].numpy() * held
        w, v = weight[: model.hidden_channels], weight[model.hidden_channels :]
        item_m, item_h = x @ w.T, x @ v.T
        user_m, user_h = a @ item_m, a @ item_h
        for _ in range(model.num_modal_layers):
            user_m, item_m = a @ item_m, a.T @ user_m
        out.user_modal.append(unit(user_m))
        out.item_modal.append(unit(item_m))
        user_h, item_h = softmax(user_h / model.temperature), softmax(item_h / model.temperature) * held
        g = out.item_id
        for _ in range(model.num_hyper_layers):
            user_g, g = user_h @ (item_h.T @ g), item_h @ (item_h.T @ g)
        out.user_global.append(user_g)
        out.item_global.append(g)
    return out


def embeddings(model: LGMRec, value: Parts) -> tuple[np.ndarray, np.ndarray]:
    user = value.user_id + sum(value.user_modal) + model.global_weight * unit(sum(value.user_global))
    item = value.item_id + sum(value.item_modal) + model.global_weight * unit(sum(value.item_global))
    return user, item


class TestLGMRec(FeatureModelTests[LGMRec]):
    model_class = LGMRec

    @pytest.mark.parametrize(("layers", "modal_layers", "hyper_layers"), [(2, 2, 1), (0, 0, 2), (1, 3, 3)])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_forward_equals_its_equations(
        self, data: HeteroData, layers: int, modal_layers: int, hyper_layers: int
    ) -> None:
        data["item"].mask_audio = torch.arange(30) % 3 > 0
        sizes = {"num_layers": layers, "num_modal_layers": modal_layers, "num_hyper_layers": hyper_layers}
        model = self.build(data, **sizes, num_hyperedges=3, temperature=0.7, global_weight=0.6).eval()
        value, out = parts(data, model), model(data)
        modal = sum(value.user_modal), sum(value.item_modal)
        expected = [*embeddings(model, value), value.user_id, value.item_id, *modal]
        for found, matrix in zip((out.user, out.item, *out.behavior, *out.modal), expected, strict=True):
            np.testing.assert_allclose(found.detach().numpy(), matrix, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData, l2_form: str) -> None:
        lacking = torch.arange(30) % 3 == 0
        data["item"].mask_audio = ~lacking
        model = self.build(data, contrast_weight=0.7, temperature=0.5, l2_weight=0.3, l2_form=l2_form).eval()
        batch, value = self.batch(data), parts(data, model)
        user, item = embeddings(model, value)
        tables = model.user_emb.weight.detach().numpy(), model.item_emb.weight.detach().numpy()
        bpr, squares = 0.0, np.zeros(3)
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(user[u] @ item[j] - user[u] @ item[i]))
            squares += [np.square(row).sum() for row in (tables[0][u], tables[1][i], tables[1][j])]
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        losses = model.loss(data, batch)
        assert losses["bpr"].item() == pytest.approx(bpr / batch.user.numel(), rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / batch.user.numel(), rel=1e-4)
        pairs = [(m, n) for m in range(len(model.in_channels)) for n in range(m)]
        assert set(losses) == {"bpr", "l2"} | ({"contrast"} if pairs else set())
        users, items = sorted(set(batch.user.tolist())), sorted(set(batch.pos_item.tolist()))
        assert len(users) < batch.user.numel()
        total = 0.0
        for n, m in pairs:
            both = [i for i in items if m > 0 or not lacking[i]]
            total += info_nce(value.user_global[m][users], value.user_global[n][users], 0.5)
            total += info_nce(value.item_global[m][both], value.item_global[n][both], 0.5)
        if pairs:
            assert losses["contrast"].item() == pytest.approx(0.7 * total / len(pairs), rel=1e-4)

    def test_each_user_and_item_is_contrasted_once(self, data: HeteroData) -> None:
        model, batch = self.build(data, contrast_weight=1.0).eval(), self.batch(data)
        once = model.loss(data, batch)["contrast"]
        again = model.loss(data, Triplets(*(part.repeat(2) for part in batch)))["contrast"]
        torch.testing.assert_close(again, once)

    def test_assignments_are_drawn_while_training_alone(self, data: HeteroData) -> None:
        model, logit = self.build(data, dropout=0.0), torch.randn(5, 3, 4)
        one, two = model._assign(logit), model._assign(logit)
        assert not torch.equal(one, two)
        for drawn in (one, two):
            torch.testing.assert_close(drawn.sum(-1), torch.ones(5, 3))
        model.eval()
        torch.testing.assert_close(model._assign(logit), (logit / 0.2).softmax(-1))
        assert torch.equal(model(data).user, model(data).user)

    def test_drawn_assignments_follow_their_distribution(self, data: HeteroData) -> None:
        """Of two hyperedges, one has the larger share as often as the difference of two logistic draws says."""
        model, logit = self.build(data, dropout=0.0), torch.tensor([1.0, 0.0]).expand(20000, 1, 2)
        larger = (model._assign(logit)[..., 0] > 0.5).double().mean().item()
        noise = np.random.default_rng(0).logistic(size=(2, 200000))
        assert larger == pytest.approx((1 + noise[0] > noise[1]).mean(), abs=0.02)

    def test_dropout_leaves_assignments_out(self, data: HeteroData) -> None:
        drawn = self.build(data, dropout=0.5)._assign(torch.zeros(1000, 3, 4))
        assert (drawn == 0).double().mean().item() == pytest.approx(0.5, abs=0.03)

    def test_items_without_a_modality_send_nothing(self, data: HeteroData) -> None:
        data["item"].mask_image = torch.arange(30) % 3 > 0
        model = self.build(data).eval()
        before, hyper = self.all_scores(model, data), model._embed(data)[3]
        assert (hyper.item[::3, 1] == 0).all()
        assert (hyper.item[1, 1] != 0).any()
        data["item"].x_image[::3] = 7
        assert torch.equal(self.all_scores(model, data), before)

    def test_a_batch_without_any_pair(self, data: HeteroData) -> None:
        """No item of the batch has two modalities: users alone are contrasted."""
        for name in ("audio", "image"):
            data["item"][f"mask_{name}"] = torch.zeros(30, dtype=torch.bool)
        model = self.build(data, contrast_weight=1.0)
        losses = self.losses(model, data)
        torch.stack(list(losses.values())).sum().backward()
        assert losses["contrast"] > 0
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())

    def test_without_the_global_part(self, data: HeteroData) -> None:
        model = self.build(data, global_weight=0.0).eval()
        out = model(data)
        torch.testing.assert_close(out.user, out.behavior.user + out.modal.user)

    def test_modal_items_are_the_projected_features(self, data: HeteroData) -> None:
        model = self.build(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        for name, x in model.modal_items(data).items():
            torch.testing.assert_close(x, data["item"][f"x_{name}"] @ model.projection.lins[name].weight[:16].t())

    @pytest.mark.parametrize("name", ["global_weight", "contrast_weight", "l2_weight"])
    def test_negative_weights(self, tiny_data: HeteroData, name: str) -> None:
        with pytest.raises(ValueError, match=rf"^'{name}' must not be negative \(got -1.0\)$"):
            self.build(tiny_data, **{name: -1.0})

    @pytest.mark.parametrize("name", ["num_hyperedges", "num_hyper_layers"])
    def test_there_must_be_hyperedges(self, tiny_data: HeteroData, name: str) -> None:
        with pytest.raises(ValueError, match=rf"^'{name}' must be positive \(got 0\)$"):
            self.build(tiny_data, **{name: 0})

    def test_dropout_out_of_range(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'dropout' must lie in \[0, 1\) \(got 1.0\)$"):
            self.build(tiny_data, dropout=1.0)

    def test_temperature_must_be_positive(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'temperature' must be positive \(got 0.0\)$"):
            self.build(tiny_data, temperature=0.0)
