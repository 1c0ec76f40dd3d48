from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import SLMRec
from pyg_mmrec.typing import INTERACTS, Triplets
from tests.models.in_numpy import adjacency, info_nce, light_gcn, linear, numbers, projected
from tests.models.model_tests import NAMES, FeatureModelTests


def inputs(data: HeteroData, model: SLMRec) -> list[np.ndarray]:
    """What IDs and modalities say of the items."""
    return [numbers(model.item_emb.weight), *projected(data, model).values()]


def encode(data: HeteroData, model: SLMRec, first: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Users and items of each modality."""
    a = adjacency(data[INTERACTS].edge_index)
    tables = np.split(model.user_emb.weight.detach().numpy(), len(first), axis=1)
    pairs = [light_gcn(a, user, item, model.num_layers) for user, item in zip(tables, first, strict=True)]
    return [user for user, _ in pairs], [item for _, item in pairs]


def fuse(model: SLMRec, parts: list[np.ndarray]) -> np.ndarray:
    return linear(model.fusion, np.concatenate(parts, axis=1))


class TestSLMRec(FeatureModelTests[SLMRec]):
    model_class = SLMRec

    def changed(self, data: HeteroData) -> HeteroData:
        """Some items lack the first modality."""
        data["item"].mask_audio = torch.arange(30) % 3 > 0
        return data

    @pytest.mark.parametrize("num_layers", [0, 2])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_forward_equals_its_equations(self, data: HeteroData, num_layers: int) -> None:
        model = self.drawn(data, num_layers=num_layers)
        user, item = encode(data, model, inputs(data, model))
        out = model(data)
        modal = np.mean(user[1:], axis=0), np.mean(item[1:], axis=0)
        expected = fuse(model, user), fuse(model, item), user[0], item[0], *modal
        for found, matrix in zip((out.user, out.item, *out.behavior, *out.modal), expected, strict=True):
            np.testing.assert_allclose(found.detach().numpy(), matrix, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData, l2_form: str) -> None:
        model = self.drawn(data, contrast_weight=0.7, temperature=0.5, l2_weight=0.3, l2_form=l2_form)
        batch, first = self.batch(data), inputs(data, model)
        users, items = encode(data, model, first)
        user, item = fuse(model, users), fuse(model, items)
        table, layer0 = model.user_emb.weight.detach().numpy(), np.concatenate(first, axis=1)
        bpr, squares = 0.0, np.zeros(3)
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(user[u] @ item[j] - user[u] @ item[i]))
            squares += [np.square(row).sum() for row in (table[u], layer0[i], layer0[j])]
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        distinct = sorted(set(batch.pos_item.tolist()))
        assert len(distinct) < batch.user.numel()
        held = [[i for i in distinct if name != "audio" or i % 3] for name in model.in_channels]
        fine = [linear(lin, part) for lin, part in zip(model.fine.values(), items, strict=True)]
        total = np.mean([info_nce(fine[0][rows], part[rows], 0.5) for rows, part in zip(held, fine[1:], strict=True)])
        if len(held) > 1:
            coarse = [linear(model.coarse, part) for part in fine[1:]]
            pairs = [(m, n, sorted(set(held[m]) & set(held[n]))) for m, n in combinations(range(len(held)), 2)]
            total += np.mean([info_nce(coarse[m][both], coarse[n][both], 0.5) for m, n, both in pairs])
        losses = model.loss(data, batch)
        assert set(losses) == {"bpr", "contrast", "l2"}
        assert losses["bpr"].item() == pytest.approx(bpr / batch.user.numel(), rel=1e-4)
        assert losses["contrast"].item() == pytest.approx(0.7 * total, rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / batch.user.numel(), rel=1e-4)

    @pytest.mark.parametrize("task", ["fd", "fm"])
    @pytest.mark.parametrize("data", [1, 3], indirect=True)
    def test_dropped_views_are_contrasted(self, data: HeteroData, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
        model, drawn = self.drawn(data, task=task, contrast_weight=0.7, temperature=0.5), []

        def drop(x: torch.Tensor) -> torch.Tensor:
            drawn.append(SLMRec._drop(model, x))
            return drawn[-1]

        monkeypatch.setattr(model, "_drop", drop)
        batch, first = self.batch(data), inputs(data, model)
        found = model.loss(data, batch)["contrast"].item()
        views = [[part.detach().numpy() for part in view.unbind(1)] for view in drawn]
        assert len(views) == (2 if task == "fd" else 1)
        views = views if task == "fd" else [first, *views]
        rows = sorted(set(batch.pos_item.tolist()))
        one, other = (fuse(model, encode(data, model, view)[1])[rows] for view in views)
        assert found == pytest.approx(0.7 * info_nce(one, other, 0.5), rel=1e-4)

    @pytest.mark.parametrize("task", ["fd", "fm"])
    def test_every_parameter_gets_a_gradient_by_every_task(self, tiny_data: HeteroData, task: str) -> None:
        model = self.build(tiny_data, task=task)
        assert not any(name.startswith(("fine", "coarse")) for name, _ in model.named_parameters())
        torch.stack(list(self.losses(model, tiny_data).values())).sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())

    def test_feature_dropout(self, data: HeteroData) -> None:
        model, x = self.build(data, task="fd", dropout=0.5), torch.ones(200, 4, 16)
        assert (model._drop(x) == 0).double().mean().item() == pytest.approx(0.5, abs=0.02)
        assert not torch.equal(model._drop(x), model._drop(x))
        assert torch.equal(model.eval()._drop(x), x)

    def test_feature_masking_takes_one_modality_of_each_item(self, data: HeteroData) -> None:
        model, x = self.build(data, task="fm"), torch.ones(400, 4, 16)
        gone = (model._drop(x) == 0).all(-1)
        assert (gone.sum(1) == 1).all()
        assert (gone.sum(0) > 50).all()
        assert torch.equal(model.eval()._drop(x), x)

    def test_each_item_is_contrasted_once(self, data: HeteroData) -> None:
        model, batch = self.build(data, contrast_weight=1.0), self.batch(data)
        once = model.loss(data, batch)["contrast"]
        again = model.loss(data, Triplets(*(part.repeat(2) for part in batch)))["contrast"]
        torch.testing.assert_close(again, once)

    @pytest.mark.parametrize("task", ["fac", "fd", "fm"])
    def test_items_without_a_modality_send_nothing(self, data: HeteroData, task: str) -> None:
        model = self.drawn(data, task=task)
        before, losses = model(data), self.losses(model, data)
        data["item"].x_audio[::3] = 7
        assert torch.equal(model(data).item, before.item)
        assert self.losses(model, data) == losses

    @pytest.mark.parametrize("data", [1], indirect=True)
    def test_one_modality_has_no_coarse_space(self, data: HeteroData) -> None:
        model = self.build(data)
        assert model.coarse is None
        assert list(model.fine) == ["id", "audio"]

    def test_modal_items_are_the_projected_features(self, data: HeteroData) -> None:
        model = self.drawn(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        for x, expected in zip(model.modal_items(data).values(), inputs(data, model)[1:], strict=True):
            np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_biases_start_at_zero(self, tiny_data: HeteroData) -> None:
        model = self.drawn(tiny_data)
        model.reset_parameters()
        for name, parameter in (*model.named_parameters(), *self.build(tiny_data).named_parameters()):
            assert (parameter.abs().max() == 0) == name.endswith("bias")

    def test_a_modality_called_id(self, data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'in_channels' must not name a modality 'id'"):
            self.build(data, in_channels={"id": 4})

    def test_unknown_task(self, data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'task' must be 'fac', 'fd' or 'fm' \(got 'fad'\)$"):
            self.build(data, task="fad")

    @pytest.mark.parametrize("name", ["contrast_weight", "l2_weight"])
    def test_negative_weights(self, tiny_data: HeteroData, name: str) -> None:
        with pytest.raises(ValueError, match=rf"^'{name}' must not be negative \(got -1.0\)$"):
            self.build(tiny_data, **{name: -1.0})

    def test_dropout_out_of_range(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'dropout' must lie in \[0, 1\) \(got 1.0\)$"):
            self.build(tiny_data, dropout=1.0)

    def test_temperature_must_be_positive(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'temperature' must be positive \(got 0.0\)$"):
            self.build(tiny_data, temperature=0.0)
