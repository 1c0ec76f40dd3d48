"""Item texts as tokens of a vocabulary."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from sklearn.feature_extraction.text import CountVectorizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch_geometric.data import HeteroData

from pyg_mmrec.typing import INTERACTS, ITEM, WORD, mask_key
from pyg_mmrec.utils.checks import check_choice, check_int, check_path
from pyg_mmrec.utils.hetero import checked_edges, num_users_items
from pyg_mmrec.utils.words import read_word_vectors

#: Language of the stop words that are dropped.
StopWords = Literal["english"]

TOKENS = "tokens"


@dataclass(frozen=True)
class WordOptions:
    """Which words of a text count; see :class:`pyg_mmrec.transforms.WordTokens`."""

    max_length: int
    min_count: int
    max_words: int | None
    stop_words: StopWords | None
    vectors: str | os.PathLike[str] | None

    def __post_init__(self) -> None:
        check_int(1, max_length=self.max_length, min_count=self.min_count)
        if self.max_words is not None:
            check_int(1, max_words=self.max_words)
        check_choice(("english", None), stop_words=self.stop_words)
        if self.vectors is not None:
            check_path(vectors=self.vectors)


def check_texts(texts: Any) -> None:
    """Refuses what is no list or tuple of texts.

    Raises:
        ValueError: About the first entry that is no text.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise ValueError(f"'texts' must be a list of texts, one per item (got {type(texts).__name__})")
    for entry, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"'texts' must be a list of texts (entry {entry} is {text!r}); write '' for no text")


def add_words(data: HeteroData, texts: Sequence[str], options: WordOptions, source: str = "'texts'") -> list[str]:
    """Adds the tokens of item texts and their words to a graph, in place.

    Args:
        data: The graph.
        texts: The texts in item order.
        options: Which words count.
        source: Where the texts come from, for the messages.

    Returns:
        Notes about what is missing.

    Raises:
        ValueError: If there is not one text per item, no word counts, or the file of the vectors is malformed.
    """
    num_items = num_users_items(data)[1]
    if len(texts) != num_items:
        raise ValueError(f"'texts' must have one text per item, {num_items} (got {len(texts)})")
    analyze = CountVectorizer(stop_words=options.stop_words).build_analyzer()
    words: list[list[str]] = [analyze(text) for text in texts]
    train = train_edges(data)[1]
    vocabulary = _vocabulary([words[item] for item in train.unique().tolist()], options, source)
    tokens = _tokens(words, vocabulary, options.max_length)
    has_words = tokens.any(1)
    notes = []
    if not has_words.all():
        missing = int((~has_words).sum())
        notes.append(f"{missing} of {num_items} items have no word of the vocabulary and are marked as missing")
    _set_words(data, vocabulary, tokens.to(train.device), has_words.to(train.device))
    if options.vectors is not None:
        x, note = read_word_vectors(Path(options.vectors).expanduser(), vocabulary)
        data[WORD].x = x.to(train.device)
        notes += [note] if note else []
    return notes


def train_edges(data: HeteroData) -> Tensor:
    """The ``[2, num_edges]`` train interactions: all of a view, those with the label 0 of data that brings a split."""
    edge_index = checked_edges(data, INTERACTS)
    item = edge_index[1]
    label = data[INTERACTS].get("split")
    if label is None:
        return edge_index
    if not isinstance(label, Tensor) or label.shape != item.shape:
        found = list(label.shape) if isinstance(label, Tensor) else type(label).__name__
        raise ValueError(f"'split' must have one entry per interaction, {item.numel()} (got {found})")
    return edge_index[:, label == 0]


def _vocabulary(words: Sequence[Sequence[str]], options: WordOptions, source: str) -> list[str]:
    """The words that count, most frequent first, below an empty text for padding."""
    count = Counter(word for text in words for word in text)
    kept = sorted((-number, word) for word, number in count.items() if number >= options.min_count)
    if not kept:
        raise ValueError(
            f"{source}: no word occurs {options.min_count} times in the texts of the {len(words)} items with train "
            "interactions; lower 'min_count' or check the texts"
        )
    return ["", *(word for _, word in kept[: options.max_words])]


def _tokens(words: Sequence[Sequence[str]], vocabulary: Sequence[str], max_length: int) -> Tensor:
    """``[num_texts, T]``, the words of the vocabulary in each text, padded with 0."""
    token = {word: number for number, word in enumerate(vocabulary)}
    rows = [[token[word] for word in text if word in token][:max_length] for text in words]
    return pad_sequence([torch.tensor(row, dtype=torch.int64) for row in rows], batch_first=True)


def _set_words(data: HeteroData, vocabulary: list[str], tokens: Tensor, has_words: Tensor) -> None:
    """Stores the tokens and the words, and nothing of former ones."""
    if WORD in data.node_types:
        del data[WORD]
    data[WORD].num_nodes = len(vocabulary)
    data[WORD].text = vocabulary
    data[ITEM][TOKENS] = tokens
    if not has_words.all():
        data[ITEM][mask_key(TOKENS)] = has_words
    elif mask_key(TOKENS) in data[ITEM]:
        del data[ITEM][mask_key(TOKENS)]
