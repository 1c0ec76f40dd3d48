"""The Amazon product data in its raw files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from torch_geometric.data import HeteroData

from pyg_mmrec.datasets._amazon import read_image_features, read_metadata, read_reviews
from pyg_mmrec.datasets._amazon_files import (
    CORE,
    IMAGE,
    PUBLISHED,
    TEXT,
    AmazonFiles,
    Statistics,
    check_checksums,
)
from pyg_mmrec.datasets._cache import KeptDigests, cache_folder
from pyg_mmrec.datasets._download import check_digest, check_url, download
from pyg_mmrec.datasets._encoders import TextModel, add_encoded, make_encoders
from pyg_mmrec.datasets._folder import Content, FolderDataset
from pyg_mmrec.datasets._inter import Array, unique_pairs
from pyg_mmrec.datasets._numbering import core
from pyg_mmrec.typing import INTERACTS, ITEM, USER, feature_key, mask_key
from pyg_mmrec.utils import Ids, num_users_items
from pyg_mmrec.utils import modalities as modality_names
from pyg_mmrec.utils.checks import check_path

#: Part of every cache key; raised whenever the same files give another graph.
_FORMAT = 1


class AmazonReviews(FolderDataset):
    r"""A category of the Amazon product data of 2014, from its raw files.

    The data of `Image-based Recommendations on Styles and Substitutes <https://arxiv.org/abs/1506.04757>`_. The folder
    ``<root>/raw`` holds these files of a category; those that are missing are downloaded into it.

    ==========================================  =======================================================================
    file                                        becomes
    ==========================================  =======================================================================
    ``reviews_<name>_5.json.gz``                the interactions with ``rating`` and ``time``; with ``full`` instead
                                                ``reviews_<name>.json.gz``
    ``meta_<name>.json.gz``                     ``data['item'].text``, the title, brand, categories and description of
                                                an item joined; ``category``, its first one with those above it, whose
                                                names are in ``names['category']``; by ``text_encoder`` also ``x_text``
    ``image_features_<name>.b``                 ``data['item'].x_image``, 4096 channels
    ==========================================  =======================================================================

    Repeated user-item pairs are dropped, the first review stays. Then users and items with fewer than
    ``min_interactions`` are, again and again until none is left. Users and items are numbered in the order in which
    they come in the reviews that are left. Items without image features are False in ``mask_image``, with an encoder
    those without a text in ``mask_text``. The data brings no split: :class:`~pyg_mmrec.transforms.RandomSplit` is by
    the rule behind the published ones. Where papers publish the sizes of the category's 5-core, a warning names both
    if they differ.

    Reviews and metadata are read line by line, the image features by blocks: memory holds up to 100 bytes a review, the
    ids, and what the items that are left have. A download goes on where it broke off.

    Args:
        root: Folder of the data set, with the raw files in ``raw``.
        name: The category as its files spell it, ``'Baby'``, ``'Sports_and_Outdoors'`` or
            ``'Clothing_Shoes_and_Jewelry'``.
        full: Whether to read all reviews rather than the published 5-core (default: False).
        min_interactions: The least interactions of a user and of an item; fewer than 5 need ``full`` (default: 5).
        modalities: Which of ``'image'`` and ``'text'`` to read; files of the others are not needed (default: both).
        text_encoder: Folder or name of a model that turns the texts into features, or a
            :class:`~pyg_mmrec.features.TextEncoder` (default: no features of texts).
        url: The folder of the web below which the files are; None never downloads (default: the release's own).
        checksums: SHA-256 of files by name, ``{'meta_Baby.json.gz': '...'}``; others are not checked (default: none).
        cache_dir: Folder for the cache; ``<root>/processed`` by default, or, where that cannot be written, one below
            ``~/.cache/pyg_mmrec``.
        transform: Applied to the graph at every access.
        pre_transform: Applied to the graph once, when the data set is opened; its result is not cached.
        force_reload: Whether to read the files although a cache of them exists.

    Attributes:
        ids: ``reviewerID`` and ``asin`` of the nodes, :class:`~pyg_mmrec.utils.Ids`.
        content_hash: SHA-256 of the content of the files that are read, for the record of an experiment.

    Raises:
        FileNotFoundError: If a file is missing and not to be downloaded.
        OSError: If a file cannot be downloaded; what came is kept, and the next call goes on with it.
        ValueError: If an argument or a file is not as described, or has another checksum.

    Example:
        >>> import gzip, json
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     Path(root, 'raw').mkdir()
        ...     with gzip.open(Path(root, 'raw', 'reviews_Toy.json.gz'), 'wt') as file:
        ...         for user, item in [('A1', '0000031852'), ('A1', 'B000002NUS'), ('A2', 'B000002NUS')]:
        ...             review = {'reviewerID': user, 'asin': item, 'overall': 5.0, 'unixReviewTime': 1388275200}
        ...             _ = file.write(json.dumps(review) + '\n')
        ...     dataset = AmazonReviews(root, 'Toy', full=True, min_interactions=1, modalities=[])
        >>> dataset
        AmazonReviews('Toy', num_users=2, num_items=2, num_interactions=3, modalities=[])
        >>> dataset.ids.of('item', [1])
        ['B000002NUS']
    """

    #: The folder of the release on the web.
    URL = "https://snap.stanford.edu/data/amazon/productGraph"

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str,
        *,
        full: bool = False,
        min_interactions: int = 5,
        modalities: Sequence[str] = (IMAGE, TEXT),
        text_encoder: TextModel | None = None,
        url: str | None = URL,
        checksums: Mapping[str, str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        check_path(root=root)
        self._files = AmazonFiles(name, full, min_interactions, modalities)
        self._encoders = make_encoders(text_encoder, None)
        if self._encoders and TEXT not in modalities:
            raise ValueError(f"'text_encoder' needs texts: add 'text' to 'modalities' (got {list(modalities)})")
        if self._encoders and IMAGE in modalities and self._encoders[0].modality == IMAGE:
            raise ValueError("'text_encoder' writes x_image, which the files give too; name another 'modality' for it")
        check_url(url=url)
        self.name, self._url = name, url
        self._checksums = check_checksums(checksums, name)
        if url is None:
            self._files.check_present(Path(root).expanduser() / "raw")
        super().__init__(root, cache_dir, transform, pre_transform, force_reload)
        folder, raw = Path(self.root), Path(self.raw_dir)
        files = {file: raw / file for file in self.raw_file_names}
        digests = KeptDigests(cache_folder(folder, cache_dir) / "digests.json", anew=force_reload)
        for file in files.keys() & self._checksums.keys():
            fix = "delete it, so that it is downloaded again, or correct 'checksums'"
            check_digest(files[file], digests(files[file]), self._checksums[file], fix)
        options = {"format": _FORMAT, "name": name, "min_interactions": min_interactions}
        texts = self._open(folder, files, options, lambda: _read_graph(self._files, raw), name, digests)
        self.ids = Ids(texts[USER], texts[ITEM])

    @property
    def raw_dir(self) -> str:
        """The folder ``<root>/raw``."""
        return os.path.join(self.root, "raw")

    @property
    def raw_file_names(self) -> list[str]:
        """The files in it that are read."""
        return list(self._files.folders())

    def download(self) -> None:
        """Downloads the raw files that are missing; other processes wait for the first.

        Raises:
            OSError: If one cannot be downloaded.
            ValueError: If one has another checksum.
        """
        if self._url is None:
            return
        with FileLock(os.path.join(self.raw_dir, ".lock")):
            for file, folder in self._files.folders().items():
                path = Path(self.raw_dir, file)
                if not path.is_file():
                    download(f"{self._url.rstrip('/')}/{folder}/{file}", path, self._checksums.get(file))

    def text(self, item: int) -> str:
        """The text of an item; its id where it has none."""
        texts = self._data[ITEM].get("text")
        return (texts[item] if texts else "") or str(self.ids.of(ITEM, [item])[0])

    def _add_uncached(self, data: HeteroData) -> list[str]:
        """Adds the features of the texts."""
        return add_encoded(data, self._encoders, f"meta_{self.name}.json.gz")

    def __repr__(self) -> str:
        data = self._data
        num_users, num_items = num_users_items(data)
        return (
            f"{type(self).__name__}({self.name!r}, num_users={num_users}, num_items={num_items}, "
            f"num_interactions={data[INTERACTS].edge_index.size(1)}, modalities={modality_names(data)})"
        )


def _read_graph(files: AmazonFiles, folder: Path) -> Content:
    """Reads the files into a graph."""
    table, names, notes = _interactions(folder / files.reviews, files)
    data = HeteroData()
    data[USER].num_nodes, data[ITEM].num_nodes = len(names[USER]), len(names[ITEM])
    data[INTERACTS].edge_index = torch.from_numpy(np.stack([table[USER], table[ITEM]]))
    data[INTERACTS].rating = torch.from_numpy(table["rating"])
    data[INTERACTS].time = torch.from_numpy(table["time"])
    if TEXT in files.modalities:
        notes += _add_texts(data, folder / files.metadata, names[ITEM])
    if IMAGE in files.modalities:
        notes += _add_images(data, folder / files.image_features, names[ITEM])
    return Content(data, notes, dict(names))


def _interactions(path: Path, files: AmazonFiles) -> tuple[dict[str, Array], dict[str, list[str]], list[str]]:
    """Each user-item pair of the core once, the ids of users and items as they come in it, and notes."""
    (table, names), notes, k = read_reviews(path), [], files.min_interactions
    num_reviews, keep = len(table[USER]), unique_pairs(table)
    if len(keep) < num_reviews:
        notes.append(
            f"{path.name}: {num_reviews - len(keep)} of {num_reviews} reviews repeat a user-item pair and are dropped"
        )
        table = {role: values[keep] for role, values in table.items()}
    kept = core(table[USER], table[ITEM], (len(names[USER]), len(names[ITEM])), k)
    if not kept.any():
        raise ValueError(f"{path}: no review is left of users and items with 'min_interactions' {k}; lower it")
    if not files.full and k == CORE and not kept.all():
        notes.append(f"{path.name}: {int((~kept).sum())} reviews are not of its {k}-core and are left out")
    table = {role: values[kept] for role, values in table.items()}
    for role, all_names in names.items():
        table[role], numbers = pd.factorize(table[role])
        names[role] = [all_names[number] for number in numbers]
    size, published = Statistics(len(names[USER]), len(names[ITEM]), len(table[USER])), PUBLISHED.get(files.name)
    if k == CORE and published not in (None, size):
        notes.append(f"{path.name}: the {k}-core has {size}, but the published one {published}")
    return table, names, notes


def _add_texts(data: HeteroData, path: Path, items: Sequence[str]) -> list[str]:
    """Adds texts and categories; notes what is missing."""
    texts, categories, num_found = read_metadata(path, items)
    data[ITEM].text = texts
    code, names = pd.factorize(np.array([category or None for category in categories], dtype=object))
    data[ITEM].category = torch.from_numpy(code.astype(np.int64))
    data[ITEM].names = {"category": [str(name) for name in names]}
    missing, empty = len(items) - num_found, texts.count("")
    return [f"{path.name}: {empty} of {len(items)} items have no text, {missing} of them no line"] if empty else []


def _add_images(data: HeteroData, path: Path, items: Sequence[str]) -> list[str]:
    """Adds image features; notes what is missing."""
    features, has, num_broken = read_image_features(path, items)
    data[ITEM][feature_key(IMAGE)] = torch.from_numpy(features)
    if has.all():
        return []
    data[ITEM][mask_key(IMAGE)] = torch.from_numpy(has)
    broken = f", {num_broken} of them with features of zeros, NaN or infinity" if num_broken else ""
    missing = int((~has).sum())
    return [f"{path.name}: {missing} of {len(items)} items have no image features{broken}, and are marked as missing"]
