from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_mmrec.nn.loss import (
    bce_loss,
    bpr_loss,
    contrast,
    cross_modal_contrast,
    embedding_l2,
    grace_loss,
    gradient_penalty,
    info_nce,
    negative_distance,
    solosim_loss,
    symmetric_info_nce,
)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_bpr_equals_a_loop() -> None:
    pos, neg = normal(7), normal(7, seed=1)
    expected = -sum(math.log(1 / (1 + math.exp(q - p))) for p, q in zip(pos.tolist(), neg.tolist(), strict=True)) / 7
    assert bpr_loss(pos, neg).item() == pytest.approx(expected, rel=1e-12)


def test_bpr_gradient() -> None:
    assert torch.autograd.gradcheck(bpr_loss, (normal(5).requires_grad_(), normal(5, seed=1).requires_grad_()))


def test_bpr_ignores_a_shift_of_both_scores() -> None:
    pos, neg, shift = normal(7), normal(7, seed=1), normal(7, seed=2)
    torch.testing.assert_close(bpr_loss(pos + shift, neg + shift), bpr_loss(pos, neg))


def test_bpr_falls_as_the_positive_rises() -> None:
    pos, neg = normal(7), normal(7, seed=1)
    assert bpr_loss(pos + 1, neg) < bpr_loss(pos, neg) < bpr_loss(pos - 1, neg)
    assert bpr_loss(pos, pos).item() == pytest.approx(math.log(2))


def test_bpr_of_extreme_scores() -> None:
    pos = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = bpr_loss(pos, torch.zeros(2))
    loss.backward()
    assert loss.item() == pytest.approx(5e3)
    assert pos.grad.tolist() == [0.0, -0.5]


def test_bpr_passes_nan_on() -> None:
    assert bpr_loss(torch.tensor([math.nan, 1.0]), torch.zeros(2)).isnan()


def test_bce_equals_a_loop() -> None:
    pos, neg = normal(7), normal(7, seed=1)
    expected = -sum(math.log(1 / (1 + math.exp(-p))) for p in pos.tolist())
    expected -= sum(math.log(1 - 1 / (1 + math.exp(-q))) for q in neg.tolist())
    assert bce_loss(pos, neg).item() == pytest.approx(expected / 14, rel=1e-12)


def test_bce_equals_that_of_torch() -> None:
    pos, neg = normal(7), normal(7, seed=1)
    label = torch.cat([torch.ones(7), torch.zeros(7)]).double()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(torch.cat([pos, neg]), label)
    torch.testing.assert_close(bce_loss(pos, neg), expected)


def test_bce_of_extreme_logits() -> None:
    pos = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = bce_loss(pos, torch.full((2,), -1e4))
    loss.backward()
    assert loss.item() == pytest.approx(2.5e3)
    assert pos.grad.tolist() == [0.0, -0.25]


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_l2_equals_a_loop(form: str) -> None:
    matrices = normal(4, 3), normal(4, 2, seed=1), normal(5, 3, seed=2)
    total = 0.0
    for matrix in matrices:
        square = sum(value**2 for row in matrix.tolist() for value in row)
        total += square / 2 if form == "squared" else math.sqrt(square)
    assert embedding_l2(*matrices, form=form).item() == pytest.approx(total / 4, rel=1e-12)


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_l2_gradient(form: str) -> None:
    inputs = normal(4, 3).requires_grad_(), normal(4, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *matrices: embedding_l2(*matrices, form=form), inputs)


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_l2_ignores_the_order_of_rows_and_matrices(form: str) -> None:
    one, two = normal(4, 3), normal(4, 2, seed=1)
    shuffled = embedding_l2(two[[3, 1, 0, 2]], one[[1, 0, 3, 2]], form=form)
    torch.testing.assert_close(shuffled, embedding_l2(one, two, form=form))


@pytest.mark.parametrize("form", ["squared", "norm"])
def test_l2_at_zero_and_far_from_it(form: str) -> None:
    zero, far = torch.zeros(2, 3, requires_grad=True), torch.full((2, 3), 1e4, requires_grad=True)
    loss = embedding_l2(zero, far, form=form)
    loss.backward()
    assert loss.item() == pytest.approx(1.5e8 if form == "squared" else 1e4 * math.sqrt(6) / 2)
    assert zero.grad.abs().max() == 0
    assert far.grad.isfinite().all()


def test_l2_of_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"^'embeddings' must hold at least one matrix \(got none\)$"):
        embedding_l2()
    with pytest.raises(ValueError, match=r"^'form' must be 'squared' or 'norm' \(got 'cubed'\)$"):
        embedding_l2(torch.rand(2, 2), form="cubed")


def info_nce_in_numpy(anchor: Tensor, positive: Tensor, temperature: float, index: list[int]) -> float:
    a, p = (x.detach().numpy() / np.linalg.norm(x.detach().numpy(), axis=1, keepdims=True) for x in (anchor, positive))
    total = 0.0
    for b in range(len(a)):
        others = [c for c in range(len(a)) if c == b or index[c] != index[b]]
        total -= a[b] @ p[b] / temperature - math.log(sum(math.exp(a[b] @ p[c] / temperature) for c in others))
    return total / len(a)


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
@pytest.mark.parametrize("index", [[0, 1, 2, 3, 4], [7, 3, 7, 7, 3], [5, 5, 5, 5, 5]], ids=str)
def test_info_nce_equals_a_loop(index: list[int], temperature: float) -> None:
    anchor, positive = normal(5, 3), normal(5, 3, seed=1)
    expected = info_nce_in_numpy(anchor, positive, temperature, index)
    loss = info_nce(anchor, positive, temperature, torch.tensor(index))
    assert loss.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    if len(set(index)) == 5:
        torch.testing.assert_close(info_nce(anchor, positive, temperature), loss)


def test_info_nce_gradient() -> None:
    inputs = normal(4, 3).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(info_nce, inputs)
    index = torch.tensor([1, 0, 1, 2])
    assert torch.autograd.gradcheck(lambda anchor, positive: info_nce(anchor, positive, 0.5, index), inputs)


def test_info_nce_ignores_order_and_scale() -> None:
    anchor, positive, index = normal(5, 3), normal(5, 3, seed=1), torch.tensor([0, 1, 0, 2, 3])
    loss = info_nce(anchor, positive, index=index)
    perm = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(info_nce(anchor[perm], positive[perm], index=index[perm]), loss)
    scale = normal(5, 1, seed=2).abs() + 0.1
    torch.testing.assert_close(info_nce(scale * anchor, positive / scale, index=index), loss)


def test_info_nce_repeats_are_not_negatives() -> None:
    anchor, positive = normal(3, 4).requires_grad_(), normal(3, 4, seed=1)
    losses = info_nce(anchor, positive, index=torch.tensor([0, 0, 1]))
    changed = torch.stack([positive[0], -positive[1], positive[2]])
    grad = torch.autograd.grad(losses, anchor)[0][0]
    other = torch.autograd.grad(info_nce(anchor, changed, index=torch.tensor([0, 0, 1])), anchor)[0][0]
    torch.testing.assert_close(grad, other)  # row 0 does not see its repeat's positive


@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 1e4])
def test_info_nce_of_extremes(temperature: float) -> None:
    anchor = torch.tensor([[1.0, 0.0], [0.0, 1e4], [0.0, 0.0], [1e-8, 0.0]], requires_grad=True)
    loss = info_nce(anchor, -anchor.detach(), temperature)
    loss.backward()
    assert loss.isfinite()
    assert anchor.grad.isfinite().all()


def test_info_nce_of_a_single_row() -> None:
    assert info_nce(normal(1, 3), normal(1, 3, seed=1)).item() == pytest.approx(0, abs=1e-12)


def test_info_nce_of_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"^'positive' must have the anchor's shape \(2, 3\) \(got \(3, 3\)\)$"):
        info_nce(torch.rand(2, 3), torch.rand(3, 3))
    with pytest.raises(ValueError, match=r"^'temperature' must be positive \(got 0\)$"):
        info_nce(torch.rand(2, 3), torch.rand(2, 3), 0)
    with pytest.raises(ValueError, match=r"^'anchor' has no rows to contrast$"):
        info_nce(torch.rand(0, 3), torch.rand(0, 3))


@pytest.mark.parametrize("entries", [1, 40, 10**6])
@pytest.mark.parametrize("index", [None, [0, 1, 2, 3, 1, 0, 4, 5, 6, 7, 8, 0, 0]], ids=["distinct", "repeats"])
def test_info_nce_in_blocks_equals_autograd(
    index: list[int] | None, entries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrast, "ENTRIES_AT_ONCE", entries)
    anchor, positive = normal(13, 4).requires_grad_(), normal(13, 4, seed=1).requires_grad_()
    repeats = None if index is None else torch.tensor(index)
    logits = torch.nn.functional.normalize(anchor) @ torch.nn.functional.normalize(positive).t() / 0.3
    if repeats is not None:
        same = (repeats.unsqueeze(0) == repeats.unsqueeze(1)).fill_diagonal_(False)
        logits = logits.masked_fill(same, -torch.inf)
    expected = torch.nn.functional.cross_entropy(logits, torch.arange(13))
    loss = info_nce(anchor, positive, 0.3, repeats)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    for found, wanted in zip(
        torch.autograd.grad(loss, (anchor, positive)), torch.autograd.grad(expected, (anchor, positive)), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("temperature", [0.02, 0.3])
@pytest.mark.parametrize("entries", [1, 2**20])
def test_info_nce_with_further_negatives(monkeypatch: pytest.MonkeyPatch, temperature: float, entries: int) -> None:
    monkeypatch.setattr(contrast, "ENTRIES_AT_ONCE", entries)
    anchor, positive, negative = normal(4, 3), normal(4, 3, seed=1), normal(4, 2, 3, seed=2)
    index = torch.tensor([0, 1, 1, 2])
    loss = info_nce(anchor, positive, temperature, index, negative)
    a, p, n = (x.numpy() / np.linalg.norm(x.numpy(), axis=-1, keepdims=True) for x in (anchor, positive, negative))
    total = 0.0
    for b in range(4):
        logits = [a[b] @ p[c] / temperature for c in range(4) if c == b or index[c] != index[b]]
        logits += [a[b] @ n[b, c] / temperature for c in range(2)]
        total += math.log(sum(map(math.exp, logits))) - a[b] @ p[b] / temperature
    assert loss.item() == pytest.approx(total / 4, rel=1e-12)


def test_further_negatives_belong_to_one_anchor() -> None:
    anchor, negative = normal(4, 3), normal(4, 2, 3, seed=2).requires_grad_()
    positive = normal(4, 3, seed=1)
    torch.testing.assert_close(info_nce(anchor, positive, negative=negative[:, :0]), info_nce(anchor, positive))
    other = anchor.clone()
    other[1] = -other[1]
    grads = [torch.autograd.grad(info_nce(x, positive, negative=negative), negative)[0] for x in (anchor, other)]
    assert torch.equal(grads[0][[0, 2, 3]], grads[1][[0, 2, 3]])
    assert not torch.equal(grads[0][1], grads[1][1])


def test_further_negatives_of_another_shape() -> None:
    for shape in ((3, 3), (2, 1, 3), (3, 1, 4)):
        with pytest.raises(ValueError, match=r"^'negative' must have the shape \(3, num_negatives, 3\) \(got "):
            info_nce(normal(3, 3), normal(3, 3), negative=torch.rand(shape))


def test_symmetric_info_nce_is_the_mean_of_both_directions() -> None:
    one, other = normal(6, 3), normal(6, 3, seed=1)
    index = torch.tensor([0, 1, 2, 0, 3, 4])
    both = info_nce_in_numpy(one, other, 0.2, index.tolist()), info_nce_in_numpy(other, one, 0.2, index.tolist())
    assert symmetric_info_nce(one, other, index=index).item() == pytest.approx(sum(both) / 2, rel=1e-12)
    assert symmetric_info_nce(other, one, index=index) == symmetric_info_nce(one, other, index=index)


def test_cross_modal_contrast_is_the_mean_over_pairs() -> None:
    views = {name: normal(6, 3, seed=n) for n, name in enumerate(("audio", "image", "text"))}
    mask = torch.tensor([True, True, False, True, False, True])
    rows = mask.nonzero().flatten().tolist()
    audio, image, text = views.values()
    index = list(range(6))
    pairs = [info_nce_in_numpy(audio, text, 0.3, index)]
    for one, other in ((audio, image), (image, text)):
        pairs.append(info_nce_in_numpy(one[rows], other[rows], 0.3, index))
    assert cross_modal_contrast(views, 0.3, {"image": mask}).item() == pytest.approx(sum(pairs) / 3, rel=1e-12)
    two = {"audio": audio, "text": text}
    assert cross_modal_contrast(two, 0.3).item() == pytest.approx(pairs[0], rel=1e-12)


def test_cross_modal_contrast_without_rows_or_pairs() -> None:
    views = {"image": normal(4, 3).requires_grad_(), "text": normal(4, 3, seed=1)}
    nobody = torch.zeros(4, dtype=torch.bool)
    assert cross_modal_contrast(views, 0.3, {"text": nobody}).item() == 0
    both = {"image": torch.tensor([True, True, False, False]), "text": torch.tensor([False, False, True, True])}
    assert cross_modal_contrast(views, 0.3, both).item() == 0
    for names in ((), ("text",)):
        with pytest.raises(
            ValueError, match=rf"^'views' must hold two modalities or more \(got {''.join(names) or 'none'}\)$"
        ):
            cross_modal_contrast({name: views[name] for name in names})


def test_grace_equals_its_equation() -> None:
    one, other, total = normal(5, 3), normal(5, 3, seed=1), 0.0
    u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one.numpy(), other.numpy()))
    for x, y in ((u, v), (v, u)):
        for b in range(5):
            between = [math.exp(x[b] @ y[c] / 0.3) for c in range(5)]
            within = [math.exp(x[b] @ x[c] / 0.3) for c in range(5) if c != b]
            total -= math.log(between[b] / (sum(between) + sum(within)))
    assert grace_loss(one, other, 0.3).item() == pytest.approx(total / 10, rel=1e-12)
    assert grace_loss(one, other) == pytest.approx(grace_loss(other, one).item())
    assert grace_loss(one[:1], other[:1]).item() == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match=r"^'anchor' has no rows to contrast$"):
        grace_loss(one[:0], other[:0])


def test_solosim_equals_its_equation() -> None:
    text, image = normal(6, 3), normal(6, 3, seed=1)
    t, v = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (text, image))
    e = np.exp(t @ v.T / 0.1)
    expected = -np.mean(np.log(np.diag(e) / e.sum(1)))
    assert solosim_loss(text, image, 0.1).item() == pytest.approx(expected, rel=1e-12)
    assert solosim_loss(image, text, 0.1).item() != pytest.approx(expected, rel=1e-3)  # one direction


@pytest.mark.parametrize("normalized", [True, False])
def test_negative_distance_equals_its_equation(normalized: bool) -> None:
    generic, unique = normal(6, 3), normal(6, 3, seed=1)
    total = 0.0
    for g, u in zip(generic.numpy(), unique.numpy(), strict=True):
        if normalized:
            g, u = g / np.linalg.norm(g), u / np.linalg.norm(u)
        total -= ((g - u) ** 2).sum()
    assert negative_distance(generic, unique, normalized).item() == pytest.approx(total / 6, rel=1e-12)


def test_negative_distance_has_a_lower_bound() -> None:
    x = normal(6, 3)
    assert negative_distance(x, -7 * x).item() == pytest.approx(-4)
    assert negative_distance(x, 7 * x).item() == pytest.approx(0, abs=1e-12)
    assert negative_distance(x, -7 * x, normalized=False) < -100


def test_negative_distance_gradient() -> None:
    inputs = normal(4, 3).requires_grad_(), normal(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(negative_distance, inputs)


def test_info_nce_under_autocast() -> None:
    anchor, positive = normal(50, 8).float().requires_grad_(), normal(50, 8, seed=1).float()
    expected = info_nce(anchor, positive)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(info_nce(anchor, positive), expected)
        low = info_nce(anchor.bfloat16(), positive.bfloat16())
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(expected.item(), rel=1e-2)
    low.backward()
    assert anchor.grad.isfinite().all()


def test_gradient_penalty_equals_its_equation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a critic with a gradient that is known, 2 W x, half way between the rows."""
    weight, real, fake = normal(3).abs(), normal(5, 3, seed=1), normal(2, 5, 3, seed=2)
    monkeypatch.setattr(torch, "rand_like", lambda x: torch.full_like(x, 0.25))
    found = gradient_penalty(lambda x: (weight * x.square()).sum(-1, keepdim=True), real, fake)
    slope = 2 * weight.numpy() * (0.25 * real.numpy() + 0.75 * fake.numpy())
    expected = np.square(np.linalg.norm(slope, axis=-1) - 1).mean()
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_gradient_penalty_reaches_the_critic_alone() -> None:
    weight, real, fake = (x.requires_grad_() for x in (normal(3), normal(5, 3, seed=1), normal(5, 3, seed=2)))
    gradient_penalty(lambda x: x @ weight, real, fake).backward()
    expected = 2 * (weight.norm() - 1) * weight / weight.norm()
    torch.testing.assert_close(weight.grad, expected.detach())
    assert real.grad is None
    assert fake.grad is None


def test_gradient_penalty_is_drawn_between_the_rows() -> None:
    seen = []
    gradient_penalty(lambda x: seen.append(x.detach()) or x.sum(-1), torch.zeros(200, 3), torch.ones(200, 3))
    assert (seen[0] == seen[0][:, :1]).all()
    assert seen[0].min() >= 0
    assert seen[0].max() <= 1
    assert seen[0].mean().item() == pytest.approx(0.5, abs=0.1)
