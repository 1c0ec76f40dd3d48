"""What the built-in shop is made of: its items, what users want, and what they take."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData

from pyg_mmrec.datasets._cache import options_hash
from pyg_mmrec.datasets._describe import SYNONYMS, word_weights, write
from pyg_mmrec.datasets._render import COLOURS, IMAGE_SIZE, SHAPES, TEXTURES, image_statistics, render
from pyg_mmrec.typing import INTERACTS, ITEM, USER

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

#: Raised whenever the same options give other data, so that older caches are not read.
VERSION = 2

NUM_INTENTS = 8
NUM_FEATURES = 64
MIN_INTERACTIONS = 5
YEAR = 365 * 24 * 3600

#: Attribute names and the names of their values, in the order of the stored indices.
ATTRIBUTES = {
    "colour": tuple(COLOURS),
    "shape": tuple(SHAPES),
    "texture": tuple(TEXTURES),
    "material": tuple(SYNONYMS["material"]),
    "size": tuple(SYNONYMS["size"]),
}

#: For each attribute, how many of its values an intent likes.
LIKED = {"colour": 2, "shape": 2, "texture": 2, "material": 2, "size": 1}

#: Tastes of each intent: all ways to settle on one liked value of each attribute.
NUM_TASTES = 16

#: Users whose interactions are drawn together, and items that are rendered or described together.
USER_BLOCK, ITEM_BLOCK = 1 << 16, 1 << 10

#: How often an interaction may be refused before it is drawn uniformly.
MAX_REFUSALS = 64


@dataclass(frozen=True)
class ShopOptions:
    """The arguments that decide the data; see :class:`~pyg_mmrec.datasets.AttributeShop`."""

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


def generate(options: ShopOptions) -> HeteroData:
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
    attributes = {name: rng.permutation(np.arange(num_items) % len(values)) for name, values in ATTRIBUTES.items()}
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


def _affinity(rng: np.random.Generator, attributes: dict[str, Ints], options: ShopOptions) -> Doubles:
    """Probabilities of the items: a column for each taste of each intent, the last for popularity alone."""
    popularity = (1.0 + rng.permutation(options.num_items)) ** -options.popularity_exponent
    match = np.zeros((options.num_items, NUM_INTENTS, NUM_TASTES))
    taste = np.arange(NUM_TASTES)
    for place, (name, value) in enumerate(attributes.items()):
        liked = _liked(rng, len(ATTRIBUTES[name]), LIKED[name])
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


def _release_times(rng: np.random.Generator, options: ShopOptions) -> Ints:
    """When items come out: at the start, or, for the cold ones, in the last tenth of the year."""
    release = np.zeros(options.num_items, dtype=np.int64)
    cold = rng.permutation(options.num_items)[: round(options.cold_fraction * options.num_items)]
    release[cold] = rng.integers(YEAR * 9 // 10, YEAR, size=cold.size)
    return release


def _interactions(
    rng: np.random.Generator, options: ShopOptions, weight: Doubles, taste: Ints, affinity: Doubles, release: Ints
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
