from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch_geometric.data import HeteroData

from pyg_mmrec.datasets import TableDataset, from_tables
from pyg_mmrec.datasets._events import read_events
from pyg_mmrec.datasets._numbering import Numbering, core
from pyg_mmrec.datasets._tables import Source, open_table
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import Ids

SALES = pd.DataFrame(
    {
        "customer_id": ["ann", "bob", "ann", "cat", "bob", "ann"],
        "Product ID": [501, 88, 88, 501, 13, 501],
        "rating": [5, 4, 3, 2, 5, 1],
        "timestamp": [30, 10, 20, 50, 40, 60],
        "split": ["train", "train", "test", "val", "train", "train"],
    }
)
ITEMS = pd.DataFrame(
    {
        "product_id": [88, 13, 501, 7],
        "title": ["red pen", None, 'ink, "blue"', "paper"],
        "description": ["writes", "none yet", None, None],
        "category": ["pens", None, "ink", "pens"],
        "attr_colour": ["red", "red", "blue", None],
        "x_text_0": [1.0, 0.5, np.nan, 2.0],
        "x_text_1": [0.0, 2.0, np.nan, 2.0],
        "x_text_10": [3.0, 1.0, np.nan, 2.0],
        "image": ["a.png", "broken.png", None, "c.png"],
    }
)


def pairs(data: HeteroData, ids: Ids) -> list[tuple[Any, Any]]:
    user, item = data[INTERACTS].edge_index
    return list(zip(ids.of("user", user), ids.of("item", item), strict=True))


def test_nodes_follow_the_tables_and_edges_the_rows() -> None:
    with pytest.warns(UserWarning, match="1 of 6 rows repeat"), pytest.warns(UserWarning, match="1 of 4 items have no"):
        data, ids = from_tables(SALES, ITEMS)
    assert ids == Ids(user=["ann", "bob", "cat"], item=[88, 13, 501, 7])
    assert pairs(data, ids) == [("ann", 501), ("bob", 88), ("ann", 88), ("cat", 501), ("bob", 13)]
    assert data[INTERACTS].rating.tolist() == [5, 4, 3, 2, 5]
    assert data[INTERACTS].time.tolist() == [30, 10, 20, 50, 40]
    assert data[INTERACTS].split.tolist() == [0, 0, 2, 1, 0]
    item = data["item"]
    assert item.x_text.tolist() == [[1, 0, 3], [0.5, 2, 1], [0, 0, 0], [2, 2, 2]]
    assert item.mask_text.tolist() == [True, True, False, True]
    assert item.category.tolist() == [0, -1, 1, 0]
    assert item.attr_colour.tolist() == [0, 0, 1, -1]
    assert item.names == {"category": ["pens", "ink"], "colour": ["red", "blue"]}
    assert item.text == ["red pen writes", "none yet", 'ink, "blue"', "paper"]
    assert item.image_path[2] == ""
    assert Path(item.image_path[0]).is_absolute()
    assert item.num_nodes == 4


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_files_hold_what_frames_hold(tmp_path: Path, suffix: str) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in ("sales", "items")]
    for path, frame in zip(paths, (SALES, ITEMS), strict=True):
        if suffix == ".parquet":
            pytest.importorskip("pyarrow")
            frame.to_parquet(path)
        else:
            frame.to_csv(path, sep="," if suffix == ".csv" else "\t", index=False)
    data, ids = from_tables(*paths)
    other, other_ids = from_tables(SALES, ITEMS)
    assert ids == other_ids
    for key in ("x_text", "mask_text", "category", "attr_colour"):
        assert torch.equal(data["item"][key], other["item"][key])
    assert data["item"].text == other["item"].text
    for key, value in other[INTERACTS].items():
        assert torch.equal(data[INTERACTS][key], value)


def test_ids_of_csv_files_are_numbers_where_all_are(tmp_path: Path) -> None:
    path = tmp_path / "sales.csv"
    path.write_text("user,item\n007,1\n3,-2\n")
    ids = from_tables(path)[1]
    assert ids == Ids(user=["007", "3"], item=[1, -2])
    path.write_text("user,item\nNA,1\nnan,x\n")
    assert from_tables(path)[1] == Ids(user=["NA", "nan"], item=["1", "x"])


def test_ids_are_the_same_in_tables_of_different_types() -> None:
    sales = pd.DataFrame({"user": [1, 2], "item": [5, 6]})
    ids = from_tables(sales, pd.DataFrame({"item": ["6", "5"]}))[1]
    assert ids == Ids(user=[1, 2], item=["6", "5"])  # a text in a table that knows texts from numbers stays one
    categories = pd.DataFrame({"user": pd.Categorical(["b", "a"]), "item": [1.0, 2.0]})
    assert from_tables(categories)[1] == Ids(user=["b", "a"], item=[1, 2])


@pytest.mark.parametrize("size", [13, 64, 10_000])
def test_any_chunks_give_the_same(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": rng.integers(0, 30, 200), "item": [f"i{n}" for n in rng.integers(0, 20, 200)]})
    frame["time"] = rng.integers(0, 9, 200) + (np.arange(200) > 150) * 0.5  # whole numbers, then decimals
    frame["rating"] = rng.integers(1, 6, 200)
    path = tmp_path / "sales.csv"
    frame.to_csv(path, index=False)
    with pytest.warns(UserWarning, match="repeat a user-item pair"):
        whole, ids = from_tables(frame, min_rating=3, min_interactions=3)
    for table in (path, frame):
        with pytest.warns(UserWarning, match="repeat a user-item pair"):
            data, found = from_tables(table, min_rating=3, min_interactions=3, chunk_size=size)
        assert found == ids
        for key, value in whole[INTERACTS].items():
            assert torch.equal(data[INTERACTS][key], value)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_no_more_rows_than_a_chunk_are_in_memory(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"user": np.arange(1000) % 7, "item": np.arange(1000)})
    path = tmp_path / f"sales{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    sizes: list[int] = []
    chunks = Source.chunks

    def counted(self: Source, *args: Any) -> Any:
        for chunk in chunks(self, *args):
            sizes.append(len(chunk))
            yield chunk

    monkeypatch.setattr(Source, "chunks", counted)
    source = open_table("interactions", path)
    columns = {"user": "user", "item": "item"}
    table, _ = read_events(source, columns, Numbering("user"), Numbering("item"), chunk_size=64)
    assert len(table["user"]) == sum(sizes) == 1000
    assert max(sizes) <= 64


def test_the_core_is_iterated_and_leaves_out_what_is_in_no_interaction() -> None:
    frame = pd.DataFrame({"user": [0, 0, 1, 1, 2, 2], "item": [0, 1, 0, 1, 1, 2]})
    data, ids = from_tables(frame, pd.DataFrame({"item": [9, 2, 1, 0]}), min_interactions=2)
    assert ids == Ids(user=[0, 1], item=[1, 0])
    assert sorted(pairs(data, ids)) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    kept = core(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 1, 2]), (3, 3), 2)
    assert kept.tolist() == [True] * 4 + [False] * 2
    with pytest.raises(ValueError, match="no interaction is left of users and items with 'min_interactions' 4"):
        from_tables(frame, min_interactions=4)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_low_ratings_make_no_nodes() -> None:
    data, ids = from_tables(SALES, min_rating=3)
    assert ids == Ids(user=["ann", "bob"], item=[501, 88, 13])
    assert data[INTERACTS].rating.min() == 3


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_grown_catalogue_keeps_its_nodes() -> None:
    _, ids = from_tables(SALES, ITEMS)
    grown = pd.concat([ITEMS.iloc[[3, 0]], pd.DataFrame({"product_id": [9], "category": ["glue"]}), ITEMS.iloc[1:3]])
    more = pd.concat([SALES, pd.DataFrame({"customer_id": ["new", "ann"], "Product ID": [88, 9], "split": "train"})])
    more = more.drop(columns=["rating", "timestamp"])
    unsold = pd.concat([grown, pd.DataFrame({"product_id": [10]})])
    assert from_tables(more, unsold, ids=ids)[1].sizes() == (3, 6)
    data, found = from_tables(more, unsold, ids=ids, min_interactions=1)
    assert found == Ids(user=["ann", "bob", "cat"], item=[88, 13, 501, 7, 9])  # 7 was known, 10 was not
    data, found = from_tables(more, grown, ids=ids)
    assert found == Ids(user=["ann", "bob", "cat"], item=[88, 13, 501, 7, 9])
    assert ("ann", 9) in pairs(data, found)
    assert data["item"].names["category"] == ["pens", "ink", "glue"]
    texts = pd.DataFrame({"product_id": ["x1"]})
    with pytest.raises(ValueError, match=r"'ids' has whole numbers as ids of items but the tables have 'x1'"):
        from_tables(SALES, texts, ids=ids)


def test_columns_are_named_where_they_cannot_be_found() -> None:
    sales = pd.DataFrame({"who": [1, 2], "what": [3, 4], "when": ["2024-05-31", "2024-06-01T00:00:01"]})
    items = pd.DataFrame({"what": [3, 4], "brand": ["a", "b"], "name": ["c", "d"], "kind": ["e", "e"]})
    columns = {"user": "who", "item": "what", "time": "when", "text": ["brand", "name"], "category": "kind"}
    data, _ = from_tables(sales, items, columns=columns, attributes=["brand"])
    assert data["item"].text == ["a c", "b d"]
    assert data["item"].category.tolist() == [0, 0]
    assert data["item"].attr_brand.tolist() == [0, 1]
    assert data[INTERACTS].time.diff().item() == 86_401
    renamed = items.rename(columns={"what": "item_id"})  # this table has a usual name
    assert from_tables(sales, renamed, columns=columns)[0]["item"].text == ["a c", "b d"]


def test_features_come_from_columns_lists_files_and_arrays(tmp_path: Path) -> None:
    sales = pd.DataFrame({"user": [1, 1], "item": ["b", "a"]})
    x = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    items = pd.DataFrame(
        {"item": ["a", "b"], "f1": x[:, 1], "f0": x[:, 0], "lists": list(x), "texts": ["[1, 2]", "3 4"]}
    )
    np.save(tmp_path / "x.npy", x)
    features: dict[str, Any] = {
        **{"prefix": "f", "columns": ["f0", "f1"], "lists": "lists", "texts": "texts"},
        **{"file": str(tmp_path / "x.npy"), "path": tmp_path / "x.npy", "array": x, "tensor": torch.from_numpy(x)},
    }
    data, _ = from_tables(sales, items, features=features)
    for name in features:
        assert torch.equal(data["item"][f"x_{name}"], torch.from_numpy(x)), name
    users = pd.DataFrame({"user": [1], "x_age": [[0.5]]})
    assert from_tables(sales, users=users)[0]["user"].x_age.tolist() == [[0.5]]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_texts_become_tokens() -> None:
    data, _ = from_tables(SALES, ITEMS, words={"min_count": 1})
    assert data["word"].text[0] == ""
    assert data["item"].tokens.shape[0] == 4


def test_images_are_read_and_broken_ones_counted(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for name, colour in (("a.png", (255, 0, 0)), ("c.png", (0, 0, 255))):
        image.new("RGB", (20, 10), colour).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no image")
    items = ITEMS.drop(columns=[name for name in ITEMS if name.startswith("x_")])
    with pytest.warns(UserWarning, match=r"2 items have no image, 1 of them with a file that is missing or broken"):
        data, _ = from_tables(SALES.drop(index=5), items, image_size=8, image_root=tmp_path)
    assert data["item"].image.shape == (4, 3, 8, 8)
    assert data["item"].image[0, :, 0, 0].tolist() == [255, 0, 0]
    assert data["item"].mask_image.tolist() == [True, False, False, True]
    with pytest.raises(ValueError, match=r"no image can be read.*check 'image_root'"):
        from_tables(SALES.drop(index=5), items, image_size=8, image_root=tmp_path / "elsewhere")


def test_items_without_a_row_are_counted() -> None:
    with pytest.warns(UserWarning, match=r"2 items are not in 'items'; they have no content"):
        data, ids = from_tables(SALES.drop(index=5), pd.DataFrame({"item": [88], "x_text": [[1.0, 2.0]]}))
    assert data["item"].mask_text.tolist() == [True, False, False]
    assert ids.sizes() == (3, 3)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"interactions": 3}, "'interactions' must be a DataFrame or the path of a table"),
    ({"interactions": SALES[["rating"]]}, r"'interactions' has no user column but rating; name it: columns=\{'user': "),
    ({"interactions": SALES.assign(userId=1)}, "customer_id and userId can both be the user column; name one"),
    ({"interactions": SALES.iloc[:0]}, "'interactions' has no rows"),
    ({"interactions": SALES.assign(customer_id=["a", None] * 3)}, "column 'customer_id' row 2 has no id"),
    ({"interactions": SALES.assign(customer_id=["a", ""] * 3)}, "column 'customer_id' row 2 has no id"),
    ({"interactions": SALES.assign(customer_id=[1, 2.5] * 3)}, "column 'customer_id' row 2 has the id 2.5"),
    (
        {"interactions": SALES.assign(rating=[1, None] * 3)},
        "column 'rating' row 2 has nothing but must be a finite num",
    ),
    ({"interactions": SALES.assign(rating=["1", "good"] * 3)}, "column 'rating' row 2 has 'good' but must be a finite"),
    ({"interactions": SALES.assign(timestamp=["2024-01-01", "soon"] * 3)}, "row 2 has 'soon' but must be a number or"),
    ({"interactions": SALES.assign(split=[0, 3] * 3)}, "column 'split' row 2 has 3 but must be 0, 1, 2, train, val or"),
    ({"interactions": SALES.assign(split="test")}, "no row is marked as train"),
    ({"min_rating": 9}, "none of its 6 rows has a known user and a rating of 9 or more"),
    ({"interactions": SALES.drop(columns="rating"), "min_rating": 3}, "'min_rating' needs ratings but 'interactions'"),
    ({"min_interactions": -1}, "'min_interactions' must not be negative"),
    ({"chunk_size": 0}, "'chunk_size' must be positive"),
    ({"ids": {}}, "'ids' must be the Ids of a model"),
    ({"columns": {"usr": "x"}}, "'columns' has the unknown key 'usr'.*did you mean user"),
    ({"columns": {"user": "custmer_id"}}, "no column 'custmer_id'.*did you mean customer_id"),
    ({"columns": "user"}, "'columns' must be a dictionary"),
    ({"items": None, "features": {"image": "x"}}, "'features' reads columns of items: pass their table as 'items'"),
    ({"features": {"image": "img_"}}, r"'items' has no column 'img_' and none img_0, img_1, \.\.\."),
    ({"features": {"image": 3}}, "'features' must give 'image' a prefix of columns"),
    ({"features": {"image": np.ones((2, 3))}}, "must have a row for each of the 4 rows of 'items'"),
    ({"features": {"image": "title"}}, "column 'title' row 1 has 'red pen' but must be a list of numbers"),
    ({"features": {"image": ["x_text_0", "title"]}}, "column 'title' row 1 has 'red pen' but must be a number"),
    ({"items": ITEMS.assign(product_id=[1, 2, 2, 3])}, "column 'product_id' row 3 has 2 again"),
    ({"items": ITEMS.assign(product_id=[1, 2, None, 3])}, "column 'product_id' row 3 has no id"),
    ({"attributes": ["brand"]}, "'items' has no column 'brand', as 'attributes' says"),
    ({"words": {"mincount": 2}}, "'words' has the unknown key 'mincount'.*did you mean min_count"),
    ({"image_size": 0}, "'image_size' must be positive"),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_tables_are_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        from_tables(**{"interactions": SALES, "items": ITEMS, **arguments})
    assert "\n" not in str(error.value)


def test_bad_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'interactions': there is no file"):
        from_tables(tmp_path / "none.csv")
    path = tmp_path / "sales.csv"
    for content, message in (
        (b"", "has no header line that can be read"),
        (b"user,item\n1,2\n3,4,5\n", "has rows with more fields|line 3 has 3 fields"),
        (b"user,item\n1,\xff\n", "UTF-8"),
        (b"user,item\n", "has no rows"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            from_tables(path)
    pytest.importorskip("pyarrow")
    path = tmp_path / "sales.parquet"
    path.write_bytes(b"none")
    with pytest.raises(ValueError, match="no valid Parquet file"):
        from_tables(path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sales.parquet"
    path.touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'pyg-mmrec\[tables\]'"):
        from_tables(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "sales.csv", tmp_path / "items.csv"
    SALES.drop(index=5).to_csv(paths[0], index=False)
    ITEMS.to_csv(paths[1], index=False)
    return paths


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_data_set_of_tables_is_cached_with_its_ids(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    first = TableDataset(*files)
    monkeypatch.setattr("pyg_mmrec.datasets.table_dataset.read_tables", None)  # not called again
    again = TableDataset(*files)
    assert again.ids == first.ids == Ids(user=["ann", "bob", "cat"], item=[88, 13, 501, 7])
    assert again[0]["item"].text == first[0]["item"].text
    assert again[0]["item"].names == first[0]["item"].names
    assert repr(again) == "TableDataset('sales.csv', num_users=3, num_items=4, num_interactions=5, modalities=['text'])"
    assert first.raw_file_names == ["sales.csv", "items.csv"]
    monkeypatch.undo()
    files[0].write_text("user,item\nx,88\n")
    assert TableDataset(*files).ids.of("user", [0]) == ["x"]
    with pytest.raises(ValueError, match="'interactions' must be a path"):
        TableDataset(SALES)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_changed_image_is_read_again(files: tuple[Path, Path]) -> None:
    image = pytest.importorskip("PIL.Image")
    folder = files[0].parent
    image.new("RGB", (4, 4), (9, 9, 9)).save(folder / "a.png")
    assert TableDataset(*files, image_size=4)[0]["item"].image[0].max() == 9
    image.new("RGB", (4, 4), (7, 7, 7)).save(folder / "a.png")
    assert TableDataset(*files, image_size=4)[0]["item"].image[0].max() == 7
