"""Vectors of words, from the texts that they stand in or from a file."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import scipy.sparse
import torch
from scipy.sparse.linalg import svds
from sklearn.utils.extmath import svd_flip
from torch import Tensor

from pyg_mmrec.utils.checks import check_int
from pyg_mmrec.utils.files import one_line, unreadable

#: Words up to which the matrix is factorised whole. The sparse solver draws vectors of its own where only few singular
#: values differ, which happens with few words.
_MAX_DENSE = 512

_MAX_LINE = 2**20
_MAX_NUMBER = float(np.finfo(np.float32).max)
_NO_TEXT = "vectors are read from word2vec's or GloVe's text format"


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
        >>> tokens = torch.tensor([[1, 2], [1, 3], [4, 5]])  # 2 and 3 stand beside the same word
        >>> vectors = word_vectors(tokens, num_words=7, channels=4)
        >>> torch.nn.functional.cosine_similarity(vectors[2], vectors[[3, 5]]).round(decimals=4).abs()
        tensor([1., 0.])
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
    left, value = _largest(matrix[words][:, words], channels)
    vectors = np.zeros((num_words, channels), dtype=np.float32)
    vectors[words] = left * np.sqrt(value)
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


def _largest(
    matrix: scipy.sparse.csr_matrix[np.float64], channels: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The left singular vectors of the largest singular values, and these, from the largest on."""
    size = matrix.shape[0]
    if size <= _MAX_DENSE:
        left, value, right = np.linalg.svd(matrix.toarray())
    else:
        start = np.random.default_rng(0).standard_normal(size)
        left, value, right = svds(matrix, k=channels, v0=start)
        left, value, right = left[:, ::-1], value[::-1], right[::-1]  # they come smallest first
    left, _ = svd_flip(left[:, :channels], right[:channels])
    zero = value[0] * size * np.finfo(value.dtype).eps  # what rounding errors make of it
    return left, np.where(value[:channels] > zero, value[:channels], 0)


def read_word_vectors(path: Path, words: Sequence[str]) -> tuple[Tensor, str]:
    """Reads the vectors of some words from a text file of word2vec or GloVe, line by line.

    Args:
        path: The file: a word and its numbers a line, separated by spaces, below an optional line with the number of
            words and of numbers.
        words: The words, among which an empty text is padding.

    Returns:
        ``[len(words), channels]`` float32, zero for padding and for words that are not in the file, of which those that
        are there twice have the first vector; a note about the words that are not in it, or an empty text.

    Raises:
        ValueError: If the file cannot be read, has none of the words or not as many as its first line says, or a line
            is malformed; the numbers of other words are counted, not read.
    """
    index = {word.encode(): number for number, word in enumerate(words) if word}
    try:
        with path.open("rb") as file:
            found = _matching_rows(path, file, index)
    except OSError as error:
        raise unreadable(path, error) from error
    if not found:
        raise ValueError(f"{path} has none of the {len(index)} words; check that it is of their language, lower case")
    vectors = torch.zeros(len(words), len(next(iter(found.values()))))
    for word, vector in found.items():
        vectors[index[word]] = torch.from_numpy(vector)
    missing = len(index) - len(found)
    return vectors, f"{path.name} lacks {missing} of {len(index)} words; their vectors are zero" if missing else ""


def _matching_rows(path: Path, file: BinaryIO, wanted: Container[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
    """The numbers behind the wanted words."""
    first = file.readline(_MAX_LINE).split()
    header = len(first) == 2 and all(field.isdigit() and len(field) < 10 for field in first)
    channels = int(first[1]) if header else len(first) - 1
    if channels < 1:
        raise ValueError(f"{path} line 1 must be a word and its numbers, separated by spaces; {_NO_TEXT}")
    if not header:
        file.seek(0)
    found: dict[bytes, npt.NDArray[np.float32]] = {}
    num_rows = 0
    for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), start=2 if header else 1):
        num_rows += 1
        word = line.partition(b" ")[0]
        if (word in wanted and word not in found) or line.rstrip().count(b" ") != channels:
            fields = _fields(path, number, line, channels)
            if fields[0] in wanted and fields[0] not in found:
                found[fields[0]] = _numbers(path, number, fields[1:])
    if header and num_rows != int(first[0]):
        raise ValueError(f"{path} has {num_rows} words but line 1 says {first[0].decode()}; get the whole file")
    return found


def _fields(path: Path, number: int, line: bytes, channels: int) -> list[bytes]:
    """A word, which may be several with spaces between as in some files of GloVe, and its numbers."""
    fields = line.split()
    extra = len(fields) - channels - 1
    if extra < 0 or (extra > 0 and _is_number(fields[extra])):
        raise ValueError(
            f"{path} line {number} must be a word and {channels} numbers, as in line 1 (got {len(fields)} fields); "
            f"{_NO_TEXT}"
        )
    return [b" ".join(fields[: extra + 1]), *fields[extra + 1 :]]


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _numbers(path: Path, number: int, fields: Sequence[bytes]) -> npt.NDArray[np.float32]:
    if all(map(_is_number, fields)):
        with np.errstate(over="ignore"):
            values = np.array([float(field) for field in fields], dtype=np.float32)
        if np.isfinite(values).all():
            return values
    wrong = next(field for field in fields if not (_is_number(field) and abs(float(field)) <= _MAX_NUMBER))
    text = one_line(wrong.decode(errors="replace"), 40)
    raise ValueError(f"{path} line {number}: {text!r} must be a finite number; {_NO_TEXT}")
