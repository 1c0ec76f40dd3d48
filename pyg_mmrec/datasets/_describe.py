"""Item texts written from known attributes, and a description of texts by word weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

#: For each attribute that the text can name: for each value, words that mean it, the first twice as common.
SYNONYMS: dict[str, dict[str, tuple[str, ...]]] = {
    "colour": {
        "red": ("red", "crimson", "scarlet"),
        "orange": ("orange", "tangerine", "apricot"),
        "yellow": ("yellow", "golden", "lemon"),
        "green": ("green", "emerald", "olive"),
        "cyan": ("cyan", "turquoise", "aqua"),
        "blue": ("blue", "azure", "cobalt"),
        "purple": ("purple", "violet", "lilac"),
        "pink": ("pink", "rose", "fuchsia"),
    },
    "shape": {
        "circle": ("round", "circular", "disc-shaped"),
        "square": ("square", "boxy", "four-cornered"),
        "triangle": ("triangular", "three-cornered", "wedge-shaped"),
        "ring": ("ring-shaped", "annular", "hooped"),
        "cross": ("cross-shaped", "plus-shaped", "crosswise"),
        "star": ("star-shaped", "five-pointed", "starry"),
    },
    "material": {
        "fabric": ("cotton", "linen", "canvas"),
        "wood": ("wood", "oak", "walnut"),
        "metal": ("metal", "steel", "brass"),
        "glass": ("glass", "crystal", "glasswork"),
        "leather": ("leather", "suede", "hide"),
        "ceramic": ("ceramic", "porcelain", "stoneware"),
    },
    "size": {
        "small": ("small", "tiny", "mini"),
        "medium": ("medium", "midsize", "regular"),
        "large": ("large", "big", "oversized"),
        "huge": ("huge", "giant", "jumbo"),
    },
}

#: Words that say nothing about the attributes.
DISTRACTORS: dict[str, tuple[str, ...]] = {
    "thing": ("pendant", "cushion", "ornament", "magnet", "coaster", "clip"),
    "brand": ("arvo", "belmond", "corda", "dunmore", "elska", "fenwick", "grana", "holt"),
    "praise": ("lovely", "handy", "sturdy", "classic", "popular", "clever"),
    "use": ("home", "office", "travel", "gifts", "parties", "kids"),
}

#: Sentences as sequences of phrases; a phrase names at most one attribute and is left out whole.
TITLES: tuple[tuple[str, ...], ...] = (
    ("a", "{size}", "{colour}", "{shape}", "{thing}", "in {material}", "by {brand}"),
    ("{brand} {praise} {thing}", "in {shape} style", "{colour}", "{material}", "{size}"),
    ("the {praise}", "{colour}", "{material}", "{thing}", "with a {shape} outline", "in {size} format"),
    ("{thing} for {use} by {brand}", "of {size} build", "{shape}", "and {colour}", "from {material}"),
)
DETAILS: tuple[tuple[str, ...], ...] = (
    ("it is made of {material}", "with a {colour} finish", "a {shape} outline", "and a {size} build"),
    ("a {praise} pick for {use}", "all {colour}", "{size}", "and {shape}", "of real {material}"),
    ("we love it", "for its {shape} form", "{colour} look", "{material} feel", "and {size} format"),
    ("it comes in {colour}", "cut from {material}", "{shape} style", "and {size}", "great for {use}"),
)

#: Probability that a sentence leaves out an attribute that its template would name.
OMISSION = 0.2


def _vocabulary() -> list[str]:
    named = [word for values in SYNONYMS.values() for words in values.values() for word in words]
    others = [word for words in DISTRACTORS.values() for word in words]
    template_words = [word for template in TITLES + DETAILS for phrase in template for word in phrase.split()]
    function_words = [word for word in template_words if not word.startswith("{")]
    return ["", *dict.fromkeys([*named, *others, *function_words, "."])]


#: Words by token; token 0 is padding.
VOCABULARY = _vocabulary()
_TOKEN = {word: token for token, word in enumerate(VOCABULARY)}


def _word(rng: np.random.Generator, word: str, attributes: Mapping[str, Ints], num: int) -> Ints:
    """Tokens of one word of a template: itself, a synonym of the attribute's value, or a random distractor."""
    name = word.strip("{}")
    if name == word:
        return np.full(num, _TOKEN[word])
    if name in DISTRACTORS:
        choices = np.array([_TOKEN[distractor] for distractor in DISTRACTORS[name]])
        return choices[rng.integers(len(choices), size=num)]
    table = np.array([[_TOKEN[synonym] for synonym in (words[0], *words)] for words in SYNONYMS[name].values()])
    return table[attributes[name], rng.integers(table.shape[1], size=num)]


def _sentences(
    rng: np.random.Generator, templates: tuple[tuple[str, ...], ...], attributes: Mapping[str, Ints], num: int
) -> Ints:
    """One sentence an item, each from a random template, as tokens with gaps (token 0) where phrases are left out."""
    choice = rng.integers(len(templates), size=num)
    tokens = np.zeros((num, max(len(" ".join(template).split()) for template in templates) + 1), dtype=np.int64)
    tokens[:, -1] = _TOKEN["."]
    for index, template in enumerate(templates):
        rows = np.flatnonzero(choice == index)
        chosen = {name: value[rows] for name, value in attributes.items()}
        start = 0
        for phrase in template:
            words = np.stack([_word(rng, word, chosen, rows.size) for word in phrase.split()], axis=1)
            if any(f"{{{name}}}" in phrase for name in SYNONYMS):
                words[rng.random(rows.size) < OMISSION] = 0
            tokens[rows, start : start + words.shape[1]] = words
            start += words.shape[1]
    return tokens


def write(rng: np.random.Generator, attributes: Mapping[str, Ints]) -> Ints:
    """Writes two sentences an item, a title and details.

    Templates, synonyms and distractors are random; each sentence may leave out attributes.

    Args:
        rng: Source of the randomness.
        attributes: For each name in :data:`SYNONYMS`, ``[num_items]`` indices of values.

    Returns:
        ``[num_items, T]`` tokens, indices into :data:`VOCABULARY`, padded with 0; ``T`` is the same for all sizes.
    """
    num = len(next(iter(attributes.values())))
    tokens = np.concatenate([_sentences(rng, part, attributes, num) for part in (TITLES, DETAILS)], axis=1)
    order = np.argsort(tokens == 0, axis=1, kind="stable")
    return np.take_along_axis(tokens, order, axis=1)


def read(tokens: Ints) -> str:
    """The text of one item: words joined by spaces, sentences capitalised."""
    words = " ".join(VOCABULARY[token] for token in tokens if token)
    return ". ".join(part.strip().capitalize() for part in words.split(".")).strip()


def word_weights(tokens: Ints) -> Floats:
    """TF-IDF weights of the items' words: counts times smoothed inverse document frequency, rows of unit length.

    Args:
        tokens: ``[num_items, T]`` tokens, padded with 0.

    Returns:
        ``[num_items, len(VOCABULARY) - 1]`` weights; the column of the padding is left out.
    """
    num, size = len(tokens), len(VOCABULARY)
    cell = tokens + size * np.arange(num)[:, None]
    count = np.bincount(cell.ravel(), minlength=num * size).reshape(num, size)[:, 1:]
    weight = count * (1 + np.log((1 + num) / (1 + (count > 0).sum(axis=0))))
    unit: Floats = (weight / np.linalg.norm(weight, axis=1, keepdims=True)).astype(np.float32)
    return unit
