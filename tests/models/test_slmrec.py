from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import SLMRec
from pyg_mmrec.typing import INTERACTS, Triplets
from pyg_mmrec.utils import modality_masks
from tests.models.model_tests import FeatureModelTests, with_features

NAMES = ["audio", "image", "text"]


def linear(lin: torch.nn.Linear, x: np.ndarray) -> np.ndarray:
    return x @ lin.weight.detach().numpy().T + lin.bias.detach().numpy()


def inputs(data: HeteroData, model: SLMRec) -> list[np.ndarray]:
    """What IDs and modalities say of the items."""
    out, masks = [model.item_emb.weight.detach().numpy()], modality_masks(data, list(model.in_channels))
    for name in model.in_channels:
        x = linear(model.projection.lins[name], data["item"][f"x_{name}"].numpy())
        out.append(x * masks[name].numpy()[:, None] if name in masks else x)
    return out


def encode(data: HeteroData, model: SLMRec, first: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Users and items of each modality."""
    a = np.zeros((40, 30))
    for u, i in data[INTERACTS].edge_index.t().tolist():
        a[u, i] = 1
    a = a / np.sqrt(np.maximum(a.sum(1, keepdims=True), 1)) / np.sqrt(np.maximum(a.sum(0), 1))
    tables = np.split(model.user_emb.weight.detach().numpy(), len(first), axis=1)
    out: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for table, item in zip(tables, first, strict=True):
        users, items = [table], [item]
        for _ in range(model.num_layers):
            users, items = [*users, a @ items[-1]], [*items, a.T @ users[-1]]
        out[0].append(np.mean(users, axis=0))
        out[1].append(np.mean(items, axis=0))
    return out


def fuse(model: SLMRec, parts: list[np.ndarray]) -> np.ndarray:
    return linear(model.fusion, np.concatenate(parts, axis=1))


def contrast(anchor: np.ndarray, positive: np.ndarray, temperature: float) -> float:
    anchor, positive = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (anchor, positive))
    logits = anchor @ positive.T / temperature
    return float(np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits)))


class TestSLMRec(FeatureModelTests):
    model_class = SLMRec

    def build(self, data: HeteroData, seed: int = 0, **init_args: object) -> SLMRec:
        model = super().build(data, seed, **init_args)
        assert isinstance(model, SLMRec)
        return model

    def drawn(self, data: HeteroData, **init_args: object) -> SLMRec:
        """A model none of whose biases are zero."""
        model = self.build(data, **init_args)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.uniform_(-0.5, 0.5)
        return model

    @pytest.fixture
    def data(self, tiny_data: HeteroData, request: pytest.FixtureRequest) -> HeteroData:
        """The tiny graph with as many modalities as the test asks for, three by default; some items lack the first."""
        x = {"audio": torch.rand(30, 5), "image": tiny_data["item"].x_image, "text": tiny_data["item"].x_text}
        data = with_features(tiny_data, {name: x[name] for name in NAMES[: getattr(request, "param", 3)]})
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
        total = np.mean([contrast(fine[0][rows], part[rows], 0.5) for rows, part in zip(held, fine[1:], strict=True)])
        if len(held) > 1:
            coarse = [linear(model.coarse, part) for part in fine[1:]]
            pairs = [(m, n, sorted(set(held[m]) & set(held[n]))) for m, n in combinations(range(len(held)), 2)]
            total += np.mean([contrast(coarse[m][both], coarse[n][both], 0.5) for m, n, both in pairs])
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
        assert found == pytest.approx(0.7 * contrast(one, other, 0.5), rel=1e-4)

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
