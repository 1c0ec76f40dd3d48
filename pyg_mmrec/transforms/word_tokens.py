"""Item texts as tokens."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_mmrec.typing import WORD
from pyg_mmrec.utils.texts import StopWords, WordOptions, add_words, check_texts


class WordTokens(BaseTransform):
    """Writes the words of item texts as tokens, ``data['item'].tokens``, with a vocabulary of the train items.

    A word is a run of two or more letters or digits of any language, in lower case. The vocabulary is counted in the
    texts of the items with a train interaction alone: those whose ``split`` is 0 where the interactions have one, else
    all in ``edge_index``, so that data without a ``split`` is split first. Other words are dropped from all texts. The
    words become a node type:

    ==========================  ===============================================================================
    key                         content
    ==========================  ===============================================================================
    ``item.tokens``             int64 ``[num_items, T]``, the words of each text in order, padded with 0
    ``item.mask_tokens``        bool ``[num_items]``, which items have a word; absent where all do
    ``word.num_nodes``          number of words plus one, for the padding
    ``word.text``               list of the words by token, ``''`` at 0
    ``word.x``                  float32 ``[num_words, channels]`` vectors from a file, where one is given
    ==========================  ===============================================================================

    Args:
        texts: The texts of all items, in item order, ``''`` for none.
        max_length: Most words of a text that are kept, the first (default: 200). ``T`` is the longest that is kept.
        min_count: How often a word has to occur (default: 5, word2vec's).
        max_words: Most words in the vocabulary, the most frequent, equals in alphabetical order (default: all).
        stop_words: ``'english'`` drops scikit-learn's list of English stop words (default: none are dropped).
        vectors: A text file of word2vec or GloVe, whose vectors become ``word.x``, zero for words that it lacks. It is
            read line by line (default: no vectors; see :func:`pyg_mmrec.utils.word_vectors` for some from the texts).

    Attributes:
        vocabulary: The words by token, ``''`` at 0, of the data that was transformed last.

    Raises:
        ValueError: If an argument is of another form; when applied, if there is not one text per item, no word occurs
            often enough, or the file is malformed, which names its line.

    Example:
        >>> import torch
        >>> data = HeteroData()
        >>> data['user'].num_nodes, data['item'].num_nodes = 1, 3
        >>> data['user', 'interacts', 'item'].edge_index = torch.tensor([[0, 0], [0, 1]])
        >>> transform = WordTokens(['Red pen', 'A blue pen', 'Blue ink'], min_count=1)
        >>> transform(data)['item'].tokens
        tensor([[3, 1],
                [2, 1],
                [2, 0]])
        >>> transform.vocabulary
        ['', 'pen', 'blue', 'red']
    """

    def __init__(
        self,
        texts: Sequence[str],
        *,
        max_length: int = 200,
        min_count: int = 5,
        max_words: int | None = None,
        stop_words: StopWords | None = None,
        vectors: str | os.PathLike[str] | None = None,
    ) -> None:
        check_texts(texts)
        self.texts = list(texts)
        self.options = WordOptions(max_length, min_count, max_words, stop_words, vectors)
        self.vocabulary: list[str] = []

    def forward(self, data: HeteroData) -> HeteroData:
        """Writes the tokens and the words."""
        for note in add_words(data, self.texts, self.options):
            warnings.warn(note, stacklevel=3)
        self.vocabulary = list(data[WORD].text)
        return data

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self.options).items())
        return f"{type(self).__name__}(<{len(self.texts)} texts>, {arguments})"
