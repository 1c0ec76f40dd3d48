from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_mmrec.utils import word_vectors


def topic_texts(num_topics: int = 4, words_each: int = 10, num_texts: int = 400, length: int = 12) -> Tensor:
    """Texts of one topic each: three words in four are the topic's own, the others any, some places are empty."""
    rng = np.random.default_rng(0)
    topic = rng.integers(num_topics, size=(num_texts, 1))
    own = 1 + topic * words_each + rng.integers(words_each, size=(num_texts, length))
    anything = rng.integers(1, num_topics * words_each + 1, size=own.shape)
    tokens = np.where(rng.random(own.shape) < 0.75, own, anything)
    tokens[rng.random(own.shape) < 0.1] = 0
    return torch.from_numpy(tokens)


def dense_information(tokens: list[list[int]], num_words: int, window: int) -> np.ndarray:
    """Positive pointwise mutual information by the definition, pair by pair."""
    counts = np.zeros((num_words, num_words))
    for text in tokens:
        for i, word in enumerate(text):
            for j, other in enumerate(text):
                if i != j and abs(i - j) <= window and word and other:
                    counts[word, other] += 1
    total = counts.sum()
    information = np.zeros_like(counts)
    for v in range(num_words):
        for w in range(num_words):
            if counts[v, w]:
                joint = counts[v, w] / total
                information[v, w] = np.log(joint / (counts[v].sum() / total * counts[:, w].sum() / total))
    return np.maximum(information, 0)


def test_words_of_a_topic_are_near() -> None:
    vectors = word_vectors(topic_texts(), 41, 4)
    unit = torch.nn.functional.normalize(vectors[1:], dim=1)
    cosine = unit @ unit.t()
    topic = torch.arange(40) // 10
    same = topic[:, None] == topic
    assert cosine[same].min() > cosine[~same].max()


@pytest.mark.parametrize("window", [1, 2, 5, 50])
def test_equals_the_dense_factorisation(window: int) -> None:
    tokens = topic_texts(num_topics=3, words_each=4, num_texts=60, length=8)
    vectors = word_vectors(tokens, 13, 5, window=window).double().numpy()
    u, s, _ = np.linalg.svd(dense_information(tokens.tolist(), 13, window))
    assert s[4] - s[5] > 1e-3  # else the factorisation would not be unique
    # the Gram matrix of U sqrt(S), which no sign changes
    np.testing.assert_allclose(vectors @ vectors.T, (u[:, :5] * s[:5]) @ u[:, :5].T, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=0), np.sqrt(s[:5]), rtol=1e-5)  # largest first
    assert (vectors[np.abs(vectors).argmax(axis=0), np.arange(5)] > 0).all()


def test_many_words_equal_the_dense_factorisation() -> None:
    tokens = topic_texts(num_topics=6, words_each=120, num_texts=3000, length=10)
    vectors = word_vectors(tokens, 721, 6).double().numpy()
    assert (vectors.any(1).sum(), vectors[0].any()) == (720, False)  # so many that the sparse solver is used
    u, s, _ = np.linalg.svd(dense_information(tokens.tolist(), 721, 5))
    assert s[5] - s[6] > 1e-3
    np.testing.assert_allclose(vectors @ vectors.T, (u[:, :6] * s[:6]) @ u[:, :6].T, atol=1e-5)
    assert (vectors[np.abs(vectors).argmax(axis=0), np.arange(6)] > 0).all()
    assert np.array_equal(word_vectors(tokens, 721, 6).numpy(), vectors.astype(np.float32))


def test_padding_keeps_words_apart() -> None:
    near, far = torch.tensor([[1, 2, 3, 1]] * 3), torch.tensor([[1, 2, 0, 3, 1]] * 3)
    assert not torch.equal(word_vectors(near, 4, 2, window=1), word_vectors(far, 4, 2, window=1))
    with pytest.raises(ValueError, match=r"'channels' must be less than 0, the number of words"):
        word_vectors(torch.tensor([[1, 0, 2]]), 3, 1, window=1)


def test_same_tokens_same_vectors() -> None:
    tokens = topic_texts()
    state = torch.get_rng_state()
    first = word_vectors(tokens, 41, 16)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert torch.equal(first, word_vectors(tokens, 41, 16))
    torch.set_rng_state(state)
    assert first.dtype == torch.float32
    assert tokens.equal(topic_texts())


def test_equal_singular_values_come_out_the_same() -> None:
    pairs = torch.arange(1, 61).view(30, 2)  # each word with one other: all singular values are equal
    first = word_vectors(pairs, 61, 20)
    assert all(torch.equal(first, word_vectors(pairs, 61, 20)) for _ in range(3))


def test_words_that_do_not_occur_are_zero() -> None:
    tokens = torch.tensor([[2, 4, 0], [4, 2, 5], [5, 2, 4], [9, 0, 0], [6, 5, 6]])
    vectors = word_vectors(tokens, 12, 2)
    assert vectors.shape == (12, 2)
    assert vectors.any(1).nonzero().flatten().tolist() == [2, 4, 5, 6]  # 9 stands alone


def test_columns_beyond_the_rank_are_zero() -> None:
    tokens = torch.tensor([[1, 2], [3, 4], [5, 6]])  # each word tells one other: rank 6
    tokens = torch.cat([tokens, torch.tensor([[1, 7], [3, 8], [5, 9]])])  # 7 stands where 2 does: still rank 6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors = word_vectors(tokens, 10, 8)
    assert vectors.isfinite().all()
    assert vectors.any(0).tolist() == [True] * 6 + [False] * 2


@pytest.mark.parametrize(
    ("tokens", "arguments", "message"),
    [
        ([[1, 2], [2, 3], [3, 4]], {"channels": 4}, "'channels' must be less than 4, the number of words that occur"),
        ([[1, 2], [2, 3], [3, 4]], {"channels": 0}, "'channels' must be positive (got 0)"),
        ([[1, 2], [2, 3]], {"window": 0}, "'window' must be positive (got 0)"),
        ([[1, 2], [2, 3]], {"num_words": 3.0}, "'num_words' must be an int (got 3.0)"),
        ([[1, 9]], {}, "'tokens' must lie in 0..4 (got 1..9)"),
        ([[1, -1]], {}, "'tokens' must lie in 0..4 (got -1..1)"),
        ([1, 2], {}, "'tokens' must be an int64 tensor of shape [num_texts, T] (got torch.int64, [2])"),
        ([[1.0, 2.0]], {}, "'tokens' must be an int64 tensor of shape [num_texts, T] (got torch.float32, [1, 2])"),
        ([[], []], {}, "'tokens' must be an int64"),
        ([[0, 0]], {}, "'channels' must be less than 0"),
    ],
)
def test_bad_input(tokens: list, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=r"^'\w+' must") as caught:
        word_vectors(torch.tensor(tokens), **{"num_words": 5, "channels": 1, **arguments})
    assert message in str(caught.value)


def test_no_tensor() -> None:
    with pytest.raises(ValueError, match=r"'tokens' must be an int64 tensor .* \(got list\)"):
        word_vectors([[1, 2]], 3, 1)  # type: ignore[arg-type]
