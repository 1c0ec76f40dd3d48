from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pyg_mmrec.nn import IntentAttention, MultiIntentExtractor, SoftIntents
from pyg_mmrec.nn.loss import intent_contrast, intent_kl, intent_overlap


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_kl_of_uniform_and_one_hot_assignments() -> None:
    assert intent_kl(torch.full((5, 8), 1 / 8)).item() == pytest.approx(0, abs=1e-6)
    one_hot = torch.eye(8)[torch.tensor([0, 0, 3])]
    assert intent_kl(one_hot).item() == pytest.approx(math.log(8))
    assert intent_kl(torch.eye(8), "batch").item() == pytest.approx(0, abs=1e-6)
    assert intent_kl(one_hot[:2], "batch").item() == pytest.approx(math.log(8))


def test_kl_equals_its_equation() -> None:
    s = torch.randn(6, 4, dtype=torch.float64).softmax(1)
    expected = sum(p * (math.log(p) + math.log(4)) for row in s.tolist() for p in row) / 6
    assert intent_kl(s).item() == pytest.approx(expected)
    s.requires_grad_()
    assert torch.autograd.gradcheck(intent_kl, (s,))


def test_kl_of_a_certain_user_has_a_finite_gradient() -> None:
    logits = torch.tensor([[0.0, -500.0]], requires_grad=True)
    intent_kl(logits.softmax(1)).backward()
    assert logits.grad.isfinite().all()


def test_overlap_equals_its_equation() -> None:
    intent = torch.randn(5, 3, dtype=torch.float64)
    rows, squared, printed = intent.numpy(), 0.0, 0.0
    for m in range(5):
        for n in range(m + 1, 5):
            squared += cosine(rows[m], rows[n]) ** 2
            printed += rows[m] @ rows[n]
    assert intent_overlap(intent).item() == pytest.approx(squared)
    assert intent_overlap(intent, "printed").item() == pytest.approx(printed)
    assert intent_overlap(3 * torch.eye(4)).item() == pytest.approx(0, abs=1e-6)


def test_contrast_equals_its_equation_with_2k_minus_2_negatives() -> None:
    one, other = torch.randn(2, 7, 4, 3, dtype=torch.float64)
    total = 0.0
    for h1, h2 in zip(one.numpy(), other.numpy(), strict=True):
        for anchor, view in ((h1, h2), (h2, h1)):
            for k in range(4):
                positive = math.exp(cosine(anchor[k], view[k]) / 0.3)
                others = [cosine(anchor[k], side[j]) for side in (view, anchor) for j in range(4) if j != k]
                assert len(others) == 2 * 4 - 2
                total -= math.log(positive / (positive + sum(math.exp(c / 0.3) for c in others)))
    assert intent_contrast(one, other, 0.3).item() == pytest.approx(total / 7)
    torch.testing.assert_close(intent_contrast(other, one, 0.3), intent_contrast(one, other, 0.3))
    one.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: intent_contrast(x, other, 0.3), (one,))


def test_other_users_are_no_negatives() -> None:
    one, other = torch.randn(2, 3, 4, 5)
    alone = [intent_contrast(one[u : u + 1], other[u : u + 1]) for u in range(3)]
    torch.testing.assert_close(intent_contrast(one, other), torch.stack(alone).mean())


def test_contrast_of_nobody_is_zero() -> None:
    one = torch.zeros(0, 4, 5, requires_grad=True)
    intent_contrast(one, one).backward()
    assert intent_contrast(one, one).item() == 0


@pytest.mark.parametrize("distance", ["cosine", "euclid"])
def test_assignments_equal_eq_4(distance: str) -> None:
    module, z = SoftIntents(4, 3, temperature=0.5, distance=distance).double(), torch.randn(6, 3).double()  # type: ignore[arg-type]
    with torch.no_grad():
        module.lin.bias.uniform_()
    s, g = module(z)
    weight, bias, intents = (part.detach().numpy() for part in (module.lin.weight, module.lin.bias, module.weight))
    for row in range(6):
        mapped = weight @ z[row].numpy() + bias
        if distance == "cosine":
            expected = np.array([(2 - 2 * cosine(mapped, intent)) / 0.5 for intent in intents])
        else:
            expected = np.array([np.square(mapped - intent).sum() / 3 for intent in intents])
        np.testing.assert_allclose(g[row].detach(), expected)
        np.testing.assert_allclose(s[row].detach(), np.exp(-expected) / np.exp(-expected).sum())


@pytest.mark.parametrize("distance", ["cosine", "euclid"])
@pytest.mark.parametrize("read", [1000, 40])
def test_intents_are_placed_at_clusters(monkeypatch: pytest.MonkeyPatch, distance: str, read: int) -> None:
    monkeypatch.setattr("pyg_mmrec.nn.intent.PLACED_BY", read)
    module = SoftIntents(3, 4, temperature=0.05, distance=distance)  # type: ignore[arg-type]
    length = module.weight.detach().norm(dim=1)
    cluster = torch.arange(60) % 3
    z = 5 * torch.eye(4)[cluster] + 0.1 * torch.randn(60, 4)
    module.place(z, torch.Generator().manual_seed(0))
    assigned = module(z)[0].argmax(1)
    assert len({(int(a), int(b)) for a, b in zip(assigned, cluster, strict=True)}) == 3
    assert sorted(module.weight.argmax(1).tolist()) == [0, 1, 2]
    expected = length if distance == "cosine" else torch.full((3,), 5.0)
    torch.testing.assert_close(module.weight.detach().norm(dim=1), expected, rtol=0.05, atol=0)


@pytest.mark.parametrize("more", [[], [1, 1, 3, 4]])  # fewer entries than rows, and more
def test_attention_equals_eq_10(more: list[int]) -> None:
    module, table, intent = IntentAttention(4), torch.randn(7, 4), torch.randn(3, 4)
    row, ptr = torch.tensor([2, 6, 0, 2, 5, *more]), torch.tensor([0, 2, 2, 5 + len(more)])
    out, attention = module(table, row, ptr, intent)
    query = intent @ module.query.weight.t()
    for history in range(3):
        entries = slice(int(ptr[history]), int(ptr[history + 1]))
        e = table[row[entries]]
        expected = (query @ (e @ module.key.weight.t()).t() / 2).softmax(1)  # [K, n]
        torch.testing.assert_close(attention[entries].t(), expected)
        torch.testing.assert_close(out[history], expected @ (e @ module.value.weight.t()))


def extractor(**kwargs: bool) -> MultiIntentExtractor:
    torch.manual_seed(0)
    return MultiIntentExtractor(["id", "text"], 8, 3, num_heads=2, **kwargs).double().eval()


def test_the_extractor_equals_its_equations() -> None:
    module = extractor()
    tables = {name: torch.randn(9, 8).double() for name in ("id", "text")}
    own, item, ptr = torch.randn(3, 8).double(), torch.tensor([4, 1, 8, 0, 2]), torch.tensor([0, 2, 2, 5])
    mask = torch.arange(9) != 8
    out = module(tables, own, item, ptr, {"text": mask})
    intent = module.intents.weight
    for user in range(3):
        history = item[ptr[user] : ptr[user + 1]]
        seen = {"id": history, "text": history[mask[history]]}
        mean = torch.stack([tables[m][seen[m]].sum(0) / max(1, len(seen[m])) for m in tables])
        r = module.mixed(module.mixer(mean[None], mean[None], mean[None])[0].flatten()).softmax(0)
        s = module.intents(own[user : user + 1] + mean[0])[0][0]
        h = torch.zeros(3, 8).double()
        for weight, m in zip(r, tables, strict=True):
            e = tables[m][seen[m]]
            if m == "id":
                e = torch.cat([own[user : user + 1], e])
            lin = module.perception[m]
            logits = lin.query(intent) @ lin.key(e).t() / 8**0.5
            h += weight * (logits.softmax(1) @ lin.value(e))
        torch.testing.assert_close(out.modality[user], r)
        torch.testing.assert_close(out.assignment[user], s)
        torch.testing.assert_close(out.views[user], h)
        torch.testing.assert_close(out.vector[user], s @ h)


def test_what_items_carry() -> None:
    module = extractor()
    tables = {name: torch.randn(9, 8).double() for name in ("id", "text")}
    own, item, mask = torch.randn(1, 8).double(), torch.tensor([4, 8, 0]), torch.arange(9) != 8
    modality = torch.tensor([0.3, 0.7]).double()
    carried = module.carried(tables, own, item, {"text": mask}, modality)
    assert carried.shape == (3, 3)
    query = module.intents.weight
    for m, seen in (("id", item), ("text", item[mask[item]])):
        e = torch.cat([own, tables[m][seen]]) if m == "id" else tables[m][seen]
        lin = module.perception[m]
        attention = (lin.query(query) @ lin.key(e).t() / 8**0.5).softmax(1)
        if m == "id":
            attention = attention[:, 1:]
        place = torch.ones(3, dtype=torch.bool) if m == "id" else mask[item]
        carried[:, place] -= modality[["id", "text"].index(m)] * attention
    torch.testing.assert_close(carried, torch.zeros_like(carried))
    with pytest.raises(ValueError, match=r"^without 'intent_learning' and 'modal_awareness' no intent is carried"):
        extractor(modal_awareness=False).carried(tables, own, item, {}, modality)


def test_ablations() -> None:
    tables = {name: torch.randn(9, 8).double() for name in ("id", "text")}
    args = tables, torch.randn(2, 8).double(), torch.tensor([4, 1, 0]), torch.tensor([0, 2, 3]), {}
    no_intents = extractor(intent_learning=False)
    out = no_intents(*args)
    assert out.assignment is None
    mean = torch.stack([torch.stack([t[[4, 1]].mean(0), t[0]]) for t in tables.values()], dim=1)
    torch.testing.assert_close(out.vector, (out.modality.unsqueeze(-1) * mean).sum(1))
    no_awareness = extractor(modal_awareness=False)
    out = no_awareness(*args)
    assert out.modality.tolist() == [[0.5, 0.5]] * 2
    torch.testing.assert_close(out.vector, out.assignment @ no_awareness.intents.weight)
    neither = extractor(intent_learning=False, modal_awareness=False)
    assert list(neither.state_dict()) == []
    torch.testing.assert_close(neither(*args).vector, mean.mean(1))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_intents": 1}, r"^'num_intents' must be at least 2 \(got 1\)$"),
        ({"channels": 0}, r"^'channels' must be positive \(got 0\)$"),
        ({"temperature": 0.0}, r"^'temperature' must be positive \(got 0.0\)$"),
        ({"distance": "dot"}, r"^'distance' must be 'cosine' or 'euclid' \(got 'dot'\)$"),
    ],
)
def test_bad_arguments(kwargs: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SoftIntents(**{"num_intents": 3, "channels": 4, **kwargs})  # type: ignore[arg-type]


def test_heads_divide_the_width() -> None:
    with pytest.raises(ValueError, match=r"^'num_heads' must divide 'hidden_channels' \(got 4 and 6\)$"):
        MultiIntentExtractor(["id"], 6, 3)
