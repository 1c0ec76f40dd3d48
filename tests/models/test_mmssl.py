from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.models import MMSSL, UserItem
from pyg_mmrec.training import Trainer
from pyg_mmrec.typing import INTERACTS, Triplets
from tests.models.in_numpy import info_nce, numbers, projected, softmax, unit
from tests.models.model_tests import NAMES, FeatureModelTests, Views, with_features


class Expected(NamedTuple):
    """Users and items each; views by modality, rows of length one in ``features``."""

    user: np.ndarray
    item: np.ndarray
    modal: tuple[np.ndarray, np.ndarray]
    features: tuple[np.ndarray, np.ndarray]
    attended: tuple[np.ndarray, np.ndarray]


def shares(strengths: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Softmax over the edges of each row; zeros where there are none."""
    out = np.exp(strengths) * edges
    return out / np.maximum(out.sum(1, keepdims=True), 1e-12)


def attend(views: np.ndarray, model: MMSSL) -> np.ndarray:
    """``[M, N, d]``, node by node and head by head."""
    if model.attention is None:
        return views
    wq, wk = numbers(model.attention.query.weight), numbers(model.attention.key.weight)
    out, width = np.zeros_like(views), views.shape[2] // model.num_heads
    for node in range(views.shape[1]):
        for head in range(model.num_heads):
            own = slice(head * width, (head + 1) * width)
            q, k = (views[:, node] @ w.T[:, own] for w in (wq, wk))
            out[:, node, own] = softmax(q @ k.T / np.sqrt(width)) @ views[:, node, own]
    return out


def incidence(data: HeteroData) -> np.ndarray:
    edges = np.zeros((40, 30))
    for u, i in data[INTERACTS].edge_index.t().tolist():
        edges[u, i] = 1
    return edges


def expected(data: HeteroData, model: MMSSL) -> Expected:
    edges = incidence(data)
    num_users, num_items = (np.maximum(edges.sum(1 - axis, keepdims=True), 1) for axis in (0, 1))
    features, views = ([], []), ([], [])
    tables = numbers(model.user_emb.weight), numbers(model.item_emb.weight)
    for f in projected(data, model).values():
        user = edges @ f / np.sqrt(num_users)
        item = edges.T @ user / np.sqrt(num_items.T)
        strengths = unit(user) @ unit(item).T
        features[0].append(unit(user))
        features[1].append(unit(item))
        views[0].append(shares(strengths, edges) @ tables[1])
        views[1].append(shares(strengths.T, edges.T) @ tables[0])
    attended = tuple(attend(np.stack(side), model) for side in views)
    layers = [[t + model.attended_weight * unit(x.mean(0)) for t, x in zip(tables, attended, strict=True)]]
    a = edges / np.sqrt(num_users) / np.sqrt(num_items)
    for _ in range(model.num_layers):
        layers.append([a @ layers[-1][1], a.T @ layers[-1][0]])
    modal = tuple(model.feature_weight * np.sum(side, axis=0) for side in features)
    user, item = (np.mean(side, axis=0) + part for side, part in zip(zip(*layers, strict=True), modal, strict=True))
    return Expected(user, item, modal, tuple(map(np.stack, features)), attended)


def values(model: MMSSL, rows: np.ndarray) -> float:
    """The mean of what the critic says."""
    assert model.critic is not None
    return model.critic(torch.from_numpy(rows).float()).mean().item()


def disjoint_views(shuffle: bool) -> tuple[HeteroData, HeteroData]:
    """20 users of four blocks with two items each, which they share with no one; held out are those of their block."""
    generator = torch.Generator().manual_seed(0)
    user_block = torch.arange(20) % 4
    owner = torch.arange(40) // 2
    own = user_block.unsqueeze(1) == user_block[owner]
    train = torch.arange(20).unsqueeze(1) == owner
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 20, 40
    data[INTERACTS].edge_index = data[INTERACTS].edge_label_index = train.nonzero().t().contiguous()
    order = torch.randperm(40, generator=generator) if shuffle else torch.arange(40)
    for name, width in (("image", 12), ("text", 8)):
        centre = torch.randn(4, width, generator=generator)
        x = centre[user_block[owner]] + 0.3 * torch.randn(40, width, generator=generator)
        data["item"][f"x_{name}"] = x[order]
    held_out = data.clone()
    held_out[INTERACTS].edge_label_index = (own & ~train).nonzero().t().contiguous()
    return data, held_out


class TestMMSSL(FeatureModelTests[MMSSL]):
    model_class = MMSSL

    def drawn(self, data: HeteroData, **init_args: Any) -> MMSSL:
        """In eval mode."""
        return super().drawn(data, **init_args).eval()

    def changed(self, data: HeteroData) -> HeteroData:
        """Some items lack the first modality, user 0 has no items."""
        data["item"].mask_audio = torch.arange(30) % 3 > 0
        data[INTERACTS].edge_index = data[INTERACTS].edge_index[:, 5:]
        return data

    @pytest.mark.parametrize(("num_layers", "num_heads"), [(0, 1), (2, 4)])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_forward_equals_its_equations(self, data: HeteroData, num_layers: int, num_heads: int) -> None:
        model = self.drawn(data, num_layers=num_layers, num_heads=num_heads, attended_weight=0.3, feature_weight=0.7)
        out, found = expected(data, model), model(data)
        for side, name in enumerate(("user", "item")):
            whole = numbers(getattr(found, name))
            np.testing.assert_allclose(whole, getattr(out, name), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(numbers(found.modal[side]), out.modal[side], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(numbers(found.behavior[side]), whole - out.modal[side], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("l2_form", ["squared", "norm"])
    @pytest.mark.parametrize("data", [1, 2, 3], indirect=True)
    def test_loss_equals_its_equation(self, data: HeteroData, l2_form: str) -> None:
        weights = {"contrast_weight": 0.7, "temperature": 0.5, "adversarial_weight": 0.2, "l2_weight": 0.3}
        model, batch = self.drawn(data, l2_form=l2_form, adversarial_users=9, **weights), self.batch(data)
        out, losses = expected(data, model), model.loss(data, batch)
        tables = numbers(model.user_emb.weight), numbers(model.item_emb.weight)
        bpr, squares = 0.0, np.zeros(3)
        for u, i, j in zip(*(part.tolist() for part in batch), strict=True):
            bpr += np.log1p(np.exp(out.user[u] @ (out.item[j] - out.item[i])))
            squares += [np.square(row).sum() for row in (tables[0][u], tables[1][i], tables[1][j])]
        penalty = squares.sum() / 2 if l2_form == "squared" else np.sqrt(squares).sum()
        user = sorted(set(batch.user.tolist()))
        contrast = np.mean([info_nce(out.user[user], x[user], 0.5) for x in out.attended[0]])
        rows = out.features[0][:, user[:9]] @ out.features[1].transpose(0, 2, 1)
        assert list(losses) == ["bpr", "contrast", "adversarial", "l2"]
        assert losses["bpr"].item() == pytest.approx(bpr / batch.user.numel(), rel=1e-4)
        assert losses["contrast"].item() == pytest.approx(0.7 * contrast, rel=1e-4)
        assert losses["adversarial"].item() == pytest.approx(-0.2 * values(model, rows), rel=1e-4)
        assert losses["l2"].item() == pytest.approx(0.3 * penalty / batch.user.numel(), rel=1e-4)

    @pytest.mark.parametrize("training", [False, True])
    @pytest.mark.parametrize("data", [1, 3], indirect=True)
    def test_auxiliary_loss_equals_its_equation(
        self, data: HeteroData, training: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All uniform numbers are 0.3."""
        model, batch = self.drawn(data, dropout=0.0, penalty_weight=0.4), self.batch(data)
        monkeypatch.setattr(torch, "rand_like", lambda x: torch.full_like(x, 0.3))
        losses, out = model.train(training).auxiliary_loss(data, batch), expected(data, model)
        user = sorted(set(batch.user.tolist()))
        cosine = unit(out.user[user]) @ unit(out.item).T
        noise = -np.log(-np.log(0.3)) if training else 0
        real = softmax((incidence(data)[user] + noise) / 0.5) + 0.1 * cosine
        fake = out.features[0][:, user] @ out.features[1].transpose(0, 2, 1)
        between = torch.from_numpy(0.3 * real + 0.7 * fake).float().requires_grad_()
        model.critic(between).sum().backward()
        penalty = np.square(np.linalg.norm(between.grad.numpy(), axis=-1) - 1).mean()
        assert set(losses) == {"critic", "penalty"}
        assert losses["critic"].item() == pytest.approx(values(model, fake) - values(model, real), rel=1e-3, abs=1e-4)
        assert losses["penalty"].item() == pytest.approx(0.4 * penalty, rel=1e-3)

    def test_noise_draws_items_by_their_softmax(self, data: HeteroData) -> None:
        """With Gumbel noise an item's logit is the largest as often as the softmax of the logits says."""
        model = self.build(data, gumbel_temperature=0.01, similarity_weight=0.0)
        user, final = torch.full((4000,), 3), UserItem(torch.ones(40, 2), torch.ones(30, 2))
        real = model._real(data, final, user)
        torch.testing.assert_close(real.sum(1), torch.ones(4000))
        found = real.argmax(1).bincount(minlength=30) / 4000
        np.testing.assert_allclose(found.numpy(), softmax(incidence(data)[3]), atol=0.02)

    def test_the_critic_and_the_rest_are_trained_apart(self, data: HeteroData) -> None:
        """The critic climbs towards real rows by its own loss alone; the generator climbs what the critic says."""
        model, batch = self.build(data), self.batch(data)
        critic = {f"critic.{name}" for name, _ in model.critic.named_parameters()}
        assert len(critic) == len(list(model.auxiliary_parameters()))
        torch.stack(list(model.auxiliary_loss(data, batch).values())).sum().backward()
        assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == critic
        optimizer, distances = torch.optim.Adam(model.auxiliary_parameters(), lr=0.01), []
        for _ in range(60):
            losses = model.auxiliary_loss(data, batch)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            distances.append(losses["critic"].item())
        assert np.mean(distances[-10:]) < np.mean(distances[:10]) - 0.1
        model.eval()
        before = model.loss(data, batch)["adversarial"]
        weight = model.projection.lins["text"].weight
        (grad,) = torch.autograd.grad(before, [weight])
        with torch.no_grad():
            weight.sub_(0.1 * grad / grad.norm())
        assert model.loss(data, batch)["adversarial"] < before

    def test_training_stays_within_bounds(self, tiny_split: Views) -> None:
        """Neither side of the game runs away, though the generator is given a large weight."""
        model = self.build(tiny_split[0], adversarial_weight=1.0)
        trainer = Trainer(max_epochs=10, batch_size=64, learning_rate=0.02, accelerator="cpu", progress=False)
        history = trainer.fit(model, *tiny_split).history
        assert max(abs(row["loss_adversarial"]) for row in history) < 10
        assert model.auxiliary_loss(tiny_split[0], self.batch(tiny_split[0]))["penalty"] < 1

    def test_without_a_critic(self, data: HeteroData) -> None:
        model, batch = self.build(data, adversarial_weight=0.0), self.batch(data)
        assert model.critic is None
        assert list(model.loss(data, batch)) == ["bpr", "contrast", "l2"]
        assert model.auxiliary_loss(data, batch) == {}
        assert list(model.auxiliary_parameters()) == []

    def test_rows_of_some_users_are_read(self, data: HeteroData) -> None:
        model, batch, seen = self.build(data, adversarial_users=4), self.batch(data), []
        model.critic.register_forward_hook(lambda _, inputs, out: seen.append(tuple(inputs[0].shape)))
        model.loss(data, batch)
        model.auxiliary_loss(data, batch)
        assert seen == [(3, 4, 30), (3, 4, 30), (4, 30), (3, 4, 30)]
        user = torch.arange(2, 12)
        drawn = [model._drawn(user).tolist() for _ in range(3)]
        assert all(len(set(rows)) == 4 and set(rows) < set(user.tolist()) for rows in drawn)
        assert drawn[0] != drawn[1] or drawn[0] != drawn[2]
        assert model.eval()._drawn(user).tolist() == [2, 3, 4, 5]

    def test_evaluation_draws_nothing(self, data: HeteroData) -> None:
        model, batch = self.drawn(data), self.batch(data)
        assert model.loss(data, batch) == model.loss(data, batch)
        assert model.auxiliary_loss(data, batch)["critic"] == model.auxiliary_loss(data, batch)["critic"]
        assert model.train().loss(data, batch) != model.loss(data, batch)

    def test_each_user_is_contrasted_once(self, data: HeteroData) -> None:
        model, batch = self.drawn(data), self.batch(data)
        again = model.loss(data, Triplets(*(part.repeat(2) for part in batch)))["contrast"]
        torch.testing.assert_close(again, model.loss(data, batch)["contrast"])

    def test_one_modality_has_no_attention(self, data: HeteroData) -> None:
        assert self.build(with_features(data, {"text": data["item"].x_text})).attention is None

    def test_items_without_a_modality_send_nothing(self, data: HeteroData) -> None:
        model = self.drawn(data)
        before, losses = model(data), self.losses(model, data)
        data["item"].x_audio[::3] = 7
        assert torch.equal(model(data).item, before.item)
        assert self.losses(model, data) == losses

    def test_shuffled_features_hurt(self) -> None:
        """Features pass to users and back: those of an item with one misleading interaction cannot help it.

        So users share no items here, and features alone tell who is like whom.
        """
        found, shuffled = (self.recall(*disjoint_views(dealt)) for dealt in (False, True))
        assert found > shuffled + 0.2

    def test_modal_items_are_the_projected_features(self, data: HeteroData) -> None:
        model = self.drawn(data)
        assert model.modal_channels == dict.fromkeys(NAMES, 16)
        x = model.modal_items(data)["text"].detach().numpy()
        lin = model.projection.lins["text"]
        np.testing.assert_allclose(
            x, data["item"].x_text.numpy() @ numbers(lin.weight).T + numbers(lin.bias), rtol=1e-4, atol=1e-5
        )

    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("adversarial_users", 0, "be positive"),
            ("critic_channels", 0, "be positive"),
            ("num_heads", 0, "be positive"),
            ("num_layers", -1, "not be negative"),
            ("attended_weight", -1.0, "not be negative"),
            ("feature_weight", -1.0, "not be negative"),
            ("contrast_weight", -1.0, "not be negative"),
            ("adversarial_weight", -1.0, "not be negative"),
            ("penalty_weight", -1.0, "not be negative"),
            ("similarity_weight", -1.0, "not be negative"),
            ("l2_weight", -1.0, "not be negative"),
            ("gumbel_temperature", 0.0, "be positive"),
            ("temperature", 0.0, "be positive"),
            ("dropout", 1.0, r"lie in \[0, 1\)"),
        ],
    )
    def test_bad_arguments(self, tiny_data: HeteroData, name: str, value: float, rule: str) -> None:
        with pytest.raises(ValueError, match=rf"^'{name}' must {rule} \(got {value}\)$"):
            self.build(tiny_data, **{name: value})

    def test_heads_divide_the_width(self, tiny_data: HeteroData) -> None:
        with pytest.raises(ValueError, match=r"^'num_heads' must divide the width, 'hidden_channels', 16 \(got 3\)$"):
            self.build(tiny_data, num_heads=3)
