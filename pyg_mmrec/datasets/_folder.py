"""What data sets that are read from a folder of files have in common."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_mmrec.datasets._cache import cache_folder, content_hash, load_cache, options_hash, save_cache
from pyg_mmrec.utils.checks import check_flag, check_function, check_path
from pyg_mmrec.utils.hashing import file_digest


class Content(NamedTuple):
    """What was read."""

    data: HeteroData
    notes: list[str]  #: what is odd about the files
    texts: dict[str, list[Any]]  #: by name, texts and ids that are no part of the graph


class FolderDataset(InMemoryDataset):
    """One graph from the files of a folder, cached under a hash of their content and the options.

    A sub-class calls :meth:`_open` in its constructor.

    Args:
        root: Folder that holds the folders of the data sets.
        cache_dir: Folder for the cache; None for ``<root>/<name>/processed`` or one below ``~/.cache/pyg_mmrec``.
        transform: Applied to the graph at every access.
        pre_transform: Applied to the graph once, when the data set is opened; its result is not cached.
        force_reload: Whether to read the files although a cache of them exists.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None,
        transform: Callable[[HeteroData], Any] | None,
        pre_transform: Callable[[HeteroData], HeteroData] | None,
        force_reload: bool,
    ) -> None:
        check_path(root=root)
        if cache_dir is not None:
            check_path(cache_dir=cache_dir)
        check_function(transform=transform, pre_transform=pre_transform)
        check_flag(force_reload=force_reload)
        super().__init__(os.fspath(root), transform, pre_transform, log=False, force_reload=force_reload)
        self._cache_dir = cache_dir

    def _open(
        self,
        folder: Path,
        files: Mapping[str, Path],
        options: Mapping[str, Any],
        read: Callable[[], Content],
        name: str | None = None,
        digest: Callable[[Path], str] = file_digest,
    ) -> dict[str, list[Any]]:
        """Takes the graph from the cache, or reads it and writes the cache; warns of what is odd about the files.

        Args:
            folder: The data set's folder, which names the cache.
            files: All files that are read, by a name that stays the same when they move.
            options: What else decides the graph, as JSON can hold it.
            read: Reads the files.
            name: Begins the name of the cache's file (default: that of the folder).
            digest: Gives the SHA-256 of a file's bytes (default: reads them).

        Returns:
            The texts that are no part of the graph.
        """
        self._folder = folder
        self._raw = [path.name for path in files.values() if path.parent == folder]
        self.content_hash = content_hash(files, digest)
        key = options_hash(content=self.content_hash, **options)
        self._cache = cache_folder(folder, self._cache_dir) / f"{name or folder.name}-{key[:16]}.pt"
        content = self._load_or_read(key, read)
        for note in content.notes + self._add_uncached(content.data):
            warnings.warn(note, stacklevel=3)
        self.data = content.data if self.pre_transform is None else self.pre_transform(content.data)
        return content.texts

    def _add_uncached(self, data: HeteroData) -> list[str]:
        """Adds to the graph what the cache does not hold, before ``pre_transform``; gives notes about it."""
        return []

    def _load_or_read(self, key: str, read: Callable[[], Content]) -> Content:
        if os.path.exists(self._cache) and not self.force_reload:
            try:
                cached = load_cache(self._cache, key)
                return Content(HeteroData.from_dict(cached["data"]), cached["notes"], cached.get("texts", {}))
            except ValueError as error:
                warnings.warn(f"{self._cache} is not a usable cache ({error}); reading the files again", stacklevel=4)
        content = read()
        try:
            save_cache(self._cache, key, {**content._asdict(), "data": content.data.to_dict()})
        except (OSError, RuntimeError) as error:
            warnings.warn(
                f"{self._cache} cannot be written ({error}), so the files are read each time; pass another 'cache_dir'",
                stacklevel=4,
            )
        return content

    @property
    def raw_dir(self) -> str:
        """The folder ``<root>/<name>``."""
        return str(self._folder)

    @property
    def raw_file_names(self) -> list[str]:
        """The files in it that are read."""
        return list(self._raw)

    @property
    def processed_dir(self) -> str:
        """The folder of the cache."""
        return str(self._cache.parent)

    @property
    def processed_file_names(self) -> list[str]:
        """The cache."""
        return [self._cache.name]
