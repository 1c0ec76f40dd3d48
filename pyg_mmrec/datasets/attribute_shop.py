"""A synthetic multimodal shop whose attributes, intents and probabilities are known."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_mmrec.datasets._cache import load_cache, save_cache
from pyg_mmrec.datasets._describe import VOCABULARY, read
from pyg_mmrec.datasets._draw import ATTRIBUTES, Ints, ShopOptions, generate
from pyg_mmrec.utils.checks import check_flag, check_function, check_int, check_path


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
        >>> import torch
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
    attributes: ClassVar[dict[str, tuple[str, ...]]] = ATTRIBUTES
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
        self.options = ShopOptions(
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
        data = generate(self.options)
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
