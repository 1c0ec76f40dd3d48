from __future__ import annotations

import numpy as np
import pytest
import torch

from pyg_mmrec.nn import AspectBranch
from pyg_mmrec.nn.loss import aspect_loss, orthogonality_loss
from tests.models.in_numpy import softmax, unit


def drawn(num_words: int | None = 9) -> AspectBranch:
    branch = AspectBranch(4, num_parts=3, channels=2, num_words=num_words).double()
    with torch.no_grad():
        for parameter in branch.parameters():
            parameter.normal_()
        if branch.word is not None:
            branch.word[0] = 0
    return branch


TOKENS = torch.tensor([[3, 5, 5, 0], [8, 0, 0, 0], [1, 2, 3, 4]])


def test_texts_equal_eq_2_and_3() -> None:
    branch = drawn()
    assert branch.word is not None
    assert branch.attention is not None
    word, m = branch.word.detach().numpy(), branch.attention.detach().numpy()
    code = branch(branch.read(TOKENS))
    for row, tokens in enumerate(TOKENS.tolist()):
        w = word[[token for token in tokens if token]]
        a = softmax(np.array([x @ m @ w.mean(0) for x in w]))
        t = (a[:, None] * w).sum(0)
        np.testing.assert_allclose(code.target[row].detach(), t, atol=1e-12)
        parts = branch.extract.weight.detach().numpy() @ t + branch.extract.bias.detach().numpy()
        np.testing.assert_allclose(code.part[row].detach(), parts.reshape(3, 2), atol=1e-12)
    assert torch.equal(code.part, code.mean)


def test_texts_are_rebuilt_as_in_eq_14() -> None:
    branch, part = drawn(), torch.randn(5, 3, 2, dtype=torch.float64)
    weight, text = branch.rebuilt(part)
    fc, bias, aspect = (x.detach().numpy() for x in (branch.weigh, branch.weigh_bias, branch.aspect))
    for row in range(5):
        p = softmax(np.array([fc[j] @ part[row, j].numpy() + bias[j] for j in range(3)]))
        np.testing.assert_allclose(weight[row].detach(), p)
        np.testing.assert_allclose(text[row].detach(), p @ unit(aspect))


def test_losses_equal_eq_15() -> None:
    rng = np.random.default_rng(0)
    rebuilt, text, negative, aspect = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 3, 4)), 0
    expected = [
        sum(max(0, 1 - unit(r) @ unit(t) + unit(r) @ unit(n)) for n in ns)
        for r, t, ns in zip(rebuilt, text, negative, strict=True)
    ]
    found = aspect_loss(*(torch.from_numpy(x) for x in (rebuilt, text, negative)))
    np.testing.assert_allclose(found, expected)
    aspect = rng.normal(size=(3, 4))
    gram = unit(aspect) @ unit(aspect).T
    np.testing.assert_allclose(orthogonality_loss(torch.from_numpy(aspect)), np.linalg.norm(gram - np.eye(3)))


def test_a_text_is_never_its_own_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    branch, seen = drawn(), []
    branch.num_negatives = 20
    monkeypatch.setattr(
        "pyg_mmrec.nn.aspects.aspect_loss", lambda rebuilt, text, negative: seen.append((text, negative)) or text[:, 0]
    )
    code = branch(TOKENS)
    branch.losses(TOKENS, code, code.part)
    ((_, negative),) = seen
    mean = branch.mean_word(TOKENS)
    assert negative.shape == (3, 20, 4)
    for row in range(3):
        others = {tuple(mean[other].tolist()) for other in range(3) if other != row}
        assert {tuple(x.tolist()) for x in negative[row]} == others
    assert branch.losses(TOKENS[:1], code.of(torch.tensor([0])), code.part[:1])["aspects"].tolist() == [0.0]


def test_a_text_without_words() -> None:
    branch = drawn()
    empty = torch.zeros(2, 4, dtype=torch.long)
    assert not branch.text(empty).any()
    code = branch(empty)
    branch.losses(empty, code, code.part)["aspects"].sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in branch.parameters())


def test_features_stand_in_for_texts() -> None:
    branch, x = AspectBranch(4, 2, 3), 7 + 3 * torch.randn(50, 4)
    branch.start_from(x)
    z = branch.read(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    assert torch.equal(branch(z).target, z)
    assert torch.equal(branch.mean_word(z), z)


def test_aspects_start_at_clusters_of_words() -> None:
    branch = AspectBranch(4, 3, 2, num_words=31)
    word = torch.zeros(31, 4)
    word[1:] = torch.eye(4)[torch.arange(30) % 3] + 0.05 * torch.randn(30, 4)
    branch.start_from(TOKENS, word)
    assert torch.equal(branch.word, word)
    assert sorted(branch.aspect.argmax(1).tolist()) == [0, 1, 2]
    assert not branch.word.requires_grad
    assert AspectBranch(4, 3, 2, num_words=31, train_words=True).word.requires_grad


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_parts": 5}, r"^a text of width 4 has at most as many aspects, .* \(got 5 attributes\)"),
        ({"num_words": 1}, r"^'num_words' must be at least 2 \(got 1\)$"),
        ({"train_words": 1}, r"^'train_words' must be True or False \(got 1\)$"),
        ({"num_negatives": 0}, r"^'num_negatives' must be positive \(got 0\)$"),
    ],
)
def test_bad_arguments(kwargs: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AspectBranch(**{"word_channels": 4, "num_parts": 3, "channels": 2, **kwargs})  # type: ignore[arg-type]
