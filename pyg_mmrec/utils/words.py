"""Vectors of words from the texts that they stand in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from scipy.sparse.linalg import svds
from sklearn.utils.extmath import svd_flip
from torch import Tensor

from pyg_mmrec.utils.checks import check_int


def word_vectors(tokens: Tensor, num_words: int, channels: int, window: int = 5) -> Tensor:
    r"""Vectors of words from their positive pointwise mutual information within a window over texts.

    Words that stand in the same contexts get near vectors, as those of word2vec, which factorises a shifted form of
    the same matrix (`Levy and Goldberg, 2014 <https://papers.nips.cc/paper/5477>`_). With :math:`n_{vw}` how often
    :math:`w` stands at most ``window`` places from :math:`v`, the sparse matrix

    .. math::
        \mathbf{P}_{vw} = \max\left(0, \log \frac{n_{vw} \sum_{v'w'} n_{v'w'}}
        {\sum_{w'} n_{vw'} \sum_{v'} n_{v'w}}\right) \approx \mathbf{U} \mathbf{S} \mathbf{V}^\top

    is factorised, and the vectors are the rows of :math:`\mathbf{U} \mathbf{S}^{1/2}`, the weighting of the singular
    values that `Levy et al. (2015) <https://aclanthology.org/Q15-1016/>`_ recommend. In each column the largest entry
    is positive. The same tokens always give the same vectors, and time is linear in the pairs of words.

    Args:
        tokens: ``[num_texts, T]`` int64, the words of each text in order; 0 is padding and never a word, though it
            takes a place.
        num_words: Number of tokens, padding included.
        channels: Width of the vectors, less than the number of words with positive information on another.
        window: Farthest place of a context from its word (default: 5, word2vec's).

    Returns:
        ``[num_words, channels]`` float32; zero for padding and for words that do not occur or have no information on
        another. Columns beyond the rank of the matrix are zero.

    Raises:
        ValueError: If an argument is of another form, a token is not in ``0..num_words - 1``, or there are too few
            words for ``channels``.

    Example:
        >>> tokens = torch.tensor([[1, 2], [1, 3], [4, 5], [4, 6]])
        >>> vectors = word_vectors(tokens, num_words=8, channels=2)
        >>> (vectors[2] - vectors[3]).norm() < 1e-6 < (vectors[2] - vectors[5]).norm()
        tensor(True)
    """
    check_int(1, num_words=num_words, channels=channels, window=window)
    _check_tokens(tokens, num_words)
    matrix = _positive_information(_counts(tokens.cpu().numpy(), num_words, window))
    words = np.flatnonzero(np.diff(matrix.indptr))
    if channels >= words.size:
        raise ValueError(
            f"'channels' must be less than {words.size}, the number of words that occur near others more often than "
            f"by chance (got {channels}); lower it or give more texts"
        )
    start = np.random.default_rng(0).standard_normal(words.size)
    left, value, right = svds(matrix[words][:, words], k=channels, v0=start)
    value[value <= value.max() * words.size * np.finfo(value.dtype).eps] = 0  # rounding errors of zeros
    left, _ = svd_flip(left, right)
    vectors = np.zeros((num_words, channels), dtype=np.float32)
    vectors[words] = (left * np.sqrt(value))[:, ::-1]  # they come smallest first
    return torch.from_numpy(vectors).to(tokens.device)


def _check_tokens(tokens: Any, num_words: int) -> None:
    if not isinstance(tokens, Tensor) or tokens.dtype != torch.int64 or tokens.dim() != 2:
        found = f"{tokens.dtype}, {list(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ValueError(f"'tokens' must be an int64 tensor of shape [num_texts, T] (got {found})")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < num_words:
        raise ValueError(f"'tokens' must lie in 0..{num_words - 1} (got {int(tokens.min())}..{int(tokens.max())})")


def _counts(tokens: npt.NDArray[np.int64], num_words: int, window: int) -> scipy.sparse.csr_matrix[np.float64]:
    """``[num_words, num_words]``, how often a word stands near another, on either side."""
    counts = scipy.sparse.csr_matrix((num_words, num_words), dtype=np.float64)
    for distance in range(1, min(window, tokens.shape[1] - 1) + 1):
        left, right = tokens[:, :-distance], tokens[:, distance:]
        both = (left > 0) & (right > 0)
        pairs = (left[both], right[both])
        counts = counts + scipy.sparse.csr_matrix((np.ones(pairs[0].size), pairs), shape=counts.shape)
    return counts + counts.T.tocsr()


def _positive_information(counts: scipy.sparse.csr_matrix[np.float64]) -> scipy.sparse.csr_matrix[np.float64]:
    """Positive pointwise mutual information of symmetric counts; what is not positive is not stored."""
    pairs = counts.tocoo()
    total = np.asarray(counts.sum(axis=1)).ravel()
    information = np.log(pairs.data * total.sum() / (total[pairs.row] * total[pairs.col]))
    positive = scipy.sparse.csr_matrix((np.maximum(information, 0), (pairs.row, pairs.col)), shape=counts.shape)
    positive.eliminate_zeros()
    return positive
