from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models import BM3, UserItem
from pyg_mmrec.typing import INTERACTS, Triplets
from tests.models.in_numpy import adjacency, light_gcn, linear, numbers, projected
from tests.models.model_tests import NAMES, FeatureModelTests


def behavior(data: HeteroData, model: BM3) -> tuple[np.ndarray, np.ndarray]:
    """h_u and h_i, as the equations have them."""
    first, a = numbers(model.item_emb.weight), adjacency(data[INTERACTS].edge_index)
    user, item = light_gcn(a, numbers(model.user_emb.weight), first, model.num_layers)
    return user, item + first


def c(one: np.ndarray, other: np.ndarray) -> float:
    """Minus the mean cosine of rows."""
    rows = zip(one, other, strict=True)
    return -float(np.mean([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in rows]))


def kept_targets(model: BM3, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """A list that the targets of the next loss are put in, in order: users, items, each modality."""
    kept: list[Tensor] = []
    draw = model._target

    def target(x: Tensor) -> Tensor:
        kept.append(draw(x))
        return kept[-1]

    monkeypatch.setattr(model, "_target", target)
    return kept


class TestBM3(FeatureModelTests[BM3]):
    model_class = BM3

    @pytest.mark.parametrize("num_layers", [0, 1, 3])
    def test_forward_equals_its_equations(self, data: HeteroData, num_layers: int) -> None:
        model = self.drawn(data, num_layers=num_layers)
        h_u, h_i = behavior(data, model)
        modal = np.mean(list(projected(data, model).values()), axis=0)
        modal_user = np.zeros((40, 16))
        for u in range(40):
            modal_user[u] = modal[[i for v, i in data[INTERACTS].edge_index.t().tolist() if v == u]].mean(0)
        out = model(data)
        expected = {
            "user": (out.user, linear(model.predictor, h_u)),
            "item": (out.item, linear(model.predictor, h_i)),
            "behavior user": (out.behavior.user, h_u),
            "behavior item": (out.behavior.item, h_i),
            "modal user": (out.modal.user, modal_user),
            "modal item": (out.modal.item, modal),
        }
        for name, (found, value) in expected.items():
            np.testing.assert_allclose(found.detach().numpy(), value, rtol=1e-4, atol=1e-5, err_msg=name)
        scores = linear(model.predictor, h_u) @ linear(model.predictor, h_i).T
        np.testing.assert_allclose(self.all_scores(model, data).numpy(), scores, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData, l2_form: str, monkeypatch: pytest.MonkeyPatch) -> None:
        model, batch = self.drawn(data, l2_weight=0.3, l2_form=l2_form, dropout=0.5), self.batch(data)
        kept = kept_targets(model, monkeypatch)
        losses = model.loss(data, batch)
        target_u, target_i, *target_m = (target.numpy() for target in kept)
        h_u, h_i = behavior(data, model)
        h_u, h_i = h_u[batch.user], h_i[batch.pos_item]
        rec = c(linear(model.predictor, h_u), target_i) + c(target_u, linear(model.predictor, h_i))
        expected = {"rec": rec}
        for (name, h), target in zip(projected(data, model).items(), target_m, strict=True):
            online = linear(model.predictor, h[batch.pos_item])
            expected |= {f"align_{name}": c(online, target_i), f"mask_{name}": c(online, target)}
        squares = np.array([np.square(rows).sum() for rows in (h_u, h_i)])
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        expected["l2"] = 0.3 * penalty / batch.user.numel()
        assert list(losses) == list(expected)
        for name, value in expected.items():
            assert losses[name].item() == pytest.approx(value, rel=1e-4), name

    def test_targets_are_the_representations_after_dropout(
        self, data: HeteroData, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model, batch = self.drawn(data, dropout=0.25), self.batch(data)
        kept = kept_targets(model, monkeypatch)
        model.loss(data, batch)
        h_u, h_i = behavior(data, model)
        h = [h_u[batch.user], *(table[batch.pos_item] for table in (h_i, *projected(data, model).values()))]
        for target, value in zip(kept, h, strict=True):
            left_out = target.numpy() == 0
            assert left_out.mean() == pytest.approx(0.25, abs=0.05)
            np.testing.assert_allclose(target.numpy(), np.where(left_out, 0, value / 0.75), rtol=1e-4, atol=1e-5)

    def test_targets_carry_no_gradient(self, data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
        model, batch = self.drawn(data, dropout=0.5), self.batch(data)
        kept = kept_targets(model, monkeypatch)
        losses = model.loss(data, batch)
        assert len(kept) == 2 + len(NAMES)
        assert not any(target.requires_grad for target in kept)
        found = torch.autograd.grad(losses["rec"], list(model.parameters()), allow_unused=True)
        # The same with targets that are numbers.
        user, item = model._behavior(data)
        online = model.predictor(user[batch.user]), model.predictor(item[batch.pos_item])
        cosines = [torch.cosine_similarity(x, t.clone()) for x, t in zip(online, (kept[1], kept[0]), strict=True)]
        expected = torch.autograd.grad(-sum(x.mean() for x in cosines), list(model.parameters()), allow_unused=True)
        for one, other in zip(found, expected, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other)

    def test_shuffled_features_hurt(self, data: HeteroData) -> None:
        """They cannot: they reach the scores through the predictor alone, and no embedding is moved towards them."""
        model = self.drawn(data)
        modal = [value for name, value in model.loss(data, self.batch(data)).items() if name[:4] in ("alig", "mask")]
        assert len(modal) == 2 * len(NAMES)
        torch.stack(modal).sum().backward()
        assert model.user_emb.weight.grad is None
        assert model.item_emb.weight.grad is None
        assert model.predictor.weight.grad.abs().sum() > 0

    def test_no_negative_items_are_read(self, data: HeteroData) -> None:
        model, batch = self.build(data), self.batch(data)
        losses = []
        for negative in (batch.neg_item, batch.neg_item.flip(0), batch.pos_item):
            torch.manual_seed(0)
            losses.append(model.loss(data, Triplets(batch.user, batch.pos_item, negative)))
        assert losses[0] == losses[1] == losses[2]

    def test_evaluation_drops_nothing(self, data: HeteroData) -> None:
        model, batch = self.build(data).eval(), self.batch(data)
        losses = model.loss(data, batch)
        assert losses == model.loss(data, batch)
        assert losses == self.build(data, dropout=0.0).loss(data, batch)
        assert losses != model.train().loss(data, batch)

    def test_items_take_no_part_in_terms_of_what_they_lack(self, data: HeteroData) -> None:
        model, batch = self.drawn(data, dropout=0.0), self.batch(data)
        whole = model.loss(data, batch)
        mask = torch.arange(30) % 3 > 0
        data["item"].mask_image = mask
        losses = model.loss(data, batch)
        assert {name for name in whole if losses[name] != whole[name]} == {"align_image", "mask_image"}
        held = batch.pos_item[mask[batch.pos_item]]
        h, h_i = projected(data, model)["image"][held], behavior(data, model)[1][held]
        assert losses["align_image"].item() == pytest.approx(c(linear(model.predictor, h), h_i), rel=1e-4)
        assert losses["mask_image"].item() == pytest.approx(c(linear(model.predictor, h), h), rel=1e-4)
        rest = [h for name, h in projected(data, model).items() if name != "image"]
        expected = np.where(mask.numpy()[:, None], np.mean(list(projected(data, model).values()), 0), np.mean(rest, 0))
        np.testing.assert_allclose(model(data).modal.item.detach().numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_modalities_that_no_item_of_the_batch_has(self, tiny_data: HeteroData) -> None:
        model = self.build(tiny_data)
        tiny_data["item"].mask_image = torch.zeros(30, dtype=torch.bool)
        tiny_data["item"].mask_text = tiny_data["item"].mask_image
        losses = self.losses(model, tiny_data)
        assert [losses[f"{term}_{name}"].item() for term in ("align", "mask") for name in ("image", "text")] == [0] * 4
        torch.stack(list(losses.values())).sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
        assert isinstance(model(tiny_data).modal, UserItem)
        assert model(tiny_data).modal.item.abs().sum() == 0

    def test_modal_items_are_the_latents(self, data: HeteroData) -> None:
        model = self.drawn(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        for name, h in model.modal_items(data).items():
            np.testing.assert_allclose(h.detach().numpy(), projected(data, model)[name], rtol=1e-4, atol=1e-5)

    def test_biases_start_at_zero(self, tiny_data: HeteroData) -> None:
        model = self.drawn(tiny_data)
        model.reset_parameters()
        for name, parameter in (*model.named_parameters(), *self.build(tiny_data).named_parameters()):
            assert (parameter.abs().max() == 0) == name.endswith("bias")

    @pytest.mark.parametrize("dropout", [-0.1, 1.0])
    def test_dropout_out_of_range(self, tiny_data: HeteroData, dropout: float) -> None:
        with pytest.raises(ValueError, match=rf"^'dropout' must lie in \[0, 1\) \(got {dropout}\)$"):
            self.build(tiny_data, dropout=dropout)
