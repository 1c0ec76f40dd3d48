"""Data sets in the files that multimodal recommendation shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.datasets._files import RawFiles, find_files, read_features, read_neighbors
from pyg_mmrec.datasets._folder import Content, FolderDataset
from pyg_mmrec.datasets._inter import (
    Array,
    Header,
    absent_ids,
    line_number,
    read_header,
    read_interactions,
    without_repeats,
)
from pyg_mmrec.typing import INTERACTS, ITEM, USER, feature_key, mask_key, similar
from pyg_mmrec.utils import modalities as modality_names
from pyg_mmrec.utils import normalized_weight, num_users_items, similar_modalities
from pyg_mmrec.utils.checks import check_choice, check_int, check_names

#: What the weights of a neighbour graph are.
NeighborWeights = Literal["binary", "stored"]

#: Part of every cache key; raised whenever the same files give another graph.
_FORMAT = 1


class MMRecDataset(FolderDataset):
    r"""A data set in the files that multimodal recommenders share.

    The format of `MMRec <https://github.com/enoche/MMRec>`_ and its successors.

    The folder ``<root>/<name>`` holds

    - ``<name>.inter``: a delimited text table with a header line, one interaction a row: user and item ids, 0-based,
      and, where there are such columns, rating, timestamp and split (0 train, 1 validation, 2 test);
    - ``<modality>_feat.npy``, ``.npz`` or ``.pt``, any number of them: one row of features per item;
    - ``<modality>_knn<k>.npz``, any number of them: a SciPy CSR matrix whose row i holds item i's neighbours, itself
      included.

    They become one graph with ``data['item'].x_<modality>`` in float32 (and ``mask_<modality>`` where some items have
    no features), the edges ``('user', 'interacts', 'item')`` with ``rating``, ``time`` and ``split``, and the edges
    ``('item', 'similar_<modality>', 'item')`` from neighbour to centre with ``edge_weight``. The number of items is
    that of the rows of the features and neighbour graphs that are read, else the largest item id plus one; the number
    of users is the largest user id plus one. Repeated pairs are dropped: the first row stays, or, where the rows
    disagree on the split, the first of those with the smallest label. One warning each counts the pairs dropped, the
    items without features (rows of zeros, NaN or infinity) or with the same as all others, those without neighbours,
    and the ids without interactions.

    What was read is cached under a hash of the files' content and the options, without anything that would have to be
    unpickled. The cache holds the graph before ``pre_transform``, which therefore runs each time the data set is
    opened: its ``repr`` need not tell all of its settings, and a stale result would go unnoticed.

    Args:
        root: Folder that holds the folders of the data sets.
        name: Name of the data set, ``'baby'`` for ``<root>/baby/baby.inter``.
        modalities: Modalities to read; all that have a file by default, none of them for ``[]``.
        separator: The character between two fields of the table; found in its header by default.
        columns: Column names of the table by meaning (``user``, ``item``, ``rating``, ``time``, ``split``), such as
            ``{'user': 'uid'}``; the others are found by their usual names (``userID``, ``user_id:token``, ...).
        num_neighbors: The ``k`` of the neighbour graphs to read; needed only where a modality has several.
        neighbor_weights: ``'binary'`` (default) counts every neighbour 1 and normalises, 1 / k each, as `FREEDOM
            <https://arxiv.org/abs/2211.06924>`_ does; ``'stored'`` keeps the weights of the files.
        cache_dir: Folder for the cache; ``<root>/<name>/processed`` by default, or, where that cannot be written,
            one below ``~/.cache/pyg_mmrec``.
        transform: Applied to the graph at every access.
        pre_transform: Applied to the graph once, when the data set is opened; its result is not cached.
        force_reload: Whether to read the files although a cache of them exists.

    Attributes:
        content_hash: SHA-256 of the content of the files that are read, for the record of an experiment.

    Raises:
        FileNotFoundError: If the folder or the table is missing.
        ValueError: If an argument or a file is not as described; the message names the file, the line and the fix.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     folder = Path(root, 'toy')
        ...     folder.mkdir()
        ...     _ = folder.joinpath('toy.inter').write_text('userID,itemID,x_label\n0,0,0\n0,2,2\n1,1,0\n')
        ...     np.save(folder / 'text_feat.npy', np.ones((3, 4), dtype=np.float16))
        ...     dataset = MMRecDataset(root, 'toy')
        >>> dataset
        MMRecDataset('toy', num_users=2, num_items=3, num_interactions=3, modalities=['text'], graphs=[])
        >>> dataset[0]['user', 'interacts', 'item'].split
        tensor([0, 2, 0])
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str,
        *,
        modalities: Sequence[str] | None = None,
        separator: str | None = None,
        columns: Mapping[str, str] | None = None,
        num_neighbors: int | None = None,
        neighbor_weights: NeighborWeights = "binary",
        cache_dir: str | os.PathLike[str] | None = None,
        transform: Callable[[HeteroData], Any] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
    ) -> None:
        if modalities is not None:
            check_names(modalities=modalities)
        if num_neighbors is not None:
            check_int(0, num_neighbors=num_neighbors)
        check_choice(get_args(NeighborWeights), neighbor_weights=neighbor_weights)
        super().__init__(root, cache_dir, transform, pre_transform, force_reload)
        self.name = name
        files = find_files(Path(self.root), name, modalities, num_neighbors)
        header = read_header(files.inter, separator, columns)
        table, *others = files.paths()
        named = {"interactions": table, **{path.name: path for path in others}}
        options = {"separator": header.separator, "columns": header.columns, "neighbor_weights": neighbor_weights}
        self._open(
            table.parent, named, {"format": _FORMAT, **options}, lambda: _read_graph(files, header, neighbor_weights)
        )

    def __repr__(self) -> str:
        data = self._data
        num_users, num_items = num_users_items(data)
        return (
            f"{type(self).__name__}({self.name!r}, num_users={num_users}, num_items={num_items}, "
            f"num_interactions={data[INTERACTS].edge_index.size(1)}, modalities={modality_names(data)}, "
            f"graphs={similar_modalities(data)})"
        )


def _read_graph(files: RawFiles, header: Header, neighbor_weights: NeighborWeights) -> Content:
    """Reads the files into a graph; the notes count what was odd about them."""
    table = read_interactions(files.inter, header)
    features = {modality: read_features(path) for modality, path in files.features.items()}
    graphs = {modality: read_neighbors(path) for modality, path in files.neighbors.items()}
    rows = {files.features[modality]: x.size(0) for modality, (x, _, _) in features.items()}
    rows |= {files.neighbors[modality]: graph.shape[0] for modality, graph in graphs.items()}
    num_items = _num_items(rows, files.inter, header, table["item"])
    table, notes = without_repeats(table, files.inter)
    if not rows:
        notes += absent_ids(files.inter, ITEM, table["item"])

    data = HeteroData()
    data[USER].num_nodes = int(table["user"].max()) + 1
    data[ITEM].num_nodes = num_items
    for modality, (x, mask, note) in features.items():
        data[ITEM][feature_key(modality)] = x
        if mask is not None:
            data[ITEM][mask_key(modality)] = mask
        notes += [note] if note else []
    data[INTERACTS].edge_index = torch.from_numpy(np.stack([table["user"], table["item"]]))
    for role in ("rating", "time", "split"):
        if role in table:
            data[INTERACTS][role] = torch.from_numpy(table[role])
    for modality, graph in graphs.items():
        _add_neighbors(data, modality, graph, neighbor_weights)
        alone = int((np.diff(graph.indptr) == 0).sum())
        if alone:
            notes.append(f"{files.neighbors[modality].name}: {alone} of {num_items} items have no neighbour")
    return Content(data, notes, {})


def _num_items(rows: Mapping[Path, int], inter: Path, header: Header, item: Array) -> int:
    """The number of items that all files agree on."""
    if not rows:
        return int(item.max()) + 1
    first, num_items = next(iter(rows.items()))
    for path, size in rows.items():
        if size != num_items:
            raise ValueError(f"{path} has {size} rows but {first.name} has {num_items}; both need one row per item")
    beyond = np.flatnonzero(item >= num_items)
    if beyond.size:
        line = line_number(inter, int(beyond[0]), header.separator)
        raise ValueError(
            f"{inter} line {line}: column {header.name('item')!r} has {item[beyond[0]]} but {first} has {num_items} "
            f"rows; item ids must lie in 0..{num_items - 1}"
        )
    return num_items


def _add_neighbors(
    data: HeteroData, modality: str, graph: scipy.sparse.csr_matrix[np.float32], weights: NeighborWeights
) -> None:
    """Adds the edges from each item's neighbours to the item."""
    num_items = graph.shape[0]
    centre = np.repeat(np.arange(num_items), np.diff(graph.indptr))
    edge_index = torch.from_numpy(np.stack([graph.indices.astype(np.int64), centre]))
    store = data[similar(ITEM, modality)]
    store.edge_index = edge_index
    if weights == "binary":
        store.edge_weight = normalized_weight(edge_index, num_items, num_items, normalization="row")
    else:
        store.edge_weight = torch.from_numpy(graph.data)
