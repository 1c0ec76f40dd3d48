from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models import SEA, Recommender
from pyg_mmrec.nn.conv import default_graph_weights
from pyg_mmrec.typing import INTERACTS, feature_key, similar
from pyg_mmrec.utils import modalities
from tests.models.in_numpy import adjacency, item_graph, unit
from tests.models.model_tests import FeatureModelTests, to_double, with_features


def embeddings_in_numpy(data: HeteroData, model: SEA) -> tuple[np.ndarray, np.ndarray]:
    """Users and items as the equations have them, with the wide T_m."""
    state = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    a = adjacency(data[INTERACTS].edge_index)
    users, items, s = [], [], np.zeros((30, 30))
    for m, name in enumerate(model.in_channels):
        weight = state[f"graph_weight.{name}"] if model.graph_weight else default_graph_weights(["image", "text"])[name]
        s += weight * item_graph(data, name)
        t = data["item"][feature_key(name)].numpy() @ state[f"transform.{name}.weight"].T
        t = t + state[f"transform.{name}.bias"]
        hidden = t @ state[f"encoder_in.{name}.weight"].T + state[f"encoder_in.{name}.bias"]
        hidden = np.where(hidden > 0, hidden, 0.01 * hidden)
        z = hidden @ state[f"encoder_out.{name}.weight"].T + state[f"encoder_out.{name}.bias"]
        p = state[f"user_emb.{name}.weight"]
        user, item = [unit(p)], [unit(z)]
        for _ in range(model.num_layers):
            user, item = [*user, a @ item[-1]], [*item, a.T @ user[-1]]
        users.append(state["user_weight"][:, [m]] * sum(user))
        items.append(sum(item))
    r = np.concatenate(items, axis=1)
    return np.concatenate(users, axis=1), r + np.linalg.matrix_power(s, model.num_item_layers) @ r


class PlainSEA(SEA):
    """SEA with T_m built, as the authors' code does."""

    def _first_layers(self, data: HeteroData) -> dict[str, dict[str, Tensor]]:
        first = {}
        for name in self.in_channels:
            t = self.transform[name](data["item"][feature_key(name)])
            layers = {"encoder": (self.encoder_in[name], slice(None)), **self.separate.first_layers(name)}
            first[name] = {key: layer(t[:, part]) for key, (layer, part) in layers.items()}
        return first


class TestSEA(FeatureModelTests[SEA]):
    model_class = SEA
    init_args: ClassVar = {"hidden_channels": 16, "estimator_lr": 3e-2, "estimator_steps": 10}

    def build(self, data: HeteroData, seed: int = 0, **init_args: Any) -> Recommender:
        if len(modalities(data)) == 1:
            init_args.setdefault("alignment", None)  # nothing to align with
        return super().build(data, seed, **init_args)

    @pytest.mark.parametrize(
        "init_args", [{}, {"num_layers": 1, "num_item_layers": 2}, {"learn_graph_weights": False}], ids=str
    )
    def test_forward_equals_the_equations(self, tiny_data: HeteroData, init_args: dict[str, Any]) -> None:
        data = to_double(tiny_data)
        model = self.build(data, **init_args).double().eval()
        if model.graph_weight:
            with torch.no_grad():
                model.graph_weight["text"].fill_(0.37)
        out = model(data)
        user, item = embeddings_in_numpy(data, model)
        np.testing.assert_allclose(out.user.detach().numpy(), user, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(out.item.detach().numpy(), item, rtol=1e-5, atol=1e-7)

    def test_loss_equals_the_objective(self, tiny_data: HeteroData) -> None:
        data = to_double(tiny_data)
        model = self.build(data, align_weight=0.5, distance_weight=0.3).double().train()
        batch = self.batch(tiny_data)
        torch.manual_seed(1)
        losses = model.loss(data, batch)
        user, item = embeddings_in_numpy(data, model)
        pos, neg = ((user[batch.user] * item[i]).sum(1) for i in (batch.pos_item, batch.neg_item))
        assert losses["bpr"].item() == pytest.approx(np.log1p(np.exp(neg - pos)).mean(), rel=1e-6)
        twin = self.build(data, align_weight=0.5, distance_weight=0.3).double().train()
        torch.manual_seed(1)
        t = {name: twin.transform[name](data["item"][feature_key(name)]) for name in ("image", "text")}
        expected = twin.separate(t)
        assert list(losses) == ["bpr", *expected]
        for name, value in expected.items():
            torch.testing.assert_close(losses[name], value, rtol=1e-9, atol=1e-12)

    @pytest.mark.parametrize("alignment", ["solosim", "infonce", None])
    @pytest.mark.parametrize("distancing", ["club", "negative", None])
    def test_composed_weights_equal_the_plain_form(
        self, tiny_data: HeteroData, alignment: str | None, distancing: str | None
    ) -> None:
        data, batch, results = to_double(tiny_data), self.batch(tiny_data), []
        for cls in (SEA, PlainSEA):
            torch.manual_seed(0)
            init_args = {**self.init_args, "alignment": alignment, "distancing": distancing}
            model = cls.from_data(data, **init_args).double().train()
            torch.manual_seed(1)
            losses = model.loss(data, batch)
            sum(losses.values()).backward()
            results.append((model, losses, model.eval()(data)))
        (one, losses, out), (two, plain_losses, plain_out) = results
        assert losses.keys() == plain_losses.keys()
        for name, value in losses.items():
            torch.testing.assert_close(value, plain_losses[name], rtol=1e-5, atol=1e-12)
        for found, expected in zip(out[:2], plain_out[:2], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-12)
        for (name, found), expected in zip(one.named_parameters(), two.parameters(), strict=True):
            torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=1e-12, msg=name)

    def test_wide_features_are_never_multiplied_out(
        self, tiny_data: HeteroData, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, batch = self.build(tiny_data), self.batch(tiny_data)
        for transform in model.transform.values():
            monkeypatch.setattr(transform, "forward", lambda x: pytest.fail("T_m was built"))
        model.loss(tiny_data, batch)
        model(tiny_data)

    def test_heads_and_parts(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data).eval()
        out = model(tiny_data)
        generic, unique = model.parts(tiny_data)
        for name, width in (("image", 12), ("text", 8)):
            t = model.transform[name](tiny_data["item"][feature_key(name)])
            torch.testing.assert_close(torch.cat([generic[name], unique[name]], 1), t)
            assert generic[name].shape == unique[name].shape == (30, width // 2)
            torch.testing.assert_close(out.unique[name], model.separate.unique_head[name](unique[name]))
            projected = model.separate.align_out[name](model.separate.align_in[name](generic[name]))
            torch.testing.assert_close(out.generic[name], torch.nn.functional.normalize(projected))
        out = self.build(tiny_data, alignment=None).eval()(tiny_data)
        assert out.generic["text"].shape == (30, 32)
        out = self.build(tiny_data, alignment=None, distancing=None).eval()(tiny_data)
        assert out.generic is None
        assert out.unique is None

    @pytest.mark.parametrize("alignment", ["solosim", "infonce", None])
    @pytest.mark.parametrize("distancing", ["club", "negative", None])
    def test_variants_and_ablations(self, tiny_data: HeteroData, alignment: str | None, distancing: str | None) -> None:
        losses = self.losses(self.build(tiny_data, alignment=alignment, distancing=distancing), tiny_data)
        names = ["bpr"] + ["align"] * (alignment is not None)
        names += ["distance_image", "distance_text"] * (distancing is not None)
        assert list(losses) == names
        if distancing == "negative":
            assert -4 * 0.003 <= losses["distance_text"] <= 0

    def test_logarithms_to_base_two(self, tiny_data: HeteroData) -> None:
        natural = self.losses(self.build(tiny_data), tiny_data)
        binary = self.losses(self.build(tiny_data, log2=True), tiny_data)
        assert (binary["bpr"] / natural["bpr"]).item() == pytest.approx(1 / math.log(2))
        assert binary["align"] == natural["align"]

    def test_released_preset(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, **SEA.RELEASED)
        assert not model.graph_weight
        assert model.separate.club.num_pairs == 1
        assert {name: model.config()[name] for name in SEA.RELEASED} == SEA.RELEASED
        assert all(value.isfinite() for value in self.losses(model, tiny_data).values())

    def test_user_weights_start_as_a_softmax(self, tiny_data: HeteroData) -> None:
        weight = self.build(tiny_data).user_weight.detach()
        assert weight.shape == (40, 2)
        torch.testing.assert_close(weight.sum(1), torch.ones(40))
        assert (weight > 0).all()

    def test_graph_weights(self, tiny_data: HeteroData) -> None:
        learned = self.build(tiny_data)
        assert {name: round(w.item(), 4) for name, w in learned.graph_weight.items()} == {"image": 0.1, "text": 0.9}
        given = {"image": 0.4, "text": 0.2}
        learned, fixed = (
            self.build(tiny_data, graph_weights=given, learn_graph_weights=learn) for learn in (True, False)
        )
        torch.testing.assert_close(self.all_scores(learned, tiny_data), self.all_scores(fixed, tiny_data))
        with pytest.raises(ValueError, match=r"'graph_weights', must name the graphs \['image', 'text'\] "):
            self.build(tiny_data, graph_weights={"image": 1.0})(tiny_data)

    def test_items_without_a_modality_have_no_content(self, tiny_data: HeteroData) -> None:
        tiny_data["item"].mask_image = torch.arange(30) % 3 > 0
        model = self.build(tiny_data)
        scores = self.all_scores(model, tiny_data)
        tiny_data["item"].x_image = tiny_data["item"].x_image + 100.0 * (torch.arange(30) % 3 == 0).unsqueeze(1)
        torch.testing.assert_close(self.all_scores(model, tiny_data), scores)

    def test_alignment_of_a_single_modality(self, tiny_data: HeteroData) -> None:
        data = with_features(tiny_data, {"text": tiny_data["item"].x_text})
        with pytest.raises(ValueError, match=r"^alignment needs two modalities or more \(got text\): set 'alignment'"):
            self.build(data, alignment="solosim")

    def test_data_without_item_graphs(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        for name in ("image", "text"):
            del tiny_data[similar("item", name)]
        with pytest.raises(ValueError, match=r"^the data has no item-item graph: "):
            model(tiny_data)

    def test_graphs_of_other_modalities(self, tiny_data: HeteroData) -> None:
        del tiny_data[similar("item", "image")]
        model = self.build(tiny_data)
        assert {name: weight.item() for name, weight in model.graph_weight.items()} == {"text": 1.0}
        assert all(value.isfinite() for value in self.losses(model, tiny_data).values())

    def test_reset_brings_the_graph_weights_back(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        torch.nn.init.constant_(model.graph_weight["text"], 5.0)
        model.reset_parameters()
        assert model.graph_weight["text"].item() == pytest.approx(0.9)

    def test_no_item_layers_have_no_weights_to_learn(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data, num_item_layers=0)
        assert not model.graph_weight
        assert model(tiny_data).item.isfinite().all()

    def test_forward_counts_no_batch_statistics(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data).train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        assert model(tiny_data).generic is None
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
