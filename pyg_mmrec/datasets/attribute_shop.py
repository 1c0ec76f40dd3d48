"""A synthetic multimodal shop whose attributes, intents and probabilities are known."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_mmrec.datasets._cache import load_cache, options_hash, save_cache
from pyg_mmrec.datasets._describe import SYNONYMS, VOCABULARY, read, word_weights, write
from pyg_mmrec.datasets._render import COLOURS, IMAGE_SIZE, SHAPES, TEXTURES, image_statistics, render
from pyg_mmrec.typing import INTERACTS, ITEM, USER
from pyg_mmrec.utils.checks import check_flag, check_function, check_int, check_path

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

#: Raised whenever the same options give other data, so that older caches are not read.
VERSION = 2

NUM_INTENTS = 8
NUM_FEATURES = 64
MIN_INTERACTIONS = 5
YEAR = 365 * 24 * 3600

#: For each attribute, how many of its values an intent likes.
LIKED = {"colour": 2, "shape": 2, "texture": 2, "material": 2, "size": 1}

#: Tastes of each intent: all ways to settle on one liked value of each attribute.
NUM_TASTES = 16

#: Users whose interactions are drawn together, and items that are rendered or described together.
USER_BLOCK, ITEM_BLOCK = 1 << 16, 1 << 10

#: How often an interaction may be refused before it is drawn uniformly.
MAX_REFUSALS = 64


@dataclass(frozen=True)
class _Options:
    """The arguments that decide the data; see :class:`AttributeShop`."""

    num_users: int
    num_items: int
    seed: int
    interactions_per_user: float
    preference_strength: float
    popularity_exponent: float
    noise: float
    cold_fraction: float

    def __post_init__(self) -> None:
        for name, low in (("num_users", 1), ("num_items", 4 * MIN_INTERACTIONS), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
                raise ValueError(f"'{name}' must be an integer of at least {low} (got {value!r})")
            if name != "seed" and value >= 2**31:
                raise ValueError(f"'{name}' must be less than {2**31} (got {value})")
            object.__setattr__(self, name, int(value))
        ranges: dict[str, tuple[float, float]] = {
            "interactions_per_user": (MIN_INTERACTIONS, self.num_items / 4),
            "preference_strength": (0, 30),
            "popularity_exponent": (0, 3),
            "noise": (0, 1),
            "cold_fraction": (0, 0.5),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not least <= value <= most:
                limit = f"{most:g} (a quarter of the items)" if name == "interactions_per_user" else f"{most:g}"
                raise ValueError(f"'{name}' must be a number from {least:g} to {limit} (got {value!r})")
            object.__setattr__(self, name, float(value))

    @property
    def key(self) -> str:
        """A hash of all options and the generator's version."""
        return options_hash(version=VERSION, **asdict(self))


class AttributeShop(InMemoryDataset):
    r"""A synthetic multimodal shop, drawn from planted attributes, intents and probabilities that are all stored.

    Nothing is downloaded. ``dataset[0]`` is a :class:`~torch_geometric.data.HeteroData` in the package's keys, so every
    model runs on it. Beside them it holds the truth it was drawn from, so that what a model finds can be measured.

    **Items.** Five attributes are drawn independently and evenly. Colour (8 values) and shape (6) are visible in both
    modalities, texture (6) only in the image, material (6) and size (4) only in the text. Images are rendered with
    random position, scale, tilt, tint and noise. Texts are two sentences from random templates, with three synonyms
    for each value, random brands and fillers, and attributes left out now and then. Features are computed from the
    images and texts alone: ``x_image`` holds the principal components of hue histograms, coloured area and power
    spectra, ``x_text`` those of TF-IDF weights.

    **Intents.** Each of 8 intents likes two colours, shapes, textures and materials and one size. Who has an intent
    settles on one of its 16 tastes, a single liked value of each attribute. With :math:`\textrm{match}_{it}` the share
    of item :math:`i`'s five attributes that taste :math:`t` likes,

    .. math::
        p(i \mid t) \propto \textrm{popularity}_i \exp(\textrm{strength} \cdot \textrm{match}_{it}), \qquad
        \textrm{popularity}_i \propto \textrm{rank}_i^{-\textrm{exponent}},

    where ranks are random. A user mixes one to three intents with Dirichlet(1) weights :math:`w_u` and has one random
    taste :math:`t_{uk}` of each.

    **Interactions.** A user has 5 interactions and a geometric number more, at uniform times of one year. Each comes
    from popularity alone with probability ``noise``, else from the user's taste of an intent drawn from :math:`w_u`. An
    item that the user has already or that is not out yet is refused and drawn again; after 64 refusals, which the
    defaults do not reach, it is drawn uniformly. Items are out from the start, except a share ``cold_fraction`` that
    comes out at random times in the last tenth of the year.

    **Planted truth.** One inner product is the probability that an interaction, before refusals, is with an item:

    .. math::
        \langle \textrm{preference}_u, \textrm{affinity}_i \rangle
        = (1 - \textrm{noise}) \sum_k w_{uk}\, p(i \mid t_{uk}) + \textrm{noise} \cdot \textrm{popularity}_i

    ===================================  ===========================================================================
    key                                  content
    ===================================  ===========================================================================
    ``item.attr_<name>``                 int64 ``[I]`` values, indices into :attr:`attributes`; all are known
    ``item.category``                    int64 ``[I]``, the shape
    ``item.image``                       uint8 ``[I, 3, 32, 32]``
    ``item.tokens``                      int64 ``[I, T]``, indices into :attr:`vocabulary`, padded with 0
    ``item.x_image``, ``item.x_text``    float32 ``[I, 64]`` features
    ``item.affinity``                    float32 ``[I, 129]``, :math:`p(i \mid t)` by intent and taste, then popularity
    ``item.release_time``                int64 ``[I]``, seconds since the start of the year
    ``user.intent``                      float32 ``[U, 8]``, the weights :math:`w_u`
    ``user.preference``                  float32 ``[U, 129]``, :math:`(1 - \textrm{noise})\, w_{uk}` at the user's taste
                                         of intent k, zero at its other tastes, then ``noise``
    ``user.dominant_intent``             int64 ``[U]``, the intent of the largest weight
    ``user.dominant_share``              float32 ``[U]``, that weight
    ``interacts.edge_index``             int64 ``[2, E]``, sorted by user, then time; no pair twice
    ``interacts.time``                   int64 ``[E]``, seconds since the start of the year
    ``interacts.intent``                 int64 ``[E]``, the intent it was drawn from, -1 for none
    ===================================  ===========================================================================

    The data is kept in ``root/processed`` under a name that hashes all arguments, and is made anew where the file
    cannot be read. The same arguments give the same data; the catalogue depends on ``num_items`` and ``seed`` alone, so
    the other arguments can be varied over one catalogue. Time and memory are linear in users, items and interactions.

    Args:
        root: Folder for the cache.
        num_users: Number of users :math:`U`.
        num_items: Number of items :math:`I`, at least 20.
        seed: Seed of all randomness.
        interactions_per_user: Mean number of interactions a user, from 5 to a quarter of the items. A user has at least
            5 and at most a third of the items.
        preference_strength: Logarithm of the likelihood ratio, within a taste and at equal popularity, of an item
            that matches in all five attributes against one that matches in none, from 0 (intents mean nothing) to 30.
        popularity_exponent: Zipf exponent of popularity, from 0 (all alike) to 3.
        noise: Probability from 0 to 1 that an interaction follows popularity alone.
        cold_fraction: Share of items, from 0 to 0.5, that come out in the last tenth of the year.
        transform: Applied to the graph at every access.
        force_reload: Make the data anew even where a cache is there.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> import tempfile
        >>> from pyg_mmrec.datasets import AttributeShop
        >>> dataset = AttributeShop(tempfile.mkdtemp(), num_users=30, num_items=60)
        >>> data = dataset[0]
        >>> data['item'].image.shape, data['item'].x_text.shape
        (torch.Size([60, 3, 32, 32]), torch.Size([60, 64]))
        >>> data['item'].affinity.sum(dim=0).allclose(torch.ones(129))
        True
        >>> item = int(data['user', 'interacts', 'item'].edge_index[1, 0])
        >>> set(dataset.text(item).lower().replace('.', '').split()) <= set(dataset.vocabulary)
        True
    """

    #: Attribute names and the names of their values, in the order of the stored indices.
    attributes: ClassVar[dict[str, tuple[str, ...]]] = {
        "colour": tuple(COLOURS),
        "shape": tuple(SHAPES),
        "texture": tuple(TEXTURES),
        "material": tuple(SYNONYMS["material"]),
        "size": tuple(SYNONYMS["size"]),
    }
    #: The modalities in which an attribute can be seen.
    visible_in: ClassVar[dict[str, tuple[str, ...]]] = {
        "colour": ("image", "text"),
        "shape": ("image", "text"),
        "texture": ("image",),
        "material": ("text",),
        "size": ("text",),
    }

    def __init__(
        self,
        root: str | os.PathLike[str],
        num_users: int = 3000,
        num_items: int = 2000,
        seed: int = 0,
        *,
        interactions_per_user: float = 12.0,
        preference_strength: float = 12.0,
        popularity_exponent: float = 0.5,
        noise: float = 0.1,
        cold_fraction: float = 0.05,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        check_path(root=root)
        check_function(transform=transform)
        check_flag(force_reload=force_reload)
        self.options = _Options(
            num_users=num_users,
            num_items=num_items,
            seed=seed,
            interactions_per_user=interactions_per_user,
            preference_strength=preference_strength,
            popularity_exponent=popularity_exponent,
            noise=noise,
            cold_fraction=cold_fraction,
        )
        super().__init__(os.fspath(root), transform, force_reload=force_reload)
        cached = self._cached()
        self.data = self._made() if cached is None else cached

    def _cached(self) -> HeteroData | None:
        """The graph in the cache; None where there is none that can be read, or it is not wanted."""
        path = Path(self.processed_paths[0])
        if self.force_reload or not path.exists():
            return None
        try:
            return HeteroData.from_dict(load_cache(path, self.options.key)["data"])
        except ValueError as error:
            warnings.warn(f"{path} is not a usable cache ({error}); making the data anew", stacklevel=3)
            return None

    def _made(self) -> HeteroData:
        """The graph, drawn now and written to the cache."""
        Path(self.processed_dir).mkdir(parents=True, exist_ok=True)  # fails before the work and not after it
        data = _generate(self.options)
        save_cache(Path(self.processed_paths[0]), self.options.key, {"data": data.to_dict()})
        return data

    @property
    def processed_file_names(self) -> list[str]:
        """The one cache file; its name depends on all arguments that decide the data."""
        return [f"attribute_shop_{self.options.key[:16]}.pt"]

    @property
    def vocabulary(self) -> list[str]:
        """Words by token; token 0 is padding."""
        return list(VOCABULARY)

    def text(self, item: int) -> str:
        """The text of an item as sentences.

        Args:
            item: Index of the item.

        Raises:
            ValueError: If there is no such item.
        """
        check_int(0, item=item)
        if item >= self.options.num_items:
            raise ValueError(f"'item' must lie in 0..{self.options.num_items - 1} (got {item})")
        tokens: Ints = self._data["item"].tokens[item].numpy()
        return read(tokens)


def _generate(options: _Options) -> HeteroData:
    """Draws everything; separate streams keep the catalogue apart from what users do."""
    streams = [np.random.default_rng(seed) for seed in np.random.SeedSequence(options.seed).spawn(6)]
    attributes, contents = _catalogue(streams[0], options.num_items)
    affinity = _affinity(streams[1], attributes, options)
    weight = _mixtures(streams[2], options.num_users)
    taste = streams[5].integers(NUM_TASTES, size=weight.shape)
    release = _release_times(streams[3], options)
    edge_index, time, source = _interactions(streams[4], options, weight, taste, affinity, release)

    data = HeteroData()
    data[USER].num_nodes = options.num_users
    data[USER].intent = torch.from_numpy(weight.astype(np.float32))
    data[USER].preference = torch.from_numpy(_preference(weight, taste, options.noise))
    data[USER].dominant_intent = torch.from_numpy(weight.argmax(axis=1))
    data[USER].dominant_share = torch.from_numpy(weight.max(axis=1).astype(np.float32))
    data[ITEM].num_nodes = options.num_items
    for name, value in attributes.items():
        data[ITEM][f"attr_{name}"] = torch.from_numpy(value)
    data[ITEM].category = torch.from_numpy(attributes["shape"].copy())
    for name, content in contents.items():
        data[ITEM][name] = torch.from_numpy(content)
    data[ITEM].affinity = torch.from_numpy(affinity.astype(np.float32))
    data[ITEM].release_time = torch.from_numpy(release)
    data[INTERACTS].edge_index = torch.from_numpy(edge_index)
    data[INTERACTS].time = torch.from_numpy(time)
    data[INTERACTS].intent = torch.from_numpy(source)
    return data


def _catalogue(
    rng: np.random.Generator, num_items: int
) -> tuple[dict[str, Ints], dict[str, NDArray[np.uint8] | Ints | Floats]]:
    """Attributes, and images, texts and features by key."""
    attributes = {
        name: rng.permutation(np.arange(num_items) % len(values)) for name, values in AttributeShop.attributes.items()
    }
    tokens = write(rng, {name: attributes[name] for name in SYNONYMS})
    image = np.empty((num_items, 3, IMAGE_SIZE, IMAGE_SIZE), dtype=np.uint8)
    statistics = []
    for start in range(0, num_items, ITEM_BLOCK):
        block = slice(start, start + ITEM_BLOCK)
        image[block] = render(rng, *(attributes[name][block] for name in ("colour", "shape", "texture")))
        statistics.append(image_statistics(image[block]))
    return attributes, {
        "image": image,
        "tokens": tokens,
        "x_image": _principal_components(np.concatenate(statistics)),
        "x_text": _principal_components(word_weights(tokens)),
    }


def _principal_components(x: Floats) -> Floats:
    """The first 64 principal components, rounded so that the order of additions does not show."""
    mean = x.mean(axis=0, dtype=np.float64)
    blocks = [slice(start, start + ITEM_BLOCK) for start in range(0, len(x), ITEM_BLOCK)]
    scatter = np.zeros((x.shape[1], x.shape[1]))
    for block in blocks:
        centred = x[block] - mean
        scatter += centred.T @ centred
    basis: Doubles = np.linalg.eigh(scatter)[1][:, : -NUM_FEATURES - 1 : -1]
    basis *= np.sign(basis[abs(basis).argmax(axis=0), np.arange(NUM_FEATURES)])
    return np.concatenate([((x[block] - mean) @ basis).round(5).astype(np.float32) for block in blocks])


def _affinity(rng: np.random.Generator, attributes: dict[str, Ints], options: _Options) -> Doubles:
    """Probabilities of the items: a column for each taste of each intent, the last for popularity alone."""
    popularity = (1.0 + rng.permutation(options.num_items)) ** -options.popularity_exponent
    match = np.zeros((options.num_items, NUM_INTENTS, NUM_TASTES))
    taste = np.arange(NUM_TASTES)
    for place, (name, value) in enumerate(attributes.items()):
        liked = _liked(rng, len(AttributeShop.attributes[name]), LIKED[name])
        for intent in range(NUM_INTENTS):
            values = np.flatnonzero(liked[:, intent])
            match[:, intent] += value[:, None] == values[(taste >> place) % values.size]
    match = np.column_stack([match.reshape(options.num_items, -1), np.zeros(options.num_items)]) / len(attributes)
    affinity = popularity[:, None] * np.exp(options.preference_strength * match)
    normalized: Doubles = affinity / affinity.sum(axis=0)
    return normalized


def _preference(weight: Doubles, taste: Ints, noise: float) -> Floats:
    """``[num_users, 129]`` weights of the columns of ``affinity``; rows sum to one."""
    preference = np.zeros((*weight.shape, NUM_TASTES), dtype=np.float32)
    np.put_along_axis(preference, taste[:, :, None], (1 - noise) * weight[:, :, None], axis=2)
    last = np.full((len(weight), 1), noise, dtype=np.float32)
    return np.concatenate([preference.reshape(len(weight), -1), last], axis=1)


def _liked(rng: np.random.Generator, num_values: int, num_liked: int) -> NDArray[np.bool_]:
    """``[num_values, 8]``, which values each intent likes: evenly spread, and pairs differ between intents."""
    liked = np.zeros((num_values, NUM_INTENTS), dtype=bool)
    value, intent = rng.permutation(num_values), rng.permutation(NUM_INTENTS)
    step = np.arange(NUM_INTENTS)
    liked[value[step % num_values], intent] = True
    if num_liked == 2:
        liked[value[(step + 1 + step // num_values) % num_values], intent] = True
    return liked


def _mixtures(rng: np.random.Generator, num_users: int) -> Doubles:
    """``[num_users, 8]`` weights of one to three intents a user; rows sum to one."""
    rank = rng.random((num_users, NUM_INTENTS)).argsort(axis=1).argsort(axis=1)
    weight = rng.standard_exponential((num_users, NUM_INTENTS)) * (rank < rng.integers(1, 4, size=(num_users, 1)))
    mixture: Doubles = weight / weight.sum(axis=1, keepdims=True)
    return mixture


def _release_times(rng: np.random.Generator, options: _Options) -> Ints:
    """When items come out: at the start, or, for the cold ones, in the last tenth of the year."""
    release = np.zeros(options.num_items, dtype=np.int64)
    cold = rng.permutation(options.num_items)[: round(options.cold_fraction * options.num_items)]
    release[cold] = rng.integers(YEAR * 9 // 10, YEAR, size=cold.size)
    return release


def _interactions(
    rng: np.random.Generator, options: _Options, weight: Doubles, taste: Ints, affinity: Doubles, release: Ints
) -> tuple[Ints, Ints, Ints]:
    """Edges, times and intents of all interactions, in blocks of users."""
    num_users, num_items = options.num_users, options.num_items
    extra = rng.geometric(1 / (1 + options.interactions_per_user - MIN_INTERACTIONS), size=num_users) - 1
    count = np.minimum(MIN_INTERACTIONS + extra, num_items // 3)
    uniform = np.full((num_items, 1), 1 / num_items)
    cdf = np.ascontiguousarray(np.column_stack([affinity, uniform]).cumsum(axis=0).T)
    cdf[:, -1] = np.inf  # whatever the sums round to, a number below one falls on an item
    ends = np.concatenate([[0], count.cumsum()])
    edge_index = np.empty((2, ends[-1]), dtype=np.int64)
    edge_index[0] = np.repeat(np.arange(num_users), count)
    time, source = np.empty_like(edge_index[0]), np.empty_like(edge_index[0])
    for start in range(0, num_users, USER_BLOCK):
        edges = slice(ends[start], ends[min(start + USER_BLOCK, num_users)])
        user = edge_index[0, edges]
        moment = rng.integers(0, YEAR, size=user.size)
        time[edges] = moment[np.lexsort((moment, user))]
        threshold = (1 - options.noise) * weight[start : start + USER_BLOCK].cumsum(axis=1)[user - start]
        intent = (rng.random((user.size, 1)) >= threshold).sum(axis=1)
        own_taste = taste[user, np.minimum(intent, NUM_INTENTS - 1)]
        row = np.where(intent < NUM_INTENTS, intent * NUM_TASTES + own_taste, NUM_INTENTS * NUM_TASTES)
        edge_index[1, edges] = _draw_items(rng, user - start, time[edges], row, cdf, release)
        source[edges] = row // NUM_TASTES
    source[source >= NUM_INTENTS] = -1
    return edge_index, time, source


def _draw_items(rng: np.random.Generator, user: Ints, time: Ints, source: Ints, cdf: Doubles, release: Ints) -> Ints:
    """Draws an item for each interaction from the row of ``cdf`` that its source names.

    Items that are not out yet, or that the user has already, are refused and drawn again.
    """
    num_items = release.size
    item = np.full(user.size, -1)
    pending = active = np.arange(user.size)  # without an item; of the users that still have such interactions
    refusals = 0
    while pending.size:
        if refusals == MAX_REFUSALS:
            source[pending] = len(cdf) - 1
        for row in np.unique(source[pending]):
            drawn = pending[source[pending] == row]
            item[drawn] = np.searchsorted(cdf[row], rng.random(drawn.size), side="right")
        item[pending[release[item[pending]] > time[pending]]] = -1

        fresh = np.zeros(user.size, dtype=bool)
        fresh[pending] = True
        drawn = active[item[active] >= 0]
        pair = user[drawn] * num_items + item[drawn]
        order = np.argsort(2 * pair + fresh[drawn], kind="stable")  # of equal pairs, the accepted one comes first
        item[drawn[order[1:]][pair[order[1:]] == pair[order[:-1]]]] = -1

        pending = pending[item[pending] < 0]
        has_pending = np.zeros(user[-1] + 1, dtype=bool)
        has_pending[user[pending]] = True
        active = active[has_pending[user[active]]]
        refusals += 1
    return item
