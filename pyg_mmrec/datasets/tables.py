"""A catalogue's own tables as one graph."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.datasets._encoders import ImageModel, TextModel, add_encoded, check_encoders, make_encoders
from pyg_mmrec.datasets._events import Array, read_events
from pyg_mmrec.datasets._nodes import Features, NodeColumns, NodeTable, node_columns
from pyg_mmrec.datasets._numbering import Ints, Numbering, core
from pyg_mmrec.datasets._options import TableOptions
from pyg_mmrec.datasets._pictures import read_images
from pyg_mmrec.datasets._tables import Source, Table, check_columns, find_columns, open_table
from pyg_mmrec.typing import INTERACTS, ITEM, USER, mask_key
from pyg_mmrec.utils import Ids
from pyg_mmrec.utils.checks import check_int
from pyg_mmrec.utils.texts import add_words


def from_tables(
    interactions: Table,
    items: Table | None = None,
    users: Table | None = None,
    *,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    features: Mapping[str, Features] | None = None,
    attributes: Sequence[str] | None = None,
    image_size: int | None = None,
    image_root: str | os.PathLike[str] | None = None,
    words: Mapping[str, Any] | None = None,
    text_encoder: TextModel | None = None,
    image_encoder: ImageModel | None = None,
    min_rating: float | None = None,
    min_interactions: int = 0,
    chunk_size: int = 1_000_000,
    ids: Ids | None = None,
) -> tuple[HeteroData, Ids]:
    """Turns tables of interactions, items and users with any ids into one graph.

    A table is a :class:`pandas.DataFrame` or the path of a CSV file (any usual separator) or of a Parquet file (by
    pyarrow). Ids are texts or whole numbers; the nodes are numbered in the order of the tables of items and users,
    then of the interactions. Repeated user-item pairs are dropped as in :class:`MMRecDataset`. A warning each counts
    what is dropped or missing.

    Columns are found by their usual names, whatever their case and punctuation: ``user``, ``user_id``, ``userId``,
    ``customer_id``; ``item_id``, ``product_id``, ``asin``; and where they are there ``rating``; ``time`` or
    ``timestamp``, numbers or dates, which become seconds since 1970; ``split`` (0 or train, 1 or validation, 2 or
    test); of items ``category``; ``title``, ``description`` and ``text``; ``image``, the path of a file.

    =============================  ====================================================================
    the items' columns             become
    =============================  ====================================================================
    ``x_image_0``, ``x_image_1``,  ``data['item'].x_image``; also one column ``x_image`` of lists; rows that are
    ...                            empty, zero or not finite are missing, in ``mask_image``
    ``category``                   ``data['item'].category``, -1 where there is none
    ``attr_colour``                ``data['item'].attr_colour`` likewise; the values' names are in
                                   ``data['item'].names['colour']``, those of the category in ``names['category']``
    ``title``, ``text``, ...       ``data['item'].text``, a list, joined in the order of the columns
    ``image``                      ``data['item'].image_path``, a list of paths, and with ``image_size`` the images
    =============================  ====================================================================

    Of the users' table the features are read alike. Interactions are read ``chunk_size`` rows at a time and kept as
    numbers: whatever the file's size, memory holds one chunk, the ids, and up to 100 bytes an interaction.

    Args:
        interactions: One interaction a row.
        items: One item a row; items that only the interactions name have no features (default: no table).
        users: One user a row (default: no table).
        columns: Names of columns by meaning, such as ``{'user': 'buyer', 'text': ['brand', 'name']}``, where the usual
            ones do not find them.
        features: By modality, where the items' features are instead of columns ``x_<modality>``: a prefix of numbered
            columns, a column of lists, a list of columns, a file ``.npy``, ``.npz`` or ``.pt`` or an array with one
            row for each row of the table.
        attributes: Columns of the items that become ``attr_<name>`` (default: those called so).
        image_size: Reads the images, scaled to this height and width, into ``data['item'].image`` (by pillow; default:
            they are not read).
        image_root: Folder that relative paths of images start from (default: that of the items' file).
        words: Turns the texts into tokens by these arguments of :class:`~pyg_mmrec.transforms.WordTokens`, ``{}`` for
            its defaults (default: no tokens).
        text_encoder: The folder or name of a model that turns the texts into ``data['item'].x_text``, or a
            :class:`~pyg_mmrec.features.TextEncoder` with options of its own (default: none).
        image_encoder: Likewise one that turns the images into ``data['item'].x_image``, or an
            :class:`~pyg_mmrec.features.ImageEncoder` (default: none).
        min_rating: Leaves out interactions with a lower rating (default: all stay).
        min_interactions: Leaves out users and items with fewer interactions, again and again until none is left, the
            k-core; also those without any (default: 0, all stay).
        chunk_size: Rows of interactions read at a time (default: 1,000,000).
        ids: The ids of a model that was trained before: its users and items keep their nodes, other items follow, and
            other users, whom the model does not know, are left out (default: none).

    Returns:
        The graph; the ids of its nodes.

    Raises:
        FileNotFoundError: If there is no file at a path.
        ValueError: If an argument or a table is not as described; names the table, the column and the row, counted from
            1 below the header.
        ImportError: If a Parquet file or an image is to be read, or something encoded, without its library.

    Example:
        >>> import pandas as pd
        >>> bought = pd.DataFrame({'customer': ['ann', 'bob', 'ann'], 'product_id': [501, 88, 88]})
        >>> products = pd.DataFrame({'product_id': [88, 501, 13], 'x_text_0': [1.0, 0.5, 0.2]})
        >>> data, ids = from_tables(bought, products)
        >>> data['user', 'interacts', 'item'].edge_index
        tensor([[0, 1, 0],
                [1, 0, 0]])
        >>> ids.of('item', [1]), ids.nodes('user', ['bob'])
        ([501], tensor([1]))
    """
    options = TableOptions(
        columns=check_columns(columns),
        features=features,
        attributes=attributes,
        image_size=image_size,
        image_root=image_root,
        words=words,
        min_rating=min_rating,
        min_interactions=min_interactions,
        encoders=make_encoders(text_encoder, image_encoder),
    )
    options.check(items is not None)
    check_int(1, chunk_size=chunk_size)
    if ids is not None and not isinstance(ids, Ids):
        raise ValueError(f"'ids' must be the Ids of a model (got {ids!r})")
    data, found, notes = read_tables(Tables.open(interactions, items, users), options, chunk_size, ids)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return data, found


@dataclass(frozen=True)
class Tables:
    """The tables, before they are read."""

    events: Source
    nodes: dict[str, Source] = field(default_factory=dict)

    @classmethod
    def open(cls, interactions: Table, items: Table | None, users: Table | None) -> Tables:
        """Finds the columns of the tables that are given."""
        given = {ITEM: ("items", items), USER: ("users", users)}
        nodes = {key: open_table(name, table) for key, (name, table) in given.items() if table is not None}
        return cls(open_table("interactions", interactions), nodes)

    def columns(self, options: TableOptions) -> tuple[dict[str, str], dict[str, NodeColumns]]:
        """What the columns of the interactions and of the nodes hold."""
        optional = ["rating", "time", "split"]
        events = find_columns(self.events, options.columns, [USER, ITEM], optional)
        if options.min_rating is not None and "rating" not in events:
            raise ValueError(
                f"'min_rating' needs ratings but {self.events.name} has no such column; name it: "
                "columns={'rating': ...}"
            )
        nodes = {}
        for node_type, source in self.nodes.items():
            own = (options.features, options.attributes) if node_type == ITEM else (None, None)
            nodes[node_type] = node_columns(source, node_type, options.columns, *own)
            if node_type == ITEM:
                check_encoders(options.encoders, source, nodes[node_type])
        return events, nodes


def read_tables(
    tables: Tables, options: TableOptions, chunk_size: int, ids: Ids | None = None
) -> tuple[HeteroData, Ids, list[str]]:
    """Reads the tables; also gives notes about what is odd about them. See :func:`from_tables`."""
    event_columns, columns = tables.columns(options)
    numbering = {USER: Numbering(USER, ids, frozen=ids is not None), ITEM: Numbering(ITEM, ids)}
    read = {node_type: NodeTable(source, columns[node_type]) for node_type, source in tables.nodes.items()}
    nodes: dict[str, Ints] = {}
    for node_type, table in read.items():
        where = f"{table.source.name}: column {table.columns.id!r}"
        rows = np.arange(len(table.frame))
        nodes[node_type] = numbering[node_type].codes(table.ids(), where, rows, table.source.typed)
        table.check_unique(nodes[node_type])
    num_listed = len(numbering[ITEM])
    events, notes = read_events(
        tables.events,
        event_columns,
        numbering[USER],
        numbering[ITEM],
        min_rating=options.min_rating,
        chunk_size=chunk_size,
    )
    if ITEM in read and len(numbering[ITEM]) > num_listed:
        number = len(numbering[ITEM]) - num_listed
        notes.append(f"{tables.events.name}: {number} items are not in {tables.nodes[ITEM].name}; they have no content")
    names = {node_type: numbers.names() for node_type, numbers in numbering.items()}
    if options.min_interactions:
        _keep_core(events, names, nodes, numbering, options.min_interactions)
    data = HeteroData()
    for node_type in (USER, ITEM):
        data[node_type].num_nodes = len(names[node_type])
    data[INTERACTS].edge_index = torch.from_numpy(np.stack([events.pop("user"), events.pop("item")]))
    for role, values in events.items():
        data[INTERACTS][role] = torch.from_numpy(values)
    for node_type, table in read.items():
        found, odd = table.features(nodes[node_type], len(names[node_type]))
        data[node_type].update(found)
        notes += odd
    if ITEM in read:
        notes += _add_content(data, read[ITEM], nodes[ITEM], options)
    return data, Ids(names[USER], names[ITEM]), notes  # type: ignore[arg-type]  # all of one kind


def _keep_core(
    events: dict[str, Array],
    names: dict[str, list[str | int]],
    nodes: dict[str, Ints],
    numbering: Mapping[str, Numbering],
    k: int,
) -> None:
    """Leaves out what is not in the k-core, but no node of a model that was trained before; in place."""
    kept = core(events["user"], events["item"], (len(names[USER]), len(names[ITEM])), k)
    if not kept.any():
        raise ValueError(f"no interaction is left of users and items with 'min_interactions' {k}; lower it")
    for role, values in events.items():
        events[role] = values[kept]
    for node_type in (USER, ITEM):
        stays = np.zeros(len(names[node_type]) + 1, dtype=bool)  # the last is for rows without a node, -1
        stays[events[node_type]] = True
        stays[: len(numbering[node_type].known)] = True
        new = np.where(stays, np.cumsum(stays) - 1, -1)
        events[node_type] = new[events[node_type]]
        if node_type in nodes:
            nodes[node_type] = new[nodes[node_type]]
        names[node_type] = [name for name, stay in zip(names[node_type], stays, strict=False) if stay]


def _add_content(data: HeteroData, table: NodeTable, node: Ints, options: TableOptions) -> list[str]:
    """Adds categories, attributes, texts and images of items to the graph; notes what is missing."""
    columns, store, size, notes = table.columns, data[ITEM], data[ITEM].num_nodes, []
    named = {} if columns.category is None else {"category": columns.category}
    names = {}
    for name, column in (named | columns.attributes).items():
        key = name if name in named else f"attr_{name}"
        store[key], names[name] = table.labels(column, node, size)
    if names:
        store.names = names
    if columns.texts:
        parts = [table.by_node(column, node, size) for column in columns.texts]
        store.text = [" ".join(filter(None, part)) for part in zip(*parts, strict=True)]
    if columns.image is not None:
        folder = image_folder(table.source, options.image_root).absolute()
        store.image_path = [str(folder / path) if path else "" for path in table.by_node(columns.image, node, size)]
    if options.image_size is not None:
        notes += _add_images(data, table.source.name, options.image_size)
    word_options = options.word_options()
    if word_options is not None:
        if not columns.texts:
            raise ValueError(f"'words' needs texts but {table.source.name} has none; name columns={{'text': [...]}}")
        notes += add_words(data, store.text, word_options, table.source.name)
    return notes + add_encoded(data, options.encoders, table.source.name)


def image_folder(items: Source | None, root: str | os.PathLike[str] | None) -> Path:
    """The folder that relative paths of images start from."""
    if root is not None:
        return Path(root)
    return items.path.parent if items is not None and items.path is not None else Path()


def _add_images(data: HeteroData, source: str, size: int) -> list[str]:
    """Reads the images; items without one lack the modality."""
    paths = data[ITEM].get("image_path")
    if paths is None:
        raise ValueError(
            f"'image_size' needs paths but {source} has no column of images; name columns={{'image': ...}}"
        )
    data[ITEM].image, has, num_broken = read_images(paths, size)
    if not has.any():
        raise ValueError(
            f"{source}: no image can be read, such as {next(filter(None, paths), 'none')!r}; check 'image_root'"
        )
    key = mask_key("image")
    if not has.all():
        data[ITEM][key] = has & data[ITEM].get(key, torch.tensor(True))
    missing = int((~has).sum())
    broken = f", {num_broken} of them with a file that is missing or broken" if num_broken else ""
    return [f"{source}: {missing} items have no image{broken}, and are marked as missing"] if missing else []
