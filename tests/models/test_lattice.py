from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import LATTICE, MICRO
from pyg_mmrec.typing import INTERACTS, similar
from tests.models.in_numpy import adjacency, item_graph, light_gcn, linear, numbers, softmax
from tests.models.model_tests import NAMES, FeatureModelTests


def smooth(data: HeteroData, model: LATTICE | MICRO) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of the backbone."""
    a = adjacency(data[INTERACTS].edge_index)
    return light_gcn(a, numbers(model.user_emb.weight), numbers(model.item_emb.weight), model.num_layers)


def modal_graphs(data: HeteroData, model: LATTICE | MICRO) -> dict[str, np.ndarray]:
    """The latent graph of each modality."""
    out = {}
    for name in model.in_channels:
        z = linear(model.structure.projection.lins[name], data["item"][f"x_{name}"].numpy())
        cosine = z @ z.T / np.linalg.norm(z, axis=1) / np.linalg.norm(z, axis=1, keepdims=True)
        a = np.zeros((30, 30))
        for i in range(30):
            for j in np.argsort(-cosine[i])[: model.num_neighbors]:
                a[i, j] = max(0, cosine[i, j])
        degree = a.sum(1)
        learned = a / np.sqrt(degree) / np.sqrt(degree)[:, None]
        out[name] = model.frozen_weight * item_graph(data, name) + (1 - model.frozen_weight) * learned
    return out


def structure(data: HeteroData, model: LATTICE) -> np.ndarray:
    """A, the latent graph of all modalities."""
    logit = np.zeros(len(model.in_channels)) if model.graph_logit is None else model.graph_logit.detach().numpy()
    return np.sum(
        [alpha * a for alpha, a in zip(softmax(logit), modal_graphs(data, model).values(), strict=True)], axis=0
    )


class TestLATTICE(FeatureModelTests[LATTICE]):
    model_class = LATTICE

    def drawn(self, data: HeteroData, **init_args: Any) -> LATTICE:
        """The shares of modalities are uneven, too."""
        model = super().drawn(data, **init_args)
        if model.graph_logit is not None:
            torch.nn.init.uniform_(model.graph_logit, -0.5, 0.5)
        return model

    @pytest.mark.parametrize(
        "init_args",
        [{}, {"num_layers": 0, "num_item_layers": 3, "num_neighbors": 4, "frozen_weight": 0.2}, {"frozen_weight": 0.0}],
        ids=str,
    )
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_forward_equals_its_equations(self, data: HeteroData, init_args: dict[str, object]) -> None:
        model = self.drawn(data, **init_args)
        user, item = smooth(data, model)
        h = np.linalg.matrix_power(structure(data, model), model.num_item_layers)
        h = h @ model.item_emb.weight.detach().numpy()
        item = item + h / np.linalg.norm(h, axis=1, keepdims=True)
        out = model(data)
        np.testing.assert_allclose(out.user.detach().numpy(), user, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out.item.detach().numpy(), item, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(self.all_scores(model, data).numpy(), user @ item.T, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData, l2_form: str) -> None:
        model, batch = self.drawn(data, l2_weight=0.3, l2_form=l2_form), self.batch(data)
        tables = model.user_emb.weight.detach().numpy(), model.item_emb.weight.detach().numpy()
        user, item = smooth(data, model)
        h = structure(data, model) @ tables[1]
        item = item + h / np.linalg.norm(h, axis=1, keepdims=True)
        bpr, squares = 0.0, np.zeros(3)
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(user[u] @ item[j] - user[u] @ item[i]))
            squares += [np.square(row).sum() for row in (tables[0][u], tables[1][i], tables[1][j])]
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        losses = model.loss(data, batch)
        assert set(losses) == {"bpr", "l2"}
        assert losses["bpr"].item() == pytest.approx(bpr / batch.user.numel(), rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / batch.user.numel(), rel=1e-4)

    def test_an_epoch_keeps_its_neighbours(self, data: HeteroData) -> None:
        model, batch, generator = self.drawn(data), self.batch(data), torch.Generator()
        before = model.loss(data, batch)
        model.start_epoch(data, 0, generator)
        view = model.resample(data, generator)
        assert model.loss(view, batch) == before
        kept = model.structure.neighbors.clone()
        with torch.no_grad():
            for parameter in model.structure.parameters():
                parameter.normal_()
        assert model.loss(view, batch) == model.loss(model.resample(data, generator), batch) != model.loss(data, batch)
        assert torch.equal(model.structure.neighbors, kept)
        model.start_epoch(data, 1, generator)
        assert not torch.equal(model.structure.neighbors, kept)
        assert model.loss(model.resample(data, generator), batch) == model.loss(data, batch)

    @pytest.mark.parametrize("data", [1, 2], indirect=True)
    def test_the_structure_learns_in_every_step(self, data: HeteroData) -> None:
        model = self.build(data)
        assert (model.graph_logit is None) == (len(model.in_channels) == 1)
        view = model.resample(data, torch.Generator())
        torch.stack(list(model.loss(view, self.batch(data)).values())).sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad.abs().sum() > 0, name

    def test_items_without_a_modality(self, tiny_data: HeteroData) -> None:
        super().test_items_without_a_modality(tiny_data)
        model = self.drawn(tiny_data)
        before = self.all_scores(model, tiny_data)
        tiny_data["item"].x_image[::3] = 7
        assert torch.equal(self.all_scores(model, tiny_data), before)

    def test_modal_items_are_the_projected_features(self, data: HeteroData) -> None:
        model = self.drawn(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        for name, x in model.modal_items(data).items():
            expected = linear(model.structure.projection.lins[name], data["item"][f"x_{name}"].numpy())
            np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_data_without_item_graphs(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        del tiny_data[similar("item", "image")]
        with pytest.raises(ValueError, match=r"graph for each modality of its features, \['image', 'text'\] \(got gr"):
            model(tiny_data)
        del tiny_data[similar("item", "text")]
        with pytest.raises(ValueError, match=r"^the data has no item-item graph: "):
            model(tiny_data)

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            ({"frozen_weight": 1.0}, r"'frozen_weight' must lie in \[0, 1\) \(got 1.0\)"),
            ({"num_neighbors": 31}, r"'num_neighbors' must be at most 30, the number of items \(got 31\)"),
            ({"num_item_layers": 0}, r"'num_item_layers' must be positive \(got 0\)"),
            ({"l2_weight": -1.0}, r"'l2_weight' must not be negative \(got -1.0\)"),
        ],
        ids=str,
    )
    def test_arguments_out_of_range(self, tiny_data: HeteroData, argument: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=rf"^{message}$"):
            self.build(tiny_data, **argument)
