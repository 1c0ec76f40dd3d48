from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import VBPR
from tests.models.model_tests import FeatureModelTests


def parts(model: VBPR, data: HeteroData) -> tuple[np.ndarray, ...]:
    """The paper's gamma_u, gamma_i, theta_u, E, beta_i, beta' and f, modalities concatenated."""
    d = model.hidden_channels
    weight = np.concatenate([lin.weight.detach().numpy() for lin in model.projection.lins.values()], axis=1)
    f = np.concatenate([data["item"].x_image.numpy(), data["item"].x_text.numpy()], axis=1)
    tables = (table.weight.detach().numpy() for table in (model.user_emb, model.item_emb, model.user_modal_emb))
    if model.item_bias is None:
        return *tables, weight, np.zeros(len(f)), np.zeros(f.shape[1]), f
    return *tables, weight[:d], model.item_bias.detach().numpy(), weight[d], f


class TestVBPR(FeatureModelTests[VBPR]):
    model_class = VBPR

    def drawn(self, data: HeteroData, **init_args: object) -> VBPR:
        """A model none of whose parameters are zero."""
        model = self.build(data, **init_args)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.uniform_(-0.5, 0.5)
        return model

    @pytest.mark.parametrize("bias", [False, True])
    def test_scores_equal_eq_4(self, tiny_data: HeteroData, bias: bool) -> None:
        model = self.drawn(tiny_data, bias=bias)
        gamma_u, gamma_i, theta_u, e, beta_i, beta, f = parts(model, tiny_data)
        expected = np.zeros((40, 30))
        for u in range(40):
            for i in range(30):
                expected[u, i] = beta_i[i] + gamma_u[u] @ gamma_i[i] + theta_u[u] @ (e @ f[i]) + beta @ f[i]
        np.testing.assert_allclose(self.all_scores(model, tiny_data).numpy(), expected, rtol=1e-4, atol=1e-5)

    def test_modal_pair_is_theta_and_the_projection(self, tiny_data: HeteroData) -> None:
        model = self.drawn(tiny_data)
        _, _, theta_u, e, _, _, f = parts(model, tiny_data)
        out = model(tiny_data)
        np.testing.assert_allclose(out.modal.user.detach().numpy(), theta_u)
        np.testing.assert_allclose(out.modal.item.detach().numpy(), f @ e.T, rtol=1e-4, atol=1e-5)
        assert torch.equal(out.behavior.item, model.item_emb.weight)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    @pytest.mark.parametrize("bias", [False, True])
    def test_loss_equals_its_equation(self, tiny_data: HeteroData, bias: bool, l2_form: str) -> None:
        model = self.drawn(tiny_data, bias=bias, l2_weight=0.3, l2_form=l2_form)
        gamma_u, gamma_i, theta_u, e, beta_i, beta, f = parts(model, tiny_data)
        batch = self.batch(tiny_data)

        def score(u: int, i: int) -> float:
            return beta_i[i] + gamma_u[u] @ gamma_i[i] + theta_u[u] @ (e @ f[i]) + beta @ f[i]

        bpr, squares = 0.0, np.zeros(6)
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(score(u, j) - score(u, i)))
            rows = gamma_u[u], theta_u[u], gamma_i[i], gamma_i[j], beta_i[i], beta_i[j]
            squares += [np.square(row).sum() for row in rows]
        size = batch.user.numel()
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        losses = model.loss(tiny_data, batch)
        assert losses["bpr"].item() == pytest.approx(bpr / size, rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / size, rel=1e-4)
        assert set(losses) == {"bpr", "l2"}

    @pytest.mark.parametrize("bias", [False, True])
    def test_penalty_on_projected_features(self, tiny_data: HeteroData, bias: bool) -> None:
        model, plain = (self.drawn(tiny_data, bias=bias, modal_l2_weight=weight) for weight in (0.3, 0.0))
        _, _, _, e, _, beta, f = parts(model, tiny_data)
        batch = self.batch(tiny_data)
        total = 0.0
        for item in (*batch.pos_item.tolist(), *batch.neg_item.tolist()):
            total += np.square(e @ f[item]).sum() + (beta @ f[item]) ** 2 * bias
        losses = model.loss(tiny_data, batch)
        assert losses.pop("l2_modal").item() == pytest.approx(0.3 * total / 2 / batch.user.numel(), rel=1e-4)
        assert losses == plain.loss(tiny_data, batch)

    @pytest.mark.parametrize("name", ["l2_weight", "modal_l2_weight"])
    def test_negative_weights(self, tiny_data: HeteroData, name: str) -> None:
        with pytest.raises(ValueError, match=rf"^'{name}' must not be negative \(got -1.0\)$"):
            self.build(tiny_data, **{name: -1.0})

    def test_biases_start_at_zero(self, tiny_data: HeteroData) -> None:
        model = self.drawn(tiny_data)
        model.reset_parameters()
        assert model.item_bias is not None
        assert model.item_bias.abs().max() == 0
        assert self.build(tiny_data, bias=False).item_bias is None

    def test_items_without_a_modality_are_scored_by_the_rest(self, tiny_data: HeteroData) -> None:
        model = self.drawn(tiny_data)
        tiny_data["item"].mask_image = torch.arange(30) > 0
        masked = self.all_scores(model, tiny_data)
        del tiny_data["item"].mask_image
        tiny_data["item"].x_image[0] = 0
        torch.testing.assert_close(masked, self.all_scores(model, tiny_data))
