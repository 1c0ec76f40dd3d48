from __future__ import annotations

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import HeteroData

from pyg_mmrec.datasets import _cache, _inter, mmrec
from pyg_mmrec.datasets.mmrec import MMRecDataset
from pyg_mmrec.utils.files import one_line

INTERACTS = ("user", "interacts", "item")
SIMILAR = ("item", "similar_image", "item")

#: Three users, four items; pair (2, 1) is held out for validation, (0, 3) for test.
ROWS = [(0, 2, 0), (0, 3, 2), (1, 0, 0), (2, 1, 1), (2, 2, 0)]
FEATURES = np.array([[1.0, 0.5], [-2.0, 3.0], [0.0, 0.25], [4.0, -1.0]])
NEIGHBORS = sp.csr_matrix(
    (np.array([0.5, 0.25, 1.0, 2.0, 3.0, 4.0]), ([0, 0, 1, 2, 2, 3], [0, 3, 1, 2, 0, 3])), shape=(4, 4)
)


def text(rows: list[tuple[Any, ...]], header: str = "userID\titemID\tx_label") -> str:
    separator = next((key for key in "\t,;| " if key in header), "\t")
    return "\n".join([header, *(separator.join(map(str, row)) for row in rows)]) + "\n"


def write(root: Path, inter: str | bytes = text(ROWS), name: str = "toy", **arrays: np.ndarray | sp.spmatrix) -> Path:
    """A data set folder; keyword ``image_feat`` or ``image_knn2`` writes the file of that name."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.inter").write_bytes(inter.encode() if isinstance(inter, str) else inter)
    for stem, array in arrays.items():
        if sp.issparse(array):
            sp.save_npz(folder / f"{stem}.npz", array)
        else:
            np.save(folder / f"{stem}.npy", array)
    return folder


def edges(data: HeteroData) -> list[tuple[int, int]]:
    return [(int(user), int(item)) for user, item in data[INTERACTS].edge_index.t()]


def messages(record: pytest.WarningsRecorder | list[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in record]


# What a good data set becomes ----------------------------------------------------------------------------------------


def test_reads_everything(tmp_path: Path) -> None:
    rows = [(*row, rating, time) for row, rating, time in zip(ROWS, (5, 4.5, 3, 2, 1), range(100, 105), strict=True)]
    table = text(rows, "userID\titemID\tx_label\trating\ttimestamp")
    write(tmp_path, table, image_feat=FEATURES, text_feat=FEATURES[:, :1] + 7, image_knn2=NEIGHBORS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = MMRecDataset(tmp_path, "toy")
    assert len(dataset) == 1
    data = dataset[0]
    assert isinstance(data, HeteroData)
    assert (data["user"].num_nodes, data["item"].num_nodes) == (3, 4)
    assert edges(data) == [row[:2] for row in ROWS]
    store = data[INTERACTS]
    assert store.edge_index.dtype == torch.int64
    assert store.split.tolist() == [0, 2, 0, 1, 0]
    assert (store.rating.tolist(), store.rating.dtype) == ([5, 4.5, 3, 2, 1], torch.float32)
    assert (store.time.tolist(), store.time.dtype) == ([100, 101, 102, 103, 104], torch.int64)
    assert torch.equal(data["item"].x_image, torch.tensor(FEATURES, dtype=torch.float32))
    assert torch.equal(data["item"].x_text, torch.tensor([[8.0], [5.0], [7.0], [11.0]]))
    assert "mask_image" not in data["item"]
    assert sorted(data.node_types) == ["item", "user"]
    assert data.validate()


def test_repr_and_pyg_names(tmp_path: Path) -> None:
    folder = write(tmp_path, image_feat=FEATURES, image_knn2=NEIGHBORS)
    dataset = MMRecDataset(tmp_path, "toy")
    assert repr(dataset) == (
        "MMRecDataset('toy', num_users=3, num_items=4, num_interactions=5, modalities=['image'], graphs=['image'])"
    )
    assert dataset.raw_dir == str(folder)
    assert dataset.raw_file_names == ["toy.inter", "image_feat.npy", "image_knn2.npz"]
    assert dataset.processed_dir == str(folder / "processed")
    assert all(Path(path).is_file() for path in (*dataset.raw_paths, *dataset.processed_paths))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("userID\titemID\tx_label", "{u}\t{i}\t{s}"),
        ("user_id:token,item_id:token,split:float", "{u},{i},{s}"),
        ("user;title;item;x_label", '{u};"unclosed, title;{i};{s}'),
        ("x_label|UserId|ItemId", "{s}|{u}|{i}"),
        ("uid iid split", "{u} {i} {s}"),
        ("\ufeffuserID\titemID\tx_label", "{u}\t{i}\t{s}"),
        ("\n\nuserID,itemID,x_label", "{u},{i},{s}\n"),
        ("user id\titem id\tX-Label\tnote", "{u}\t{i}\t{s}\tn/a"),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_detects_separator_and_columns(tmp_path: Path, header: str, row: str, newline: str) -> None:
    lines = [header, *(row.format(u=u, i=i, s=s) for u, i, s in ROWS)]
    write(tmp_path, ("\n".join(lines) + "\n").replace("\n", newline))
    data = MMRecDataset(tmp_path, "toy")[0]
    assert edges(data) == [pair[:2] for pair in ROWS]
    assert data[INTERACTS].split.tolist() == [pair[2] for pair in ROWS]


def test_separator_and_columns_can_be_given(tmp_path: Path) -> None:
    # Every alias is a decoy here, and so is the space.
    write(tmp_path, "user\tmy user\titem\tmy item\tset no\twhen\n9\t0\t9\t1\t0\t5.5\n9\t1\t9\t0\t2\t7.25\n")
    columns = {"user": "my user", "item": "my item", "split": "set no", "time": "when"}
    data = MMRecDataset(tmp_path, "toy", separator="\t", columns=columns)[0]
    assert edges(data) == [(0, 1), (1, 0)]
    assert data[INTERACTS].split.tolist() == [0, 2]
    assert (data[INTERACTS].time.tolist(), data[INTERACTS].time.dtype) == ([5.5, 7.25], torch.float64)


def test_large_timestamps_stay_exact(tmp_path: Path) -> None:
    write(tmp_path, f"user,item,time\n0,0,{2**53 + 1}\n0,1,{2**53 + 2}\n")
    assert MMRecDataset(tmp_path, "toy")[0][INTERACTS].time.tolist() == [2**53 + 1, 2**53 + 2]


def test_optional_columns_stay_absent(tmp_path: Path) -> None:
    write(tmp_path, text([(0, 0), (0, 1)], "userID\titemID"))
    store = MMRecDataset(tmp_path, "toy")[0][INTERACTS]
    assert list(store.keys()) == ["edge_index"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "int64", "bool"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt"])
def test_feature_formats_agree(tmp_path: Path, dtype: str, suffix: str) -> None:
    array = (FEATURES * 4).astype(dtype)
    folder = write(tmp_path)
    path = folder / f"image_feat{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        np.savez_compressed(path, features_of_any_name=array)
    else:
        torch.save(torch.from_numpy(array.astype(array.dtype.newbyteorder("="))), path)
    x = MMRecDataset(tmp_path, "toy")[0]["item"].x_image
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.from_numpy(array.astype(np.float32)))


def test_npz_with_several_arrays_uses_feat(tmp_path: Path) -> None:
    folder = write(tmp_path)
    np.savez(folder / "image_feat.npz", feat=FEATURES, ids=np.arange(4))
    assert torch.equal(MMRecDataset(tmp_path, "toy")[0]["item"].x_image, torch.tensor(FEATURES).float())


def test_bfloat16_parameter_in_pt(tmp_path: Path) -> None:
    folder = write(tmp_path)
    torch.save(torch.nn.Parameter(torch.tensor(FEATURES, dtype=torch.bfloat16)), folder / "image_feat.pt")
    x = MMRecDataset(tmp_path, "toy")[0]["item"].x_image
    assert not x.requires_grad
    assert torch.equal(x, torch.tensor(FEATURES).float())


def test_missing_rows_are_masked_and_counted_once(tmp_path: Path) -> None:
    features = np.array([[1.0, 2.0], [np.nan, 2.0], [0.0, 0.0], [1e300, 1.0]])
    write(tmp_path, image_feat=features, text_feat=FEATURES)
    with pytest.warns(UserWarning, match="image_feat.npy") as record:
        data = MMRecDataset(tmp_path, "toy")[0]
    assert messages(record) == [
        "image_feat.npy: 3 of 4 items have no features (2 rows with NaN or infinite values, 1 rows of zeros) and are "
        "marked as missing"
    ]
    assert record[0].filename == __file__
    assert data["item"].mask_image.tolist() == [True, False, False, False]
    assert data["item"].x_image.tolist() == [[1, 2], [0, 0], [0, 0], [0, 0]]
    assert "mask_text" not in data["item"]


def test_warnings_are_repeated_when_the_cache_is_used(tmp_path: Path) -> None:
    write(tmp_path, text([(0, 0, 0), (2, 1, 0), (0, 0, 0)]))
    with pytest.warns(UserWarning, match="toy") as first:
        MMRecDataset(tmp_path, "toy")
    with pytest.warns(UserWarning, match="toy") as second:
        MMRecDataset(tmp_path, "toy")
    assert messages(first) == messages(second)
    assert messages(first) == [
        "toy.inter: 1 of 3 rows repeat a user-item pair and are dropped",
        "toy.inter: 1 of 3 users (ids 0..2) have no interaction",
    ]


def test_repeated_pairs_keep_the_first_row_of_the_smallest_split(tmp_path: Path) -> None:
    header = "userID\titemID\tx_label\trating"
    rows = [(0, 1, 2, 1.0), (0, 0, 0, 2.0), (0, 1, 0, 3.0), (0, 0, 0, 4.0), (0, 1, 0, 5.0), (1, 0, 1, 6.0)]
    write(tmp_path, text(rows, header))
    with pytest.warns(UserWarning, match="3 of 6 rows repeat"):
        data = MMRecDataset(tmp_path, "toy")[0]
    assert edges(data) == [(0, 0), (0, 1), (1, 0)]
    assert data[INTERACTS].split.tolist() == [0, 0, 1]
    assert data[INTERACTS].rating.tolist() == [2.0, 3.0, 6.0]


def test_number_of_items(tmp_path: Path) -> None:
    write(tmp_path, name="ids")
    write(tmp_path, name="features", image_feat=np.ones((9, 2)))
    write(tmp_path, name="graphs", image_knn1=sp.eye(7, format="csr"))
    counts = [MMRecDataset(tmp_path, name)[0]["item"].num_nodes for name in ("ids", "features", "graphs")]
    assert counts == [4, 9, 7]


def test_neighbor_graph(tmp_path: Path) -> None:
    write(tmp_path, image_knn2=NEIGHBORS)
    binary = MMRecDataset(tmp_path, "toy")[0][SIMILAR]
    stored = MMRecDataset(tmp_path, "toy", neighbor_weights="stored")[0][SIMILAR]
    assert binary.edge_index.tolist() == [[0, 3, 1, 0, 2, 3], [0, 0, 1, 2, 2, 3]]  # neighbours above centres
    assert binary.edge_weight.tolist() == [0.5, 0.5, 1.0, 0.5, 0.5, 1.0]
    assert torch.equal(stored.edge_index, binary.edge_index)
    assert stored.edge_weight.tolist() == [0.5, 0.25, 1.0, 3.0, 2.0, 4.0]
    assert stored.edge_weight.dtype == binary.edge_weight.dtype == torch.float32


def test_num_neighbors_chooses_the_graph(tmp_path: Path) -> None:
    write(tmp_path, image_knn1=sp.eye(4, format="csr"), image_knn2=NEIGHBORS)
    assert MMRecDataset(tmp_path, "toy", num_neighbors=1)[0][SIMILAR].edge_index.size(1) == 4
    assert MMRecDataset(tmp_path, "toy", num_neighbors=2)[0][SIMILAR].edge_index.size(1) == 6


def test_modalities_are_chosen(tmp_path: Path) -> None:
    folder = write(tmp_path, image_feat=FEATURES, image_knn2=NEIGHBORS, text_feat=FEATURES)
    (folder / "._image_feat.npy").write_bytes(b"resource fork")
    everything = MMRecDataset(tmp_path, "toy")
    only_text = MMRecDataset(tmp_path, "toy", modalities=["text"])
    nothing = MMRecDataset(tmp_path, "toy", modalities=[])
    assert [set(d[0]["item"].keys()) for d in (everything, only_text, nothing)] == [
        {"num_nodes", "x_image", "x_text"},
        {"num_nodes", "x_text"},
        {"num_nodes"},
    ]
    assert [SIMILAR in d[0].edge_types for d in (everything, only_text, nothing)] == [True, False, False]


def test_transforms(tmp_path: Path) -> None:
    write(tmp_path)
    runs = []

    def mark(data: HeteroData) -> HeteroData:
        runs.append(1)
        data["user"].mark = torch.ones(3)
        return data

    plain = MMRecDataset(tmp_path, "toy", transform=mark)
    assert not runs
    assert "mark" in plain[0]["user"]
    runs.clear()
    for _ in range(2):  # with and without a cache
        marked = MMRecDataset(tmp_path, "toy", pre_transform=mark)
        assert "mark" in marked[0]["user"]
        assert "mark" in marked[0]["user"]
    assert len(runs) == 2
    assert "mark" not in MMRecDataset(tmp_path, "toy")[0]["user"]  # the cache holds what was read


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 30),
            st.integers(0, 30),
            st.sampled_from([0, 1, 2]),
            st.floats(-1e6, 1e6, width=32),
            st.integers(-(2**60), 2**60),
        ),
        min_size=1,
        max_size=30,
        unique_by=lambda row: row[:2],
    ).filter(lambda rows: any(row[2] == 0 for row in rows)),
    separator=st.sampled_from("\t,;| "),
    order=st.permutations(range(5)),
    names=st.sampled_from(
        [
            ("userID", "itemID", "x_label", "rating", "timestamp"),
            ("user_id:token", "item_id:token", "split:token", "rating:float", "timestamp:float"),
        ]
    ),
)
def test_any_table_survives_the_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[Any, ...]],
    separator: str,
    order: list[int],
    names: tuple[str, ...],
) -> None:
    path = tmp_path_factory.mktemp("table") / "toy.inter"
    lines = [separator.join(str(row[column]) for column in order) for row in (names, *rows)]
    path.write_text("\n".join(lines))
    header = _inter.read_header(path)
    table = _inter.read_interactions(path, header)
    assert header.separator == separator
    columns = [table[role].tolist() for role in ("user", "item", "split", "rating", "time")]
    assert list(zip(*columns, strict=True)) == rows
    assert _inter.unique_pairs(table).tolist() == list(range(len(rows)))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20),
)
def test_unique_pairs_against_a_loop(rows: list[tuple[int, int, int]]) -> None:
    best: dict[tuple[int, int], int] = {}
    for position, (user, item, split) in enumerate(rows):
        if (user, item) not in best or split < rows[best[user, item]][2]:
            best[user, item] = position
    user, item, split = np.array(rows).T
    assert _inter.unique_pairs({"user": user, "item": item, "split": split}).tolist() == sorted(best.values())


@settings(max_examples=80, deadline=None)
@given(
    values=st.lists(
        st.one_of(
            st.sampled_from(["0", "1", " 2", "+1", "1.5", "nan", "1e400", "True", "0x1", "1_0", ".", "٣", ""]),
            st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), max_size=4),
        ),
        min_size=2,
        max_size=5,
    ),
    role=st.sampled_from(["userID", "rating", "timestamp", "x_label"]),
)
def test_any_value_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, values: list[str], role: str
) -> None:
    path = tmp_path_factory.mktemp("table") / "toy.inter"
    names = ["itemID", "userID"] if role != "userID" else ["itemID"]
    lines = ["\t".join([*names, role]), *("\t".join(["0"] * len(names) + [value]) for value in values)]
    path.write_bytes("\n".join(lines).encode())
    try:
        table = _inter.read_interactions(path, _inter.read_header(path))
    except ValueError as error:
        message = str(error)
    else:
        message = ""
        exact = [float(value) for value in values]
        read = table[{"userID": "user", "timestamp": "time", "x_label": "split"}.get(role, role)]
        assert read.tolist() == (np.float32(exact).tolist() if role == "rating" else exact)
    assert message == "" or message.startswith(str(path))
    assert "\n" not in message


# What a bad one raises -----------------------------------------------------------------------------------------------


def inter(content: str | bytes) -> Callable[[Path], Any]:
    return lambda root: write(root, content)


def features(array: np.ndarray, **others: np.ndarray | sp.spmatrix) -> Callable[[Path], Any]:
    return lambda root: write(root, image_feat=array, **others)


def graph(matrix: sp.spmatrix, **others: np.ndarray | sp.spmatrix) -> Callable[[Path], Any]:
    return lambda root: write(root, image_knn2=matrix, **others)


def raw(name: str, content: Callable[[], bytes]) -> Callable[[Path], Any]:
    return lambda root: (write(root) / name).write_bytes(content())


def saved(save: Callable[..., Any], *args: Any, keep: int | None = None, **kwargs: Any) -> Callable[[], bytes]:
    """The bytes that ``save(file, ...)`` writes, cut after ``keep``."""

    def content() -> bytes:
        file = io.BytesIO()
        save(file, *args, **kwargs)
        return file.getvalue()[:keep]

    return content


def torch_saved(value: Any, keep: int | None = None) -> Callable[[], bytes]:
    return saved(lambda file: torch.save(value, file), keep=keep)


def no_folder(root: Path) -> None:
    write(root, name="toys")


def no_table(root: Path) -> None:
    (write(root) / "toy.inter").rename(root / "toy" / "toy.tsv")


def root_is_the_folder(root: Path) -> None:
    write(root.parent, name=root.name).joinpath(f"{root.name}.inter").rename(root / "toy.inter")


def table_is_a_folder(root: Path) -> None:
    (root / "toy" / "toy.inter").mkdir(parents=True)


def folder_is_a_file(root: Path) -> None:
    (root / "toy").write_text("")


def out_of_range_graph() -> bytes:
    """A CSR file whose column indices point outside of the matrix."""
    matrix = NEIGHBORS.copy()
    matrix.indices[0] = 99
    return saved(sp.save_npz, matrix)()


def damaged_zip() -> bytes:
    """A zip file whose member fails its checksum."""
    content = bytearray(saved(np.savez, FEATURES)())
    start = content.index(b"\x93NUMPY") + 130
    content[start : start + 4] = b"\xff" * 4
    return bytes(content)


nan_graph = NEIGHBORS.copy()
nan_graph.data[2] = np.nan
zip_without_arrays = saved(lambda file: zipfile.ZipFile(file, "w").close())

BAD: dict[str, tuple[Callable[[Path], Any], dict[str, Any], list[str]]] = {
    # Arguments
    "neighbor_weights": (write, {"neighbor_weights": "cosine"}, ["'neighbor_weights'", "'stored'", "'cosine'"]),
    "long separator": (write, {"separator": "\\t"}, ["'separator'", "one character"]),
    "unknown role": (write, {"columns": {"users": "uid"}}, ["'columns'", "'users'", "did you mean user?"]),
    "one column, two roles": (write, {"columns": {"user": "a", "item": "a"}}, ["'columns'", "two meanings"]),
    "modalities is a text": (write, {"modalities": "image"}, ["'modalities'", "['image']"]),
    "unknown modality": (features(FEATURES), {"modalities": ["imgae"]}, ["toy", "imgae", "did you mean image?"]),
    "num_neighbors, no such graph": (graph(NEIGHBORS), {"num_neighbors": 5}, ["image_knn5.npz", "image_knn2.npz"]),
    "num_neighbors, no graph": (write, {"num_neighbors": 5}, ["toy", "num_neighbors=5"]),
    # Folders
    "no folder": (no_folder, {}, ["no folder", "toys", "did you mean toys?"]),
    "no table": (no_table, {}, ["toy.inter", "toy.tsv"]),
    "root is the folder": (root_is_the_folder, {}, ["toy.inter", "pass its parent folder as 'root'"]),
    "folder is a file": (folder_is_a_file, {}, ["no folder", "toy"]),
    "table is a folder": (table_is_a_folder, {}, ["toy.inter", "Is a directory"]),
    "two feature files": (
        lambda root: (
            np.save(write(root) / "image_feat.npy", FEATURES),
            np.savez(root / "toy/image_feat.npz", FEATURES),
        ),
        {},
        ["image_feat.npy and image_feat.npz", "keep one"],
    ),
    "two graphs": (
        graph(NEIGHBORS, image_knn10=NEIGHBORS),
        {},
        ["image_knn10.npz", "num_neighbors=2 or num_neighbors=10"],
    ),
    # Table: header
    "empty": (inter(""), {}, ["toy.inter", "is empty"]),
    "blank": (inter("\n \n\n"), {}, ["toy.inter", "is empty"]),
    "header only": (inter("userID\titemID\n"), {}, ["toy.inter", "no rows"]),
    "binary": (inter("userID\titemID\n0\t1\n".encode("utf-16")), {}, ["toy.inter", "not a text table"]),
    "no item column": (inter("userID\tmovie\n0\t1\n"), {}, ["toy.inter line 1", "no item column", "userID, movie"]),
    "no header": (inter("0\t1\t0\n0\t2\t0\n"), {}, ["toy.inter line 1", "no user column", "add a header line"]),
    "named column missing": (
        inter("userID\titemID\n0\t1\n"),
        {"columns": {"time": "when"}},
        ["toy.inter line 1", "no column 'when'", "userID, itemID"],
    ),
    "wrong separator": (
        inter(text(ROWS)),
        {"separator": ","},
        ["toy.inter line 1", "only one column", "separator='\\t'"],
    ),
    "unknown separator": (inter("userID:itemID\n0:1\n"), {}, ["toy.inter line 1", "only one column", "'separator'"]),
    "two user columns": (
        inter("user\tuserID\titem\n0\t0\t0\n"),
        {},
        ["toy.inter line 1", "user and userID", "columns="],
    ),
    # Table: rows
    "text id": (inter("user,item\n0,1\n0,B002\n"), {}, ["toy.inter line 3", "'item'", "'B002'", "whole number"]),
    "decimal id": (inter("user,item\n0,1\n1.0,1\n"), {}, ["toy.inter line 3", "'user'", "'1.0'", "whole number"]),
    "negative id": (inter("user,item\n0,1\n0,2\n-1,0\n"), {}, ["toy.inter line 4", "'user'", "'-1'"]),
    "id beyond 32 bits": (inter(f"user,item\n0,{2**31}\n"), {}, ["toy.inter line 2", str(2**31), "0..2147483647"]),
    "id beyond 64 bits": (inter(f"user,item\n0,1\n{10**30},1\n"), {}, ["toy.inter line 3", str(10**30)]),
    "missing id": (inter("user,item\n0,1\n,1\n"), {}, ["toy.inter line 3", "'user'", "''"]),
    "short row": (inter("user,item\n0,1\n\n5\n"), {}, ["toy.inter line 4", "'item'", "''"]),
    "long row": (inter("user,item\n0,1\n0,1,2\n"), {}, ["toy.inter line 3", "3 fields", "2 columns"]),
    "all rows long": (inter("user,item\n0,1,2\n3,4,5\n"), {}, ["toy.inter", "more fields", "2 columns"]),
    "split 3": (inter(text([(0, 0, 0), (0, 1, 3)])), {}, ["toy.inter line 3", "'x_label'", "'3'", "2 (test)"]),
    "split text": (inter(text([(0, 0, "train")])), {}, ["toy.inter line 2", "'x_label'", "'train'"]),
    "split missing": (inter(text([(0, 0, 0), (0, 1, "")])), {}, ["toy.inter line 3", "'x_label'", "''"]),
    "no train rows": (inter(text([(0, 0, 1), (0, 1, 2)])), {}, ["toy.inter", "'x_label'", "no row as train"]),
    "rating nan": (
        inter("user,item,rating\n0,1,3\n0,2,nan\n"),
        {},
        ["toy.inter line 3", "'rating'", "'nan'", "finite"],
    ),
    "rating overflow": (inter("user,item,rating\n0,1,1e39\n"), {}, ["toy.inter line 2", "'rating'", "'1e39'"]),
    "rating text": (inter("user,item,rating\n0,1,good\n"), {}, ["toy.inter line 2", "'rating'", "'good'"]),
    "time missing": (inter("user,item,timestamp\n0,1,\n"), {}, ["toy.inter line 2", "'timestamp'", "''", "finite"]),
    "time infinite": (inter("user,item,time\n0,1,5\n0,2,inf\n"), {}, ["toy.inter line 3", "'time'", "'inf'"]),
    "item beyond features": (
        lambda root: write(root, text([(0, 0, 0), (0, 4, 0)]), image_feat=FEATURES),
        {},
        ["toy.inter line 3", "'itemID' has 4", "image_feat.npy", "0..3"],
    ),
    "item beyond graph": (
        lambda root: write(root, "user,item\n\n0,1\n\n0,9\n", image_knn2=NEIGHBORS),
        {},
        ["toy.inter line 5", "'item' has 9", "image_knn2.npz", "0..3"],
    ),
    # Features
    "object array": (features(np.array([[{}], [1]], dtype=object)), {}, ["image_feat.npy", "pickled"]),
    "pickle": (raw("image_feat.npy", lambda: pickle.dumps(FEATURES)), {}, ["image_feat.npy", "pickled"]),
    "pickled pt": (raw("image_feat.pt", torch_saved(FEATURES)), {}, ["image_feat.pt", "pickled"]),
    "one dimension": (features(FEATURES[:, 0]), {}, ["image_feat.npy", "[items, channels]", "[4]"]),
    "three dimensions": (features(FEATURES[None]), {}, ["image_feat.npy", "[1, 4, 2]"]),
    "no channels": (features(FEATURES[:, :0]), {}, ["image_feat.npy", "[4, 0]"]),
    "text features": (features(FEATURES.astype(str)), {}, ["image_feat.npy", "<U32", "float32"]),
    "complex features": (features(FEATURES * 1j), {}, ["image_feat.npy", "complex128"]),
    "nothing usable": (features(np.full((4, 2), np.nan)), {}, ["image_feat.npy", "no usable row", "4 rows with NaN"]),
    "rows differ": (
        features(FEATURES, text_feat=FEATURES[:3]),
        {},
        ["text_feat.npy has 3 rows", "image_feat.npy has 4"],
    ),
    "truncated npy": (raw("image_feat.npy", saved(np.save, FEATURES, keep=-8)), {}, ["image_feat.npy", "truncated"]),
    "empty npy": (raw("image_feat.npy", bytes), {}, ["image_feat.npy", "truncated"]),
    "truncated npz": (raw("image_feat.npz", saved(np.savez, FEATURES, keep=-30)), {}, ["image_feat.npz", "truncated"]),
    "damaged npz": (raw("image_feat.npz", damaged_zip), {}, ["image_feat.npz", "truncated or not a valid"]),
    "npz without arrays": (raw("image_feat.npz", zip_without_arrays), {}, ["image_feat.npz", "nothing"]),
    "npz with two arrays": (
        raw("image_feat.npz", saved(np.savez, a=FEATURES, b=FEATURES)),
        {},
        ["image_feat.npz", "'feat'", "a, b"],
    ),
    "truncated pt": (raw("image_feat.pt", torch_saved(torch.ones(4, 2), -50)), {}, ["image_feat.pt", "truncated"]),
    "pt with a list": (raw("image_feat.pt", torch_saved([1.0])), {}, ["image_feat.pt", "one dense tensor", "list"]),
    "pt with a sparse tensor": (
        raw("image_feat.pt", torch_saved(torch.eye(4).to_sparse())),
        {},
        ["image_feat.pt", "one dense tensor", "torch.sparse_coo"],
    ),
    # Graphs
    "graph not square": (graph(NEIGHBORS[:3]), {}, ["image_knn2.npz", "square", "[3, 4]"]),
    "graph of another size": (
        graph(NEIGHBORS[:3, :3], image_feat=FEATURES),
        {},
        ["image_knn2.npz has 3 rows", "image_feat.npy has 4"],
    ),
    "graph not CSR": (graph(NEIGHBORS.tocoo()), {}, ["image_knn2.npz", "CSR", "coo"]),
    "graph complex": (graph(NEIGHBORS * 1j), {}, ["image_knn2.npz", "complex128"]),
    "graph with NaN": (graph(nan_graph), {}, ["image_knn2.npz row 1", "nan"]),
    "graph out of range": (raw("image_knn2.npz", out_of_range_graph), {}, ["image_knn2.npz", "not a valid .npz"]),
    "graph truncated": (
        raw("image_knn2.npz", saved(sp.save_npz, NEIGHBORS, keep=300)),
        {},
        ["image_knn2.npz", "truncated"],
    ),
    "graph file of features": (raw("image_knn2.npz", saved(np.savez, FEATURES)), {}, ["image_knn2.npz", "not a valid"]),
    "graph of objects": (
        raw("image_knn2.npz", saved(np.savez, format=np.array([{}], dtype=object))),
        {},
        ["image_knn2.npz", "pickled"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_raises_one_line(tmp_path: Path, case: str) -> None:
    make, arguments, facts = BAD[case]
    root = tmp_path / "root"
    root.mkdir()
    make(root)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        MMRecDataset(root, "toy", **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500 + 2 * len(str(root))
    assert [fact for fact in facts if fact not in message] == [], message
    assert not list(root.rglob("processed"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/abs"])
def test_name_must_be_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"^'name' must be the name of a folder in 'root'"):
        MMRecDataset(tmp_path, name)


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; pass the folder that holds toy/toy.inter"):
        MMRecDataset(tmp_path / "nowhere", "toy")


@pytest.mark.parametrize("name", ["toy.inter", "image_feat.npy"])
def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    write(tmp_path, image_feat=FEATURES)
    really_open = Path.open

    def refuse(self: Path, *args: Any, **kwargs: Any) -> Any:
        if self.name == name:
            raise PermissionError(13, "Permission denied", str(self))
        return really_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=rf"{name} cannot be read \(Permission denied\)"):
        MMRecDataset(tmp_path, "toy")


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["npy", "npy pickle", "npz", "pt", "legacy pt", "knn"])
def test_code_in_files_is_never_run(tmp_path: Path, kind: str) -> None:
    folder, proof = write(tmp_path), tmp_path / "proof"
    bomb = np.array([[Payload(proof)]], dtype=object)
    if kind == "npy":
        np.save(folder / "image_feat.npy", bomb)
    elif kind == "npy pickle":
        (folder / "image_feat.npy").write_bytes(pickle.dumps(Payload(proof)))
    elif kind == "npz":
        np.savez(folder / "image_feat.npz", bomb)
    elif kind == "pt":
        torch.save(Payload(proof), folder / "image_feat.pt")
    elif kind == "legacy pt":
        torch.save(Payload(proof), folder / "image_feat.pt", _use_new_zipfile_serialization=False)
    else:
        np.savez(folder / "image_knn2.npz", format=bomb)
    with pytest.raises(ValueError, match="pickled Python objects are never loaded"):
        MMRecDataset(tmp_path, "toy")
    assert not proof.exists()
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.exists()  # the payload works


# The cache -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Collects the tables that are read."""
    seen: list[Path] = []

    def spy(path: Path, header: _inter.Header) -> dict[str, Any]:
        seen.append(path)
        return _inter.read_interactions(path, header)

    monkeypatch.setattr(mmrec, "read_interactions", spy)
    return seen


def same(a: HeteroData, b: HeteroData) -> bool:
    flat = [[(kind, key, value) for kind, store in d.to_dict().items() for key, value in store.items()] for d in (a, b)]
    return len(flat[0]) == len(flat[1]) and all(
        x[:2] == y[:2] and (torch.equal(x[2], y[2]) if isinstance(x[2], torch.Tensor) else x[2] == y[2])
        for x, y in zip(*flat, strict=True)
    )


def test_cache_is_used(tmp_path: Path, reads: list[Path]) -> None:
    folder = write(tmp_path, image_feat=FEATURES, image_knn2=NEIGHBORS)
    first = MMRecDataset(tmp_path, "toy")
    second = MMRecDataset(str(tmp_path), "toy", separator="\t", modalities=["image"])  # what was found anyway
    assert len(reads) == 1
    assert same(first[0], second[0])
    assert first.content_hash == second.content_hash
    assert [path.suffix for path in (folder / "processed").iterdir()] == [".pt"]
    assert MMRecDataset(tmp_path, "toy", force_reload=True)[0]["item"].num_nodes == 4
    assert len(reads) == 2


def test_cache_follows_content_and_options(tmp_path: Path, reads: list[Path]) -> None:
    folder = write(tmp_path, image_feat=FEATURES, image_knn2=NEIGHBORS, text_feat=FEATURES)
    hashes = {MMRecDataset(tmp_path, "toy").content_hash}
    assert MMRecDataset(tmp_path, "toy", neighbor_weights="stored").content_hash in hashes
    assert MMRecDataset(tmp_path, "toy", columns={"user": "itemID", "item": "userID"}, modalities=[])[0] is not None
    assert len(reads) == 3
    hashes.add(MMRecDataset(tmp_path, "toy", modalities=["image"]).content_hash)
    stat = (folder / "image_feat.npy").stat()
    np.save(folder / "image_feat.npy", FEATURES[::-1])
    os.utime(folder / "image_feat.npy", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time
    changed = MMRecDataset(tmp_path, "toy")
    assert changed[0]["item"].x_image.tolist() == FEATURES[::-1].tolist()
    hashes.add(changed.content_hash)
    write(tmp_path, text(ROWS[:-1]))
    hashes.add(MMRecDataset(tmp_path, "toy").content_hash)
    assert len(reads) == 6
    assert len(hashes) == 4
    assert all(len(digest) == 64 for digest in hashes)


def test_cache_follows_the_format_version(tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    MMRecDataset(tmp_path, "toy")
    monkeypatch.setattr(mmrec, "_FORMAT", mmrec._FORMAT + 1)
    MMRecDataset(tmp_path, "toy")
    assert len(reads) == 2


def test_content_hash_ignores_the_place(tmp_path: Path) -> None:
    write(tmp_path / "a", name="toy", image_feat=FEATURES)
    write(tmp_path / "b", name="renamed", image_feat=FEATURES)
    write(tmp_path / "c", name="toy", text_feat=FEATURES)
    a, b, c = (
        MMRecDataset(tmp_path / root, name).content_hash
        for root, name in (("a", "toy"), ("b", "renamed"), ("c", "toy"))
    )
    assert a == b != c


def test_cache_dir(tmp_path: Path, reads: list[Path]) -> None:
    folder = write(tmp_path / "data")
    for _ in range(2):
        dataset = MMRecDataset(tmp_path / "data", "toy", cache_dir=tmp_path / "deep" / "cache")
    assert dataset.processed_dir == str(tmp_path / "deep" / "cache")
    assert [path.name for path in folder.iterdir()] == ["toy.inter"]
    assert len(reads) == 1


def test_read_only_folder_is_left_alone(tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    folder = write(tmp_path / "data")
    folder.chmod(0o555)
    try:
        for _ in range(2):
            dataset = MMRecDataset(tmp_path / "data", "toy")
        assert [path.name for path in folder.iterdir()] == ["toy.inter"]
    finally:
        folder.chmod(0o755)
    assert Path(dataset.processed_dir).parent == tmp_path / "home" / ".cache" / "pyg_mmrec"
    assert len(reads) == 1


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match=r"cannot be written .* pass another 'cache_dir'") as record:
        dataset = MMRecDataset(tmp_path, "toy", cache_dir=tmp_path / "file")
    # Whatever else is collected meanwhile, such as another test's unclosed socket, may warn as well.
    ours = [warning for warning in record if "cannot be written" in str(warning.message)]
    assert len(ours) == 1
    assert ours[0].filename == __file__
    assert edges(dataset[0]) == [row[:2] for row in ROWS]


def test_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path)

    def stop(value: Any, file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(_cache.torch, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        MMRecDataset(tmp_path, "toy")
    assert list((folder / "processed").iterdir()) == []


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "payload", "other key"])
def test_unusable_cache_is_rebuilt(tmp_path: Path, reads: list[Path], damage: str) -> None:
    write(tmp_path)
    first = MMRecDataset(tmp_path, "toy")
    path, proof = Path(first.processed_paths[0]), tmp_path / "proof"
    if damage == "payload":
        torch.save(Payload(proof), path)
    elif damage == "other key":
        torch.save({**torch.load(path, weights_only=True), "key": "0" * 64}, path)
    else:
        path.write_bytes({"truncated": path.read_bytes()[:-100], "empty": b"", "text": b"hello"}[damage])
    with pytest.warns(UserWarning, match=r"is not a usable cache \(.+\); reading the files again") as record:
        second = MMRecDataset(tmp_path, "toy")
    assert record[0].filename == __file__
    assert len(reads) == 2
    assert same(first[0], second[0])
    assert not proof.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MMRecDataset(tmp_path, "toy")
    assert len(reads) == 2


def test_foreign_files_beside_the_cache_are_not_loaded(tmp_path: Path) -> None:
    folder, proof = write(tmp_path), tmp_path / "proof"
    (folder / "processed").mkdir()
    for name in ("pre_transform.pt", "pre_filter.pt", "data.pt"):
        torch.save(Payload(proof), folder / "processed" / name)
    MMRecDataset(tmp_path, "toy")
    assert not proof.exists()


# Helpers -------------------------------------------------------------------------------------------------------------


def test_line_number_skips_blank_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "toy.inter"
    path.write_text("\nuser\titem\n0\t1\n  \n\n\t\n2\t3\n")
    assert [_inter.line_number(path, row, "\t") for row in range(3)] == [3, 6, 7]


def test_one_line() -> None:
    assert one_line("  first\nsecond") == "first"
    assert one_line("x" * 10, 8) == "xxxxx..."


# Real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "num_users", "num_items", "splits", "modalities", "graphs"),
    [
        ("baby", 19445, 7050, [118551, 20559, 21682], {"image": 384, "text": 384}, ["image", "text"]),
        ("tiktok", 9308, 6710, [59541, 3051, 6130], {"audio": 128, "image": 128}, []),
        ("microlens50k", 50000, 17228, [256214, 49976, 49976], {"image": 128, "text": 384}, ["image", "text"]),
        ("office", 4905, 2420, [43448, 4905, 4905], {"text": 384}, []),
    ],
)
def test_real_data(
    data_root: Path,
    tmp_path: Path,
    name: str,
    num_users: int,
    num_items: int,
    splits: list[int],
    modalities: dict[str, int],
    graphs: list[str],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = MMRecDataset(data_root, name, cache_dir=tmp_path)
    data = dataset[0]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (num_users, num_items)
    assert torch.bincount(data[INTERACTS].split).tolist() == splits
    assert {key[2:]: x.size(1) for key, x in data["item"].items() if key.startswith("x_")} == modalities
    assert [kind[1] for kind in data.edge_types if kind != INTERACTS] == [f"similar_{m}" for m in graphs]
    for modality in graphs:
        store = data["item", f"similar_{modality}", "item"]
        assert torch.bincount(store.edge_index[1], minlength=num_items).unique().tolist() == [10]
        assert torch.equal(store.edge_weight, torch.full((10 * num_items,), 0.1))
