from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import MICRO
from pyg_mmrec.nn.loss import grace_loss
from pyg_mmrec.typing import Triplets
from tests.models.in_numpy import linear, unit
from tests.models.model_tests import NAMES, FeatureModelTests
from tests.models.test_lattice import modal_graphs, smooth


def views_and_fused(data: HeteroData, model: MICRO) -> tuple[list[np.ndarray], np.ndarray]:
    """H_m and h, item by item."""
    table = model.item_emb.weight.detach().numpy()
    views = [np.linalg.matrix_power(a, model.num_item_layers) @ table for a in modal_graphs(data, model).values()]
    if model.attention is None:
        return views, views[0]
    first, _, last = model.attention
    fused = np.zeros_like(table)
    for i in range(len(table)):
        weight = [np.exp(linear(last, np.tanh(linear(first, view[i])))[0]) for view in views]
        fused[i] = sum(w / sum(weight) * view[i] for w, view in zip(weight, views, strict=True))
    return views, fused


def contrast(one: np.ndarray, other: np.ndarray, temperature: float) -> float:
    u, v = unit(one), unit(other)
    total = 0.0
    for x, y in ((u, v), (v, u)):
        for b in range(len(x)):
            between, within = np.exp(y @ x[b] / temperature), np.exp(np.delete(x, b, axis=0) @ x[b] / temperature)
            total -= np.log(between[b] / (between.sum() + within.sum()))
    return total / (2 * len(one))


class TestMICRO(FeatureModelTests[MICRO]):
    model_class = MICRO

    def drawn(self, data: HeteroData, **init_args: Any) -> MICRO:
        """The attention is far from even, too."""
        model = super().drawn(data, **init_args)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("attention") and name.endswith("weight"):
                    parameter.mul_(5)
        return model

    @pytest.mark.parametrize(
        "init_args",
        [{}, {"num_layers": 0, "num_item_layers": 3, "num_neighbors": 4, "frozen_weight": 0.2}],
        ids=str,
    )
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_forward_equals_its_equations(self, data: HeteroData, init_args: dict[str, object]) -> None:
        model = self.drawn(data, **init_args)
        user, item = smooth(data, model)
        h = views_and_fused(data, model)[1]
        item = item + h / np.linalg.norm(h, axis=1, keepdims=True)
        out = model(data)
        np.testing.assert_allclose(out.user.detach().numpy(), user, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out.item.detach().numpy(), item, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(self.all_scores(model, data).numpy(), user @ item.T, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData, l2_form: str) -> None:
        model = self.drawn(data, contrast_weight=0.7, temperature=0.4, l2_weight=0.3, l2_form=l2_form)
        batch, (user, item) = self.batch(data), smooth(data, model)
        tables = model.user_emb.weight.detach().numpy(), model.item_emb.weight.detach().numpy()
        views, h = views_and_fused(data, model)
        item = item + h / np.linalg.norm(h, axis=1, keepdims=True)
        bpr, squares = 0.0, np.zeros(3)
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(user[u] @ item[j] - user[u] @ item[i]))
            squares += [np.square(row).sum() for row in (tables[0][u], tables[1][i], tables[1][j])]
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        losses = model.loss(data, batch)
        assert losses["bpr"].item() == pytest.approx(bpr / batch.user.numel(), rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / batch.user.numel(), rel=1e-4)
        if len(views) == 1:  # the view is what is fused
            assert set(losses) == {"bpr", "l2"}
            return
        items = sorted(set(batch.pos_item.tolist()))
        assert len(items) < batch.user.numel()
        expected = sum(contrast(view[items], h[items], 0.4) for view in views)
        assert losses["contrast"].item() == pytest.approx(0.7 * expected, rel=1e-4)

    def test_each_item_is_contrasted_once(self, data: HeteroData) -> None:
        model, batch = self.build(data), self.batch(data)
        once = model.loss(data, batch)["contrast"]
        for order in (torch.randperm(batch.user.numel()), torch.arange(batch.user.numel()).repeat(2)):
            again = model.loss(data, Triplets(*(part[order] for part in batch)))["contrast"]
            torch.testing.assert_close(again, once)
        alone = Triplets(*(torch.full((5,), number) for number in (3, 7, 9)))
        assert model.loss(data, alone)["contrast"].item() == pytest.approx(0, abs=1e-6)

    def test_items_without_a_modality_take_no_part_in_its_contrast(self, data: HeteroData) -> None:
        data["item"].mask_image = torch.arange(30) % 3 > 0
        model, batch = self.drawn(data, contrast_weight=1.0), self.batch(data)
        views = model._item_views(data)
        fused, items = model.attention(views), batch.pos_item.unique()
        held = [items[items % 3 > 0] if name == "image" else items for name in NAMES]
        expected = sum(grace_loss(views[index, m], fused[index]) for m, index in enumerate(held))
        torch.testing.assert_close(model.loss(data, batch)["contrast"], expected)
        nobody = Triplets(*(torch.full((5,), number) for number in (3, 6, 9)))
        assert model.loss(data, nobody)["contrast"].item() == pytest.approx(0, abs=1e-6)
        before = self.all_scores(model, data)
        data["item"].x_image[::3] = 7
        assert torch.equal(self.all_scores(model, data), before)

    def test_an_epoch_keeps_its_neighbours(self, data: HeteroData) -> None:
        model, batch, generator = self.drawn(data), self.batch(data), torch.Generator()
        model.start_epoch(data, 0, generator)
        view = model.resample(data, generator)
        assert model.loss(view, batch) == model.loss(data, batch)
        with torch.no_grad():
            for parameter in model.structure.parameters():
                parameter.normal_()
        assert model.loss(view, batch) == model.loss(model.resample(data, generator), batch) != model.loss(data, batch)

    def test_modal_items_are_the_projected_features(self, data: HeteroData) -> None:
        model = self.drawn(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        for name, x in model.modal_items(data).items():
            expected = linear(model.structure.projection.lins[name], data["item"][f"x_{name}"].numpy())
            np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ({"contrast_weight": -1.0}, r"'contrast_weight' must not be negative \(got -1.0\)"),
            ({"temperature": 0.0}, r"'temperature' must be positive \(got 0.0\)"),
            ({"num_item_layers": 0}, r"'num_item_layers' must be positive \(got 0\)"),
        ],
        ids=str,
    )
    def test_arguments_out_of_range(self, tiny_data: HeteroData, argument: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=rf"^{message}$"):
            self.build(tiny_data, **argument)
