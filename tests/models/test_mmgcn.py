from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import MMGCN
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import modality_masks
from tests.models.in_numpy import linear, numbers, projected, unit
from tests.models.model_tests import NAMES, FeatureModelTests, cold_views


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def convolve(layer: Any, x: np.ndarray, neighbors: list[np.ndarray], identity: np.ndarray) -> np.ndarray:
    """One layer, node by node; ``neighbors`` holds the rows that reach each of them."""
    out = np.zeros_like(x)
    for n, rows in enumerate(neighbors):
        h = leaky(linear(layer.neighbor, rows.mean(0) if len(rows) else np.zeros(x.shape[1])))
        own = leaky(linear(layer.own, x[n])) + identity[n]
        if layer.combination == "add":
            out[n] = leaky(linear(layer.combine, h) + own)
        else:
            out[n] = leaky(linear(layer.combine, np.concatenate([h, own])))
    return out


def representations(data: HeteroData, model: MMGCN) -> tuple[np.ndarray, np.ndarray]:
    """Users and items by the equations."""
    names, pairs = list(model.in_channels), data[INTERACTS].edge_index.t().tolist()
    masks = modality_masks(data, names)
    ids = numbers(model.user_id.weight), numbers(model.item_id.weight)
    total = np.zeros_like(ids[0]), np.zeros_like(ids[1])
    for name, item in projected(data, model).items():
        has = masks[name].numpy() if name in masks else np.ones(30, dtype=bool)
        user, item = unit(numbers(model.user_emb[name].weight)), unit(item)
        for layer in model.layers[name]:
            of_user = [item[[i for u, i in pairs if u == n and has[i]]] for n in range(40)]
            of_item = [user[[u for u, i in pairs if i == n]] for n in range(30)]
            user, item = convolve(layer, user, of_user, ids[0]), convolve(layer, item, of_item, ids[1])
        total = total[0] + user, total[1] + item
    return total


def untouched_views(shuffle: bool) -> tuple[HeteroData, HeteroData]:
    """``cold_views`` whose cold items have no interactions at all."""
    train, held_out = cold_views(shuffle)
    kept = train[INTERACTS].edge_index[:, train[INTERACTS].edge_index[1] < 20]
    train[INTERACTS].edge_index = held_out[INTERACTS].edge_index = kept
    return train, held_out


class TestMMGCN(FeatureModelTests[MMGCN]):
    model_class = MMGCN

    @pytest.mark.parametrize("num_layers", [1, 2])
    @pytest.mark.parametrize("combination", ["add", "concat"])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_forward_equals_its_equations(self, data: HeteroData, combination: str, num_layers: int) -> None:
        data[INTERACTS].edge_index = data[INTERACTS].edge_index[:, 5:]  # user 0 has no items
        model = self.drawn(data, combination=combination, num_layers=num_layers)
        user, item = representations(data, model)
        out = model(data)
        np.testing.assert_allclose(out.user.detach().numpy(), user, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out.item.detach().numpy(), item, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(self.all_scores(model, data).numpy(), user @ item.T, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData) -> None:
        model, batch = self.drawn(data, l2_weight=0.3), self.batch(data)
        user, item = representations(data, model)
        user_id, item_id = (table.weight.detach().numpy() for table in (model.user_id, model.item_id))
        tables = [table.weight.detach().numpy() for table in model.user_emb.values()]
        bpr, squares = 0.0, 0.0
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(user[u] @ item[j] - user[u] @ item[i]))
            squares += sum(np.square(row).sum() for row in (user_id[u], item_id[i], item_id[j]))
            squares += sum(np.square(table[u]).sum() for table in tables)
        losses = model.loss(data, batch)
        assert set(losses) == {"bpr", "l2"}
        assert losses["bpr"].item() == pytest.approx(bpr / batch.user.numel(), rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * squares / 2 / batch.user.numel(), rel=1e-4)

    def test_items_without_a_modality_send_nothing(self, data: HeteroData) -> None:
        data["item"].mask_image = torch.arange(30) % 3 > 0
        model = self.drawn(data)
        for found, expected in zip(model(data)[:2], representations(data, model), strict=True):
            np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
        before = self.all_scores(model, data)
        data["item"].x_image[::3] = 7
        assert torch.equal(self.all_scores(model, data), before)

    def test_the_scale_of_features_does_not_matter(self, data: HeteroData) -> None:
        model = self.build(data)  # biases are zero
        before = self.all_scores(model, data)
        data["item"].x_text = 100 * data["item"].x_text
        torch.testing.assert_close(self.all_scores(model, data), before)

    def test_ids_tie_the_modalities_together(self, data: HeteroData) -> None:
        """Each modality has layers of its own, all of which read the same two ID tables."""
        names = {name.split(".")[0] for name, _ in self.build(data).named_parameters()}
        assert names == {"user_id", "item_id", "user_emb", "projection", "layers"}
        model = self.build(data)
        assert list(model.layers) == list(model.user_emb) == NAMES
        assert len({id(parameter) for parameter in model.layers.parameters()}) == 3 * 2 * 4

    def test_shuffled_features_hurt(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of items without interactions: one misleading interaction is all neighbours that an item has, and misleads.

        One layer: in two, features are mapped twice before they are scored, which takes longer to learn.
        """
        monkeypatch.setattr(self, "init_args", {**self.init_args, "num_layers": 1})
        found, shuffled = ([self.recall(*untouched_views(dealt), seed=seed) for seed in range(2)] for dealt in (0, 1))
        assert min(found) > max(shuffled) + 0.2

    def test_modal_items_are_the_projected_features(self, data: HeteroData) -> None:
        model = self.drawn(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        for name, x in model.modal_items(data).items():
            expected = linear(model.projection.lins[name], data["item"][f"x_{name}"].numpy())
            np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_biases_start_at_zero(self, tiny_data: HeteroData) -> None:
        model = self.drawn(tiny_data)
        model.reset_parameters()
        for name, parameter in model.named_parameters():
            assert (parameter.abs().max() == 0) == name.endswith("bias")

    def test_bad_arguments(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'combination' must be 'add' or 'concat' \(got 'sum'\)$"):
            self.build(tiny_data, combination="sum")
        with pytest.raises(ValueError, match=r"^'l2_weight' must not be negative \(got -1.0\)$"):
            self.build(tiny_data, l2_weight=-1.0)
        with pytest.raises(ValueError, match=r"^'num_layers' must be positive \(got 0\)$"):
            self.build(tiny_data, num_layers=0)
