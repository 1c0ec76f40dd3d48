from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.nn import BehaviorModalAlignment, SimilarityTargets, similarity
from pyg_mmrec.nn.loss import feature_similarity_loss, info_nce, similarity_loss
from pyg_mmrec.typing import INTERACTS, Triplets


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def data() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 5, 7
    data["item"].x_image, data["item"].x_text = normal(7, 600), normal(7, 4, seed=1)
    data["item"].mask_text = torch.tensor([True] * 5 + [False] * 2)
    data[INTERACTS].edge_index = torch.tensor([[0, 0, 1, 1, 1, 2, 3, 3, 4], [0, 3, 1, 3, 4, 6, 2, 5, 6]])
    return data


def alignment(**init_args: Any) -> BehaviorModalAlignment:
    return BehaviorModalAlignment({"image": 600, "text": 4}, **init_args)


BATCH = Triplets(torch.tensor([1, 0, 1, 3, 1]), torch.tensor([3, 3, 1, 2, 3]), torch.tensor([0, 1, 2, 3, 4]))
PARTS = {"behavior": (normal(5, 3), normal(7, 3, seed=1)), "modal": (normal(5, 3, seed=2), normal(7, 3, seed=3))}


def test_the_order_of_the_batch_does_not_matter(data: HeteroData) -> None:
    module = alignment()
    order = torch.tensor([3, 0, 4, 2, 1])
    losses = module(data, BATCH, **PARTS)
    for name, value in module(data, Triplets(*(part[order] for part in BATCH)), **PARTS).items():
        torch.testing.assert_close(value, losses[name])
    assert list(losses) == ["intra_behavior", "intra_modal", "inter_user", "inter_item", "sss_user", "sss_item"]


def test_repeats_are_no_negatives(data: HeteroData) -> None:
    """Interactions 0, 1 and 4 share their item, 0, 2 and 4 their user: only the fourth is a negative of the first."""
    losses = alignment(intra_weight=1.0)(data, BATCH, **PARTS)
    user, item = (torch.nn.functional.normalize(part) for part in PARTS["behavior"])
    own, other = float(user[1] @ item[3]) / 0.2, float(user[1] @ item[2]) / 0.2
    first = torch.tensor([own, other]).exp().sum().log() - own
    pair = user[BATCH.user], item[BATCH.pos_item]
    ids = torch.stack([BATCH.user, BATCH.pos_item])
    assert float(info_nce(pair[0][[0, 3]], pair[1][[0, 3]], 0.2)) == pytest.approx(
        float(first + torch.tensor([float(user[3] @ item[2]) / 0.2, float(user[3] @ item[3]) / 0.2]).exp().sum().log())
        / 2
        - float(user[3] @ item[2]) / 0.4
    )
    torch.testing.assert_close(losses["intra_behavior"], info_nce(*pair, 0.2, ids))
    grads = torch.autograd.grad(
        info_nce(pair[0][:1].repeat(5, 1), (items := item[BATCH.pos_item].requires_grad_()), 0.2, ids), items
    )
    assert grads[0].isfinite().all()


def test_targets_carry_no_gradient(data: HeteroData) -> None:
    data["item"].x_text.requires_grad_()
    modal = tuple(part.clone().requires_grad_() for part in PARTS["modal"])
    module = alignment(intra_weight=0.0, inter_weight=0.0)
    torch.stack(list(module(data, BATCH, PARTS["behavior"], modal).values())).sum().backward()
    assert data["item"].x_text.grad is None
    assert all(part.grad.abs().sum() > 0 for part in modal)
    target = torch.eye(3, dtype=torch.float64, requires_grad=True)
    similarity_loss(normal(3, 2).requires_grad_(), target).backward()
    assert target.grad is None


def expected_targets(data: HeteroData, index: torch.Tensor, users: bool) -> torch.Tensor:
    total = torch.zeros(index.numel(), index.numel(), dtype=torch.float64)
    for name, weight in (("image", 0.3), ("text", 0.7)):
        x = data["item"][f"x_{name}"].clone()
        if name == "text":
            x[5:] = 0
        if users:
            edges = data[INTERACTS].edge_index
            x = torch.stack([x[edges[1][edges[0] == user]].mean(0) for user in range(5)])
        total += weight * torch.nn.functional.cosine_similarity(x[index][:, None], x[index][None], dim=-1, eps=1e-30)
    return total


@pytest.mark.parametrize("mode", ["direct", "gram"])
def test_targets_equal_a_loop(data: HeteroData, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "GRAM_CHANNELS", 5)
    monkeypatch.setattr(similarity, "ROWS_AT_ONCE", 2)
    targets = SimilarityTargets({"image": 0.3, "text": 0.7}, {"image": 600, "text": 4}, mode)
    item, user = torch.tensor([6, 0, 3, 5]), torch.tensor([4, 1, 2])
    for _ in range(2):  # from what is held, too
        torch.testing.assert_close(targets.items(data, item), expected_targets(data, item, users=False))
        torch.testing.assert_close(targets.users(data, user), expected_targets(data, user, users=True))
    data["item"].x_image = normal(7, 600, seed=9)
    torch.testing.assert_close(targets.items(data, item), expected_targets(data, item, users=False))


@pytest.mark.parametrize("mode", ["direct", "projected", "gram"])
def test_products_of_factors_are_the_targets(data: HeteroData, mode: Any) -> None:
    targets = SimilarityTargets({"image": 0.3, "text": 0.7}, {"image": 600, "text": 4}, mode, channels=8)
    index = torch.tensor([3, 0, 2])
    assert targets.num_factors == (12 if mode == "projected" else 604)  # 600 are too few to read products instead
    for factors, matrix in ((targets.item_factors, targets.items), (targets.user_factors, targets.users)):
        rows = factors(data, index)
        assert rows.size(1) == targets.num_factors
        torch.testing.assert_close(rows @ rows.t(), matrix(data, index))


def test_products_that_are_held_have_no_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "GRAM_CHANNELS", 5)
    assert SimilarityTargets({"image": 0.3, "text": 0.7}, {"image": 600, "text": 4}, "gram").num_factors is None


def test_both_ways_to_the_targets_agree(data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 600 channels and few rows matrices are made, with 4 channels they are not."""
    data["item"].x_image = data["item"].x_image[:, :1]
    modal = tuple(part.clone().requires_grad_() for part in PARTS["modal"])
    module = BehaviorModalAlignment({"image": 1, "text": 1}, intra_weight=0.0, inter_weight=0.0)
    data["item"].x_text = data["item"].x_text[:, :1]
    found = []
    for factors in (2, None):
        monkeypatch.setattr(SimilarityTargets, "num_factors", factors)
        losses = module(data, BATCH, PARTS["behavior"], modal)
        found.append([*losses.values(), *torch.autograd.grad(torch.stack(list(losses.values())).sum(), modal)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_projected_targets_are_near(data: HeteroData) -> None:
    """The error of a cosine is about one over the root of the channels."""
    direct, projected = (
        SimilarityTargets({"image": 1.0}, {"image": 600}, mode, channels=256) for mode in ("direct", "projected")
    )
    index = torch.arange(7)
    error = (direct.items(data, index) - projected.items(data, index)).abs()
    assert 1e-4 < error.max() < 4 / 16


def test_targets_are_single_precision_under_autocast(data: HeteroData) -> None:
    data["item"].x_image = data["item"].x_image.float()
    targets = SimilarityTargets({"image": 1.0}, {"image": 600})
    plain = targets.items(data, torch.arange(7))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(targets.items(data, torch.arange(7)), plain)


@pytest.mark.parametrize("normalized", [True, False])
def test_similarity_loss_equals_a_loop(normalized: bool) -> None:
    x, target = normal(4, 3), normal(4, 4, seed=1)
    rows = [row / row.norm() if normalized else row for row in x]
    errors = [(float(rows[b] @ rows[c]) - float(target[b, c])) ** 2 for b in range(4) for c in range(4)]
    assert float(similarity_loss(x, target, normalized)) == pytest.approx((sum(errors) / 16) ** 0.5)


@pytest.mark.parametrize("normalized", [True, False])
def test_gradient_of_similarity_loss(normalized: bool) -> None:
    x, target = normal(4, 3).requires_grad_(), normal(4, 4, seed=1)
    target = target + target.t()
    assert torch.autograd.gradcheck(lambda x: similarity_loss(x, target, normalized), x)


@pytest.mark.parametrize("normalized", [True, False])
def test_similarity_loss_of_features(normalized: bool) -> None:
    x, feature = normal(4, 3), normal(4, 2, seed=1)
    torch.testing.assert_close(
        feature_similarity_loss(x, feature, normalized), similarity_loss(x, feature @ feature.t(), normalized)
    )


def test_similarity_loss_at_its_features() -> None:
    x = torch.nn.functional.normalize(normal(100, 3).float())
    loss = feature_similarity_loss(x.requires_grad_(), x.detach())
    loss.backward()
    assert 0 < loss.item() < 1e-3 * (x @ x.t()).square().mean().sqrt().item()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_similarity_loss_at_its_target() -> None:
    x = torch.eye(3, requires_grad=True)
    loss = similarity_loss(x, torch.eye(3))
    loss.backward()
    assert float(loss) == pytest.approx(1e-6)
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_similarity_loss_of_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"^'target' must hold one number for each pair of 3 rows \(got \[2, 2\]\)$"):
        similarity_loss(torch.eye(3), torch.eye(2))
    with pytest.raises(ValueError, match=r"^'feature' must hold one vector for each of 3 rows \(got \[2, 2\]\)$"):
        feature_similarity_loss(torch.eye(3), torch.eye(2))


def test_unread_features_may_be_missing() -> None:
    module = BehaviorModalAlignment({}, sss_weight=0.0)
    assert len(module(HeteroData(), BATCH, **PARTS)) == 4
    with pytest.raises(ValueError, match="'in_channels' names no modality: give item features or set 'sss_weight'"):
        BehaviorModalAlignment({})
