"""Data sets from a catalogue's own tables in files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch_geometric.data import HeteroData

from pyg_mmrec.datasets._encoders import ImageModel, TextModel, make_encoders
from pyg_mmrec.datasets._folder import Content, FolderDataset
from pyg_mmrec.datasets._nodes import NodeColumns
from pyg_mmrec.datasets._options import TableOptions
from pyg_mmrec.datasets._tables import Source, check_columns
from pyg_mmrec.datasets.tables import Tables, image_folder, read_tables
from pyg_mmrec.typing import INTERACTS, ITEM, USER
from pyg_mmrec.utils import Ids, modalities, num_users_items
from pyg_mmrec.utils.checks import check_int, check_path

#: Part of every cache key; raised whenever the same files give another graph.
_FORMAT = 1


class TableDataset(FolderDataset):
    r"""A catalogue's own tables in CSV or Parquet files, with any ids: :func:`from_tables`, cached.

    What was read is cached under a hash of the files' content (of features in files and of images too) and the options.

    Args:
        interactions: The file of the interactions.
        items: The file of the items (default: none).
        users: The file of the users (default: none).
        columns: Names of columns by meaning; see :func:`from_tables` for this and all arguments that follow.
        features: By modality, where the items' features are: a prefix of columns, a column, columns or a file.
        attributes: Columns of the items that become attributes.
        image_size: Height and width to which images are scaled (default: they are not read).
        image_root: Folder that relative paths of images start from (default: that of the items' file).
        words: Arguments of the tokens of the texts, ``{}`` for the defaults (default: no tokens).
        text_encoder: Folder or name of a model that turns the texts into features (default: none).
        image_encoder: Folder or name of a model that turns the images into features (default: none).
        min_rating: Leaves out interactions with a lower rating (default: all stay).
        min_interactions: Leaves out users and items with fewer interactions until none is left (default: 0).
        chunk_size: Rows of interactions read at a time (default: 1,000,000).
        cache_dir: Folder for the cache; ``processed`` beside the interactions by default, or, where that cannot be
            written, one below ``~/.cache/pyg_mmrec``.
        transform: Applied to the graph at every access.
        pre_transform: Applied to the graph once, when the data set is opened; its result is not cached.
        force_reload: Whether to read the files although a cache of them exists.

    Attributes:
        ids: The catalogue's own ids of the nodes, :class:`~pyg_mmrec.utils.Ids`.
        content_hash: SHA-256 of the content of the files that are read, for the record of an experiment.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If an argument or a table is not as described.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, 'sales.csv').write_text('user_id,item_id\nann,pen\nbob,ink\nann,ink\n')
        ...     dataset = TableDataset(Path(folder, 'sales.csv'))
        >>> dataset
        TableDataset('sales.csv', num_users=2, num_items=2, num_interactions=3, modalities=[])
        >>> dataset.ids.of('item', [0, 1])
        ['pen', 'ink']
    """

    def __init__(
        self,
        interactions: str | os.PathLike[str],
        items: str | os.PathLike[str] | None = None,
        users: str | os.PathLike[str] | None = None,
        *,
        columns: Mapping[str, str | list[str]] | None = None,
        features: Mapping[str, str | list[str]] | None = None,
        attributes: Sequence[str] | None = None,
        image_size: int | None = None,
        image_root: str | os.PathLike[str] | None = None,
        words: Mapping[str, Any] | None = None,
        text_encoder: TextModel | None = None,
        image_encoder: ImageModel | None = None,
        min_rating: float | None = None,
        min_interactions: int = 0,
        chunk_size: int = 1_000_000,
        cache_dir: str | os.PathLike[str] | None = None,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        paths = {"interactions": interactions, "items": items, "users": users}
        check_path(**{name: path for name, path in paths.items() if path is not None or name == "interactions"})
        encoders = make_encoders(text_encoder, image_encoder)
        options = TableOptions(
            columns=check_columns(columns),
            features=features,
            attributes=attributes,
            image_size=image_size,
            image_root=image_root,
            words=words,
            min_rating=min_rating,
            min_interactions=min_interactions,
            encoders=encoders,
        )
        options.check(items is not None)
        check_int(1, chunk_size=chunk_size)
        table = Path(interactions)
        super().__init__(table.parent, cache_dir, transform, pre_transform, force_reload)
        tables = Tables.open(interactions, items, users)
        _, node_columns = tables.columns(options)
        root = image_folder(tables.nodes.get(ITEM), image_root).absolute()
        files = {name: Path(path) for name, path in paths.items() if path is not None}
        files |= _other_files(node_columns.get(ITEM), options, root, tables.nodes.get(ITEM))
        encoded = {encoder.modality: encoder.provenance for encoder in encoders}
        said = {**vars(options), "image_root": str(root), "encoders": encoded}
        texts = self._open(
            table.absolute().parent, files, {"format": _FORMAT, **said}, lambda: _read(tables, options, chunk_size)
        )
        self._name = table.name
        self.ids = Ids(texts[USER], texts[ITEM])

    def __repr__(self) -> str:
        data = self._data
        num_users, num_items = num_users_items(data)
        return (
            f"{type(self).__name__}({self._name!r}, num_users={num_users}, num_items={num_items}, "
            f"num_interactions={data[INTERACTS].edge_index.size(1)}, modalities={modalities(data)})"
        )


def _read(tables: Tables, options: TableOptions, chunk_size: int) -> Content:
    data, ids, notes = read_tables(tables, options, chunk_size)
    num_users, num_items = ids.sizes()
    return Content(data, notes, {USER: ids.of(USER, range(num_users)), ITEM: ids.of(ITEM, range(num_items))})


def _other_files(
    columns: NodeColumns | None, options: TableOptions, root: Path, items: Source | None
) -> dict[str, Path]:
    """The files that the items' table names: features, word vectors and, where they are read, images."""
    if columns is None or items is None:
        return {}
    files = {f"features {name}": Path(path) for name, path in columns.arrays.items()}
    words = options.word_options()
    if words is not None and words.vectors is not None:
        files["vectors"] = Path(words.vectors).expanduser()
    reads_images = options.image_size is not None or any(encoder.reads == "image_path" for encoder in options.encoders)
    if reads_images and columns.image is not None:
        for path in items.read([columns.image], [columns.image])[columns.image].dropna().astype(str).str.strip():
            if (root / path).is_file():
                files[f"image {path}"] = root / path
    return files
