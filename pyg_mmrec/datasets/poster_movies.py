"""Movies with posters and texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.datasets._files import did_you_mean, find_folder, listing, read_arrays, read_json
from pyg_mmrec.datasets._folder import Content, FolderDataset
from pyg_mmrec.datasets._inter import MAX_ID, Array, without_repeats
from pyg_mmrec.typing import INTERACTS, ITEM, USER, WORD, mask_key
from pyg_mmrec.utils import num_users_items
from pyg_mmrec.utils.checks import check_between, check_int, check_names
from pyg_mmrec.utils.texts import StopWords, WordOptions, add_words

#: Part of every cache key; raised whenever the same files give another graph.
_FORMAT = 1

_INTERACTIONS, _POSTERS, _TEXTS = "interactions.npz", "posters.npz", "item_text.json"
_ID = "movie_id"

#: Added to a share of a whole number before it is rounded down, because 0.29 * 100 is a little less than 29.
_ROUNDING = 1e-9


class PosterMovies(FolderDataset):
    """Movies with their posters, texts and genres.

    Such as those of `MovieLens <https://grouplens.org/datasets/movielens/>`_. The folder ``<root>/<name>`` holds

    - ``interactions.npz``: integer arrays ``train`` and ``test``, one row of user and item a pair, both from 0;
    - ``posters.npz``: ``images``, uint8 of the shape ``[items, height, width, 3]``, and ``ok``, bool, which items have
      one;
    - ``item_text.json``: a list in item order of dictionaries from field to text, with ``genres`` among the fields, one
      genre or more, separated by bars (``'Drama|War'``).

    Where more than one of the files has a ``movie_id``, one for each item, the files have to agree on it.

    ==========================  ===============================================================================
    key                         content
    ==========================  ===============================================================================
    ``item.image``              uint8 ``[num_items, 3, height, width]``, zeros where there is no poster
    ``item.mask_image``         bool ``[num_items]``, which items have a poster; absent where all do
    ``item.tokens``             and ``mask_tokens``, ``data['word']``: the words of the fields, as
                                :class:`~pyg_mmrec.transforms.WordTokens` writes them
    ``item.category``           int64 ``[num_items]``, the first genre, an index into :attr:`categories`, or -1
    ``item.movie_id``           int64 ``[num_items]``, where the files have it
    ``interacts.edge_index``    int64 ``[2, num_interactions]``, in the order of the file
    ``interacts.split``         int64 ``[num_interactions]``, 0 for train, 1 for validation, 2 for test
    ``user.original_id``        int64 ``[num_users]``, the users' numbers in the file, where ``num_users`` is given
    ==========================  ===============================================================================

    Of each user's train interactions the share ``val``, rounded down but one at least, is drawn for validation; who has
    one train interaction keeps it. A user's draw does not depend on ``num_users``, and a smaller sample of users is
    part of a larger one. Repeated pairs are dropped as in :class:`MMRecDataset`, and so is what was read cached, by the
    content of the files (that of ``vectors`` too) and the options.

    Args:
        root: Folder that holds the folders of the data sets.
        name: Name of the data set's folder (default: ``'ml1m'``).
        fields: Fields whose texts, joined in this order, are an item's text (default: title and plot).
        val: Share of train interactions for validation (default: 0.1).
        seed: Seed of the validation part and of the sample of users (default: 0).
        num_users: Size of a random sample of users, who are numbered anew; all items stay (default: all users).
        max_length: Most words of a text that are kept, the first (default: 200).
        min_count: How often a word has to occur in the texts of train items (default: 5).
        max_words: Most words in the vocabulary, the most frequent (default: all).
        stop_words: ``'english'`` drops scikit-learn's list of English stop words (default: none are dropped).
        vectors: A text file of word2vec or GloVe, whose vectors become ``data['word'].x`` (default: no vectors).
        cache_dir: Folder for the cache; ``<root>/<name>/processed`` by default, or, where that cannot be written,
            one below ``~/.cache/pyg_mmrec``.
        transform: Applied to the graph at every access.
        pre_transform: Applied to the graph once, when the data set is opened; its result is not cached.
        force_reload: Whether to read the files although a cache of them exists.

    Attributes:
        content_hash: SHA-256 of the content of the files that are read, for the record of an experiment.
        categories: Names of the categories, in alphabetical order.

    Raises:
        FileNotFoundError: If the folder or one of its files is missing.
        ValueError: If an argument or a file is not as described; the message names the file and the fix.

    Example:
        >>> import json
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     folder = Path(root, 'toy')
        ...     folder.mkdir()
        ...     np.savez(folder / 'interactions.npz', train=[[0, 0], [0, 1], [1, 0], [2, 1]], test=[[1, 1]])
        ...     np.savez(folder / 'posters.npz', images=np.zeros((2, 8, 6, 3), np.uint8), ok=[True, False])
        ...     movies = [{'title': 'Night train', 'genres': 'Drama|War'}, {'title': 'Day train', 'genres': 'Comedy'}]
        ...     _ = (folder / 'item_text.json').write_text(json.dumps(movies))
        ...     dataset = PosterMovies(root, 'toy', fields=['title'], min_count=1)
        >>> dataset
        PosterMovies('toy', num_users=3, num_items=2, num_interactions=5, image=[3, 8, 6], num_words=4)
        >>> dataset.vocabulary, dataset.categories, dataset[0]['item'].category
        (['', 'train', 'day', 'night'], ['Comedy', 'Drama'], tensor([1, 0]))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str = "ml1m",
        *,
        fields: Sequence[str] = ("title", "plot"),
        val: float = 0.1,
        seed: int = 0,
        num_users: int | None = None,
        max_length: int = 200,
        min_count: int = 5,
        max_words: int | None = None,
        stop_words: StopWords | None = None,
        vectors: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        words = WordOptions(max_length, min_count, max_words, stop_words, vectors)
        options = _Options(fields, val, seed, num_users)
        super().__init__(root, cache_dir, transform, pre_transform, force_reload)
        self.name = name
        folder = find_folder(Path(self.root), name, (_INTERACTIONS, _POSTERS, _TEXTS))
        files = {file: folder / file for file in (_INTERACTIONS, _POSTERS, _TEXTS)}
        read = dict(files) if vectors is None else {**files, "vectors": Path(vectors).expanduser()}
        key = {"format": _FORMAT, **asdict(options), **asdict(words), "vectors": None}
        texts = self._open(folder, read, key, lambda: _read_graph(files, options, words))
        self.categories = texts["categories"]
        self._texts: list[str] = texts["items"]

    @property
    def vocabulary(self) -> list[str]:
        """Words by token; token 0 is padding."""
        return list(self._data[WORD].text)

    def text(self, item: int) -> str:
        """The text of an item, before it was cut into words."""
        return self._texts[item]

    def __repr__(self) -> str:
        data = self._data
        num_users, num_items = num_users_items(data)
        return (
            f"{type(self).__name__}({self.name!r}, num_users={num_users}, num_items={num_items}, "
            f"num_interactions={data[INTERACTS].edge_index.size(1)}, image={list(data[ITEM].image.shape[1:])}, "
            f"num_words={data[WORD].num_nodes})"
        )


@dataclass(frozen=True)
class _Options:
    """The arguments that decide the graph besides those about words; see :class:`PosterMovies`."""

    fields: Sequence[str]
    val: float
    seed: int
    num_users: int | None

    def __post_init__(self) -> None:
        check_names(fields=self.fields)
        if not self.fields:
            raise ValueError("'fields' must name at least one field of the texts (got [])")
        check_between(val=self.val)
        check_int(0, seed=self.seed)
        if self.num_users is not None:
            check_int(1, num_users=self.num_users)


def _read_graph(files: Mapping[str, Path], options: _Options, words: WordOptions) -> Content:
    """Reads the files into a graph."""
    arrays = read_arrays(files[_INTERACTIONS], ("train", "test"), (_ID,))
    posters = read_arrays(files[_POSTERS], ("images", "ok"), (_ID,))
    image, has_image = _images(files[_POSTERS], posters)
    num_items = len(image)
    entries = _entries(files[_TEXTS], num_items, files[_POSTERS])
    movie_id = _movie_ids(files, num_items, arrays, posters, entries)
    table, notes = without_repeats(_table(files[_INTERACTIONS], arrays, num_items), files[_INTERACTIONS])
    _hold_out(table, options.val, options.seed)

    data = HeteroData()
    data[USER].num_nodes = int(table["user"].max()) + 1
    data[ITEM].num_nodes = num_items
    if options.num_users is not None:
        table, users = _sample(table, options.num_users, options.seed, files[_INTERACTIONS])
        data[USER].num_nodes, data[USER].original_id = options.num_users, torch.from_numpy(users)
    data[ITEM].image = torch.from_numpy(image)
    if not has_image.all():
        data[ITEM][mask_key("image")] = torch.from_numpy(has_image)
    if movie_id is not None:
        data[ITEM].movie_id = torch.from_numpy(movie_id)
    genres = _field(files[_TEXTS], entries, "genres")
    categories = sorted({text.partition("|")[0] for text in genres} - {""})
    number = {category: index for index, category in enumerate(categories)}
    data[ITEM].category = torch.tensor([number.get(text.partition("|")[0], -1) for text in genres])
    data[INTERACTS].edge_index = torch.from_numpy(np.stack([table["user"], table["item"]]))
    data[INTERACTS].split = torch.from_numpy(table["split"])
    parts = [_field(files[_TEXTS], entries, field) for field in options.fields]
    texts = [" ".join(filter(None, part)) for part in zip(*parts, strict=True)]
    notes += add_words(data, texts, words, str(files[_TEXTS]))
    return Content(data, notes, {"categories": categories, "items": texts})


def _table(path: Path, arrays: Mapping[str, Array], num_items: int) -> dict[str, Array]:
    """All pairs with their part, train first."""
    parts = []
    for label, name in ((0, "train"), (2, "test")):
        pairs = arrays[name]
        if pairs.dtype.kind not in "iu" or pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
            raise ValueError(
                f"{path}: {name!r} must be an integer array of the shape [pairs, 2] with a row or more, user and item "
                f"(got {pairs.dtype}, {list(pairs.shape)})"
            )
        for column, (role, size) in enumerate((("user", MAX_ID + 1), ("item", num_items))):
            bad = np.flatnonzero((pairs[:, column] < 0) | (pairs[:, column] >= size))
            if bad.size:
                where = "" if role == "user" else f", as {_POSTERS} has {num_items} items"
                raise ValueError(
                    f"{path}: {name!r} row {bad[0]} has the {role} {pairs[bad[0], column]}, which must lie in "
                    f"0..{size - 1}{where}"
                )
        parts.append(np.insert(pairs.astype(np.int64), 2, label, axis=1))
    user, item, split = np.ascontiguousarray(np.concatenate(parts).T)
    return {"user": user, "item": item, "split": split}


def _hold_out(table: Mapping[str, Array], val: float, seed: int) -> None:
    """Labels the validation part of the train interactions, in place."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(table["split"] == 0))
    order = order[np.argsort(table["user"][order], kind="stable")]
    _, start, count = np.unique(table["user"][order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(start, count)
    held_out = np.minimum(np.maximum((count * val + _ROUNDING).astype(np.int64), 1), count - 1)
    table["split"][order[place < np.repeat(held_out, count)]] = 1


def _sample(table: Mapping[str, Array], num_users: int, seed: int, path: Path) -> tuple[dict[str, Array], Array]:
    """The interactions of some users, numbered anew, and their former numbers."""
    users = np.unique(table["user"])
    if num_users > len(users):
        raise ValueError(f"'num_users' must be at most {len(users)}, the users in {path} (got {num_users})")
    users = np.sort(np.random.default_rng([seed, 1]).permutation(users)[:num_users])
    kept = np.isin(table["user"], users)
    sample = {role: values[kept] for role, values in table.items()}
    return sample | {"user": np.searchsorted(users, sample["user"])}, users


def _images(path: Path, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    """The posters with the colours first, zero where there is none, and which there are."""
    images, ok = arrays["images"], arrays["ok"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise ValueError(
            f"{path}: 'images' must be a uint8 array of the shape [items, height, width, 3] "
            f"(got {images.dtype}, {list(images.shape)})"
        )
    if ok.dtype != np.bool_ or ok.shape != images.shape[:1]:
        raise ValueError(
            f"{path}: 'ok' must be a bool array with one entry for each of the {len(images)} images "
            f"(got {ok.dtype}, {list(ok.shape)})"
        )
    if not ok.any():
        raise ValueError(f"{path}: 'ok' marks no item as having a poster; check it")
    image = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    image[~ok] = 0
    return image, ok.copy()


def _entries(path: Path, num_items: int, posters: Path) -> list[dict[str, Any]]:
    """The items' dictionaries."""
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} must hold a list of dictionaries, one per item; write [{{'title': ...}}, ...]")
    if len(entries) != num_items:
        raise ValueError(f"{path} has {len(entries)} items but {posters.name} has {num_items}; both need all items")
    return entries


def _field(path: Path, entries: Sequence[Mapping[str, Any]], field: str) -> list[str]:
    """The texts of a field, empty where an item has none."""
    known = {key for entry in entries for key in entry}
    if field not in known:
        raise ValueError(f"{path} has no field {field!r}; its fields: {listing(known)}{did_you_mean(field, known)}")
    texts = [entry.get(field) for entry in entries]
    for number, text in enumerate(texts):
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{path} item {number}: {field!r} must be a text or null (got {text!r:.60})")
    return [text or "" for text in texts]


def _movie_ids(
    files: Mapping[str, Path],
    num_items: int,
    arrays: Mapping[str, Array],
    posters: Mapping[str, Array],
    entries: Sequence[Mapping[str, Any]],
) -> Array | None:
    """The identifiers of the items, None where no file has them, once all that do agree."""
    found = {files[_INTERACTIONS]: arrays.get(_ID), files[_POSTERS]: posters.get(_ID)}
    if any(_ID in entry for entry in entries):
        found[files[_TEXTS]] = np.array([entry.get(_ID) for entry in entries])
    known = {path: ids for path, ids in found.items() if ids is not None}
    for path, ids in known.items():
        if ids.dtype.kind not in "iu" or ids.shape != (num_items,):
            raise ValueError(f"{path}: {_ID!r} must be one integer for each of the {num_items} items")
    if not known:
        return None
    first, *others = known
    for path in others:
        wrong = np.flatnonzero(known[path] != known[first])
        if wrong.size:
            raise ValueError(
                f"{path} item {wrong[0]} has the {_ID} {known[path][wrong[0]]} but {first.name} "
                f"{known[first][wrong[0]]}; all files need the same items in the same order"
            )
    return known[first].astype(np.int64)
