from __future__ import annotations

import gzip
import hashlib
import json
import os
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pyg_mmrec.cli import main
from pyg_mmrec.datasets import AmazonReviews, _amazon, amazon_reviews
from pyg_mmrec.datasets._amazon import read_image_features
from pyg_mmrec.datasets._amazon_files import PUBLISHED
from pyg_mmrec.datasets._numbering import core
from pyg_mmrec.features import TextEncoder
from pyg_mmrec.models import VBPR
from pyg_mmrec.transforms import ImputeFeatures, LeaveLastOut, ModalKNNGraph, RandomSplit, WordTokens
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import Ids
from tests.datasets.file_server import Server

NUM_USERS, NUM_ITEMS = 8, 7
USERS = [f"A{user}Z" for user in range(NUM_USERS)]
ITEMS = [f"{item:010d}" if item % 2 else f"B00{item:07d}" for item in range(NUM_ITEMS)]


def review(user: str, item: str, time: int = 0, rating: float = 5.0) -> dict[str, Any]:
    return {
        "reviewerID": user,
        "asin": item,
        "reviewerName": 'Ann "A." \u00e9',
        "helpful": [2, 3],
        "reviewText": "It's {'good'}",
        "overall": rating,
        "unixReviewTime": 1388275200 + 86400 * time,
        "reviewTime": "12 29, 2013",
    }


#: Every user with every item: a 7-core.
REVIEWS = [review(user, item, time=n, rating=n % 5 + 1.0) for item in ITEMS for n, user in enumerate(USERS)]
META: list[dict[str, Any]] = [
    {
        "asin": item,
        "title": f"Pen's {n}",
        "price": 9.99,
        "related": {"also_bought": ITEMS[:2]},
        "brand": "Ghost",
        "categories": [["Office", "Pens & Refills"], ["Home"]] if n % 2 else [["Office", "Ink"]],
        "salesRank": {"Office &amp; more": 3},
        "description": 'Says "write"\n and\twrites',
    }
    for n, item in enumerate(ITEMS)
]
FEATURES = np.random.default_rng(0).normal(size=(NUM_ITEMS, 4096)).astype("<f4")


def write_lines(path: Path, lines: Iterable[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    return path


def product(asin: str, features: np.ndarray) -> bytes:
    return asin.encode().ljust(10, b"\0") + features.astype("<f4").tobytes()


def write_raw(
    root: Path,
    reviews: list[dict[str, Any]] = REVIEWS,
    meta: list[dict[str, Any]] = META,
    name: str = "Toy",
    full: bool = False,
) -> Path:
    """The raw files of a category: reviews as JSON, metadata as Python literals, image features with a stranger."""
    raw = root / "raw"
    write_lines(raw / f"reviews_{name}{'' if full else '_5'}.json.gz", map(json.dumps, reviews))
    write_lines(raw / f"meta_{name}.json.gz", map(repr, [{"asin": "B999999999", "title": "other"}, *meta]))
    products = [product(item, x) for item, x in zip(ITEMS, FEATURES, strict=True)]
    (raw / f"image_features_{name}.b").write_bytes(product("B999999999", FEATURES[0]) + b"".join(products[::-1]))
    return raw


def open_local(root: Path, **arguments: Any) -> AmazonReviews:
    return AmazonReviews(root, "Toy", **({"url": None} | arguments))


class Lengths(TextEncoder):
    """The length of a text and a one."""

    def __init__(self, modality: str = "text") -> None:
        self.modality = modality

    def encode(self, contents: Sequence[str]) -> tuple[Tensor, Tensor]:
        x = torch.tensor([[len(text), float(bool(text))] for text in contents])
        return x, x[:, 1] > 0

    @property
    def provenance(self) -> dict[str, Any]:
        return {"model": "lengths"}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of reviews that were read."""
    found: list[Path] = []
    really = amazon_reviews.read_reviews
    monkeypatch.setattr(amazon_reviews, "read_reviews", lambda path: found.append(path) or really(path))
    return found


def test_reads_everything(tmp_path: Path) -> None:
    write_raw(tmp_path)
    dataset = open_local(tmp_path)
    assert repr(dataset) == "AmazonReviews('Toy', num_users=8, num_items=7, num_interactions=56, modalities=['image'])"
    data = dataset[0]
    assert dataset.ids == Ids(user=USERS, item=ITEMS)
    user, item = data[INTERACTS].edge_index
    assert list(zip(dataset.ids.of("user", user), dataset.ids.of("item", item), strict=True)) == [
        (entry["reviewerID"], entry["asin"]) for entry in REVIEWS
    ]
    assert data[INTERACTS].rating.tolist() == [entry["overall"] for entry in REVIEWS]
    assert data[INTERACTS].rating.dtype == torch.float32
    assert data[INTERACTS].time.tolist() == [entry["unixReviewTime"] for entry in REVIEWS]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (NUM_USERS, NUM_ITEMS)
    assert np.array_equal(data["item"].x_image, FEATURES)
    assert "mask_image" not in data["item"]
    assert data["item"].text[0] == 'Pen\'s 0 Ghost Office Ink Says "write" and writes'
    assert data["item"].text[1] == 'Pen\'s 1 Ghost Office Pens & Refills Home Says "write" and writes'
    assert data["item"].category.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert data["item"].names == {"category": ["Office > Ink", "Office > Pens & Refills"]}
    assert "x_text" not in data["item"]
    assert dataset.text(0) == data["item"].text[0]


def test_pyg_names(tmp_path: Path) -> None:
    raw = write_raw(tmp_path)
    dataset = open_local(tmp_path)
    assert dataset.raw_dir == str(raw)
    assert dataset.raw_file_names == ["reviews_Toy_5.json.gz", "meta_Toy.json.gz", "image_features_Toy.b"]
    assert all(Path(path).is_file() for path in [*dataset.raw_paths, *dataset.processed_paths])
    assert Path(dataset.processed_dir) == tmp_path / "processed"
    assert dataset.processed_file_names[0].startswith("Toy-")


def test_the_graph_trains_and_splits(tmp_path: Path) -> None:
    write_raw(tmp_path)
    data = open_local(tmp_path, text_encoder=Lengths(), pre_transform=ModalKNNGraph(k=2))[0]
    assert data["item", "similar_text", "item"].edge_index.size(1) == 2 * NUM_ITEMS
    for split in (RandomSplit(), LeaveLastOut()):
        train_data, _, test_data = split(data)
        assert test_data[INTERACTS].edge_label_index.size(1) == NUM_USERS
    model = VBPR.from_data(train_data)
    scores, _ = model.recommend(train_data, torch.arange(NUM_USERS), k=2)
    assert scores.isfinite().all()
    assert "writes" in WordTokens(data["item"].text, min_count=1)(train_data)["word"].text


def test_a_5_core_file_and_all_reviews_give_the_same_core(tmp_path: Path) -> None:
    strangers = [review("A1Z", "B555555555"), review("NEW", ITEMS[0]), review("NEW", "B555555555")]
    raw = write_raw(tmp_path, [*strangers, *REVIEWS], full=True)
    write_raw(tmp_path)
    published, ours = open_local(tmp_path), open_local(tmp_path, full=True)
    assert ours.raw_file_names[0] == "reviews_Toy.json.gz"
    assert ours.ids == published.ids
    assert torch.equal(ours[0][INTERACTS].edge_index, published[0][INTERACTS].edge_index)
    assert torch.equal(ours[0]["item"].x_image, published[0]["item"].x_image)
    os.remove(raw / "meta_Toy.json.gz")
    every = open_local(tmp_path, full=True, min_interactions=0, modalities=[])
    assert (every[0]["user"].num_nodes, every[0]["item"].num_nodes) == (NUM_USERS + 1, NUM_ITEMS + 1)
    assert open_local(tmp_path, min_interactions=7, modalities=[])[0]["item"].num_nodes == NUM_ITEMS
    with pytest.raises(ValueError, match=r"reviews_Toy_5.json.gz: no review is left .* 'min_interactions' 8; lower it"):
        open_local(tmp_path, min_interactions=8, modalities=[])


def test_a_5_core_file_that_is_none_is_counted(tmp_path: Path) -> None:
    write_raw(tmp_path, [review("NEW", ITEMS[0]), *REVIEWS])
    with pytest.warns(UserWarning, match=r"reviews_Toy_5.json.gz: 1 reviews are not of its 5-core and are left out"):
        assert open_local(tmp_path)[0][INTERACTS].edge_index.size(1) == len(REVIEWS)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60), st.integers(0, 4))
def test_the_core_against_a_loop(pairs: list[tuple[int, int]], k: int) -> None:
    left = list(pairs)
    while True:
        users, items = Counter(user for user, _ in left), Counter(item for _, item in left)
        kept = [(user, item) for user, item in left if users[user] >= k and items[item] >= k]
        if kept == left:
            break
        left = kept
    user, item = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    mask = core(user, item, (7, 7), k)
    assert [pair for pair, stays in zip(pairs, mask, strict=True) if stays] == left


def test_repeated_pairs_keep_the_first_and_count_once(tmp_path: Path) -> None:
    """Five reviews of one item are no five interactions."""
    once = [review("ONE", ITEMS[0], time=n) for n in range(5)]
    again = review(USERS[0], ITEMS[0], time=99, rating=1.0)
    write_raw(tmp_path, [*once, *REVIEWS, again], full=True)
    with pytest.warns(UserWarning, match=r"reviews_Toy.json.gz: 5 of 62 reviews repeat a user-item pair and are drop"):
        dataset = open_local(tmp_path, full=True)
    assert dataset.ids.sizes() == (NUM_USERS, NUM_ITEMS)
    assert dataset[0][INTERACTS].rating[0] == 1
    assert dataset[0][INTERACTS].time[0] == 1388275200


def test_nodes_are_numbered_as_they_come_in_the_core(tmp_path: Path) -> None:
    first = [review(USERS[7], "B555555555"), review("NEW", ITEMS[3])]
    write_raw(tmp_path, [*first, *REVIEWS], full=True)
    assert open_local(tmp_path, full=True).ids == Ids(user=USERS, item=ITEMS)


def test_missing_modalities_are_masked_and_counted(tmp_path: Path) -> None:
    empty = {"asin": ITEMS[1], "price": 3, "title": None, "categories": []}
    raw = write_raw(tmp_path, meta=[*META[2:], empty])
    broken = FEATURES[3].copy()
    broken[7] = np.nan
    parts = [product(ITEMS[2], FEATURES[2]), product(ITEMS[3], broken), product(ITEMS[4], 0 * broken)]
    (raw / "image_features_Toy.b").write_bytes(b"".join(parts))
    with (
        pytest.warns(UserWarning, match="meta_Toy.json.gz: 2 of 7 items have no text, 1 of them no line"),
        pytest.warns(UserWarning, match="Toy.b: 6 of 7 items have no image features, 2 of them with features of zeros"),
        pytest.warns(UserWarning, match="meta_Toy.json.gz: 2 items have no text, and are marked as missing"),
    ):
        dataset = open_local(tmp_path, text_encoder=Lengths())
    item = dataset[0]["item"]
    assert item.mask_image.tolist() == [False, False, True, False, False, False, False]
    assert item.x_image.isfinite().all()
    assert (item.x_image != 0).any(1).tolist() == item.mask_image.tolist()
    assert item.mask_text.tolist() == [False, False, True, True, True, True, True]
    assert item.x_text[:3].tolist() == [[0, 0], [0, 0], [len(item.text[2]), 1]]
    assert item.text[:2] == ["", ""]
    assert item.category[:2].tolist() == [-1, -1]
    assert [dataset.text(node) for node in (0, 2)] == [ITEMS[0], item.text[2]]
    filled = ImputeFeatures("mean")(dataset[0])["item"]  # as the published features are
    assert torch.equal(filled.x_image[0], item.x_image[2])


def test_only_files_of_the_modalities_are_needed(tmp_path: Path) -> None:
    raw = write_raw(tmp_path)
    (raw / "meta_Toy.json.gz").unlink()
    item = open_local(tmp_path, modalities=["image"])[0]["item"]
    assert "x_image" in item
    assert "text" not in item
    (raw / "image_features_Toy.b").unlink()
    dataset = open_local(tmp_path, modalities=[])
    assert dataset.text(1) == ITEMS[1]
    with pytest.raises(FileNotFoundError, match=r"no file .*meta_Toy.json.gz: lay it there, or give 'url' to download"):
        open_local(tmp_path, modalities=["text"])


def test_texts_are_encoded(tmp_path: Path, reads: list[Path]) -> None:
    write_raw(tmp_path)
    for _ in range(2):
        item = open_local(tmp_path, text_encoder=Lengths())[0]["item"]
        assert item.x_text.tolist() == [[len(text), 1] for text in item.text]
        assert item.provenance == {"text": {"model": "lengths"}}
        assert "mask_text" not in item
    assert "x_text" not in open_local(tmp_path)[0]["item"]
    assert len(reads) == 1


def test_encoders_are_checked(tmp_path: Path) -> None:
    write_raw(tmp_path)
    with pytest.raises(ValueError, match="'text_encoder' needs texts: add 'text' to 'modalities'"):
        open_local(tmp_path, text_encoder=Lengths(), modalities=["image"])
    with pytest.raises(ValueError, match="'text_encoder' writes x_image, which the files give too"):
        open_local(tmp_path, text_encoder=Lengths("image"))
    with pytest.raises(FileNotFoundError, match="no/such/model"):
        open_local(tmp_path, text_encoder="./no/such/model")


def test_lines_may_be_json_or_python_and_blank_ones_are_none(tmp_path: Path) -> None:
    raw = write_raw(tmp_path)
    lines = [
        line for n, entry in enumerate(REVIEWS) for line in ("", repr(entry) if n % 2 else json.dumps(entry), "  ")
    ]
    write_lines(raw / "reviews_Toy_5.json.gz", lines)
    write_lines(raw / "meta_Toy.json.gz", ['{"title": "Caf\\u00e9 \\ud800", "asin": "%s"}' % ITEMS[0]])  # noqa: UP031
    with pytest.warns(UserWarning, match="6 of 7 items have no text, 6 of them no line"):
        data = open_local(tmp_path)[0]
    assert data[INTERACTS].edge_index.size(1) == len(REVIEWS)
    assert data["item"].text[0] == "Café ?"


def replace(file: str, line: str, number: int = 3) -> Callable[[Path], None]:
    def change(raw: Path) -> None:
        path = raw / f"{file}.json.gz"
        lines = gzip.open(path, "rt").read().splitlines()
        lines[number - 1] = line
        write_lines(path, lines)

    return change


def cut(file: str, size: int) -> Callable[[Path], None]:
    return lambda raw: (raw / file).write_bytes((raw / file).read_bytes()[:-size])  # type: ignore[return-value]


def fill(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda raw: (raw / file).write_bytes(content)  # type: ignore[return-value]


def changed(**fields: Any) -> str:
    return json.dumps(REVIEWS[0] | fields)


R, M, B = "reviews_Toy_5", "meta_Toy", "image_features_Toy.b"
META_LINE = json.dumps(META[1])
BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no dictionary": (replace(R, "[1, 2]"), r"5.json.gz line 3: it must be a review as a dictionary \(got '\[1, 2\]"),
    "cut line": (replace(R, changed()[:50]), r"line 3: it must be a review as a dictionary \(got '\{\"reviewerID"),
    "code": (replace(R, "__import__('os').abort()"), "line 3: it must be a review as a dictionary"),
    "nested": (replace(R, "[" * 100_000), "line 3: it must be a review as a dictionary"),
    "calls": (replace(R, "'a'" + "()" * 200_000), "line 3: it must be a review as a dictionary"),
    "formatted": (replace(R, "{'a': f'{" + "1+" * 200_000 + "1}'}"), "line 3: it must be a review as a dictionary"),
    "open": (replace(R, "'" + "\\'" * 200_000), "line 3: it must be a review as a dictionary"),
    "no text": (replace(R, "\x00"), "line 3: it must be a review as a dictionary"),
    "no user": (replace(R, json.dumps({"asin": "B000000000"})), r"line 3: 'reviewerID' must be an id \(got None\)"),
    "number as id": (replace(R, changed(asin=31852)), r"line 3: 'asin' must be an id \(got 31852\)"),
    "empty id": (replace(R, changed(reviewerID="")), r"line 3: 'reviewerID' must be an id \(got ''\)"),
    "half a character": (replace(R, changed(reviewerID="\ud800")), "line 3: 'reviewerID' must be an id"),
    "text as rating": (replace(R, changed(overall="5")), r"line 3: 'overall' must be a finite number \(got '5'\)"),
    "NaN": (replace(R, changed(overall=float("nan"))), r"line 3: 'overall' must be a finite number \(got nan\)"),
    "bool": (replace(R, changed(overall=True)), r"line 3: 'overall' must be a finite number \(got True\)"),
    "huge rating": (replace(R, changed(overall=1e300)), "line 3: 'overall' must be a finite number"),
    "date": (replace(R, changed(unixReviewTime="12 29, 2013")), r"line 3: 'unixReviewTime' must be whole seconds"),
    "huge time": (replace(R, changed(unixReviewTime=2**70)), r"line 3: 'unixReviewTime' must be whole seconds"),
    "long line": (replace(R, " " * 2**21), "line 3: it is longer than 2097152 bytes"),
    "cut gzip": (
        cut(f"{R}.json.gz", 9),
        r"5.json.gz is truncated or no gzip file \(Comp.*\); delete it, so that it is down",
    ),
    "web page": (fill(f"{R}.json.gz", b"<html>"), r"5.json.gz is truncated or no gzip file \(Not a gzipped file"),
    "broken gzip": (fill(f"{R}.json.gz", gzip.compress(b"{}")[:10] + b"\xff" * 40), "is truncated or no gzip file"),
    "empty": (fill(f"{R}.json.gz", gzip.compress(b"\n")), "5.json.gz has no reviews"),
    "malformed item": (replace(M, META_LINE[:-9]), "meta_Toy.json.gz line 3: it must be a product as a dictionary"),
    "no asin": (replace(M, "{'title': 'x'}"), r"meta_Toy.json.gz line 3: 'asin' must be an id \(got None\)"),
    "title": (replace(M, repr(META[1] | {"title": 3})), r"meta_Toy.json.gz line 3: 'title' must be texts \(got 3\)"),
    "categories": (replace(M, repr(META[1] | {"categories": [["a", 3]]})), r"line 3: 'categories' must be texts"),
    "cut metadata": (cut(f"{M}.json.gz", 9), "meta_Toy.json.gz is truncated or no gzip file"),
    "other metadata": (fill(f"{M}.json.gz", gzip.compress(b"{'asin': 'B1'}")), "meta_Toy.json.gz has none of the 7 it"),
    "cut features": (
        cut(B, 5),
        "image_features_Toy.b is truncated: 131147 bytes are no multiple of the 16394 of a pro",
    ),
    "other features": (
        fill(B, product("B1", FEATURES[0])),
        r"Toy.b has features of none of the 7 items, .* 0 only zeros, NaN or infinity; check that",
    ),
    "no features": (fill(B, b""), "image_features_Toy.b has features of none of the 7 items"),
    "zeros": (
        fill(B, product(ITEMS[0], 0 * FEATURES[0])),
        "Toy.b has features of none of the 7 items, and of 1 only zeros",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    change, message = BAD[case]
    change(write_raw(tmp_path))
    with pytest.raises(ValueError, match=message) as caught:
        open_local(tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "processed").glob("*.pt"))


def test_lines_of_other_items_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path)
    lines = ["{'asin': 'B777777777', 'title': 'cut off", *map(repr, META)]
    write_lines(raw / "meta_Toy.json.gz", lines)
    parsed = []
    really = _amazon._parse
    monkeypatch.setattr(_amazon, "_parse", lambda *args: parsed.append(args[1]) or really(*args))
    assert open_local(tmp_path, modalities=["text"])[0]["item"].text[0]
    assert parsed[-NUM_ITEMS:] == list(range(2, NUM_ITEMS + 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "../Toy"}, "'name' must be a category as its files spell it, such as 'Baby'"),
        ({"min_interactions": 3}, "'min_interactions' 3 needs all reviews: .*; pass full=True"),
        ({"modalities": ["audio"]}, r"'modalities' must be 'image' or 'text' \(got 'audio'\)"),
        ({"url": "ftp://host"}, "'url' must be an address such as"),
        (
            {"checksums": {"reviews_Toi.json.gz": "0" * 64}},
            "'checksums' names 'reviews_Toi.json.gz' .* did you mean rev",
        ),
        ({"checksums": {"meta_Toy.json.gz": "abc"}}, "'checksums' must give meta_Toy.json.gz a SHA-256 of 64"),
        ({"checksums": ["abc"]}, "'checksums' must be a dictionary"),
    ],
)
def test_arguments_are_checked_before_anything_is_read(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AmazonReviews(**{"root": tmp_path, "name": "Toy", **arguments})
    assert list(tmp_path.iterdir()) == []


def test_published_sizes_are_those_of_the_papers() -> None:
    printed = {"Baby": 99.88, "Sports_and_Outdoors": 99.95, "Clothing_Shoes_and_Jewelry": 99.97}  # SEA, DRepMRec
    printed |= {"Toys_and_Games": 100 - 0.072, "Office_Products": 100 - 0.449}  # MDR prints the density, cut off
    assert printed.keys() == PUBLISHED.keys()
    for name, percent in printed.items():
        assert 100 * PUBLISHED[name].sparsity == pytest.approx(percent, abs=5.1e-3)


def test_other_sizes_than_the_published_ones_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_raw(tmp_path, name="Office_Products")
    message = (
        "reviews_Office_Products_5.json.gz: the 5-core has 8 users, 7 items and 56 interactions "
        r"\(0.00 % sparse\), but the published one 4,905 users, 2,420 items and 53,258 interactions \(99.55 % sparse\)"
    )
    for _ in range(2):  # the second comes from the cache
        with pytest.warns(UserWarning, match=message):
            AmazonReviews(tmp_path, "Office_Products", url=None)
    monkeypatch.setitem(PUBLISHED, "Office_Products", PUBLISHED["Baby"]._replace(users=8, items=7, interactions=56))
    AmazonReviews(tmp_path, "Office_Products", url=None, force_reload=True)
    AmazonReviews(tmp_path, "Office_Products", url=None, min_interactions=6)


def test_the_image_features_are_read_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image_features_Toy.b"
    others = np.random.default_rng(1).normal(size=(600, 4096)).astype("<f4")
    with path.open("wb") as file:
        for n, x in enumerate(others):
            file.write(product(f"C{n:09d}", x))
    wanted = ["C000000599", "short", "C000000003", "C000000300", "é"]
    monkeypatch.setattr(_amazon, "_PRODUCTS", 16)
    tracemalloc.start()
    features, has, num_broken = read_image_features(path, wanted)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_broken == 0
    assert has.tolist() == [True, False, True, True, False]
    assert np.array_equal(features[[0, 2, 3]], others[[599, 3, 300]])
    assert not features[[1, 4]].any()
    assert peak < 2**20 < path.stat().st_size / 8


def test_cache_is_used_and_follows_content_and_options(tmp_path: Path, reads: list[Path]) -> None:
    write_raw(tmp_path)
    first = open_local(tmp_path)
    again = open_local(tmp_path)
    assert len(reads) == 1
    assert again.ids == first.ids
    assert again.content_hash == first.content_hash
    assert again[0].to_dict().keys() == first[0].to_dict().keys()
    assert again[0]["item"].text == first[0]["item"].text
    open_local(tmp_path, min_interactions=6)
    open_local(tmp_path, modalities=["text"])
    open_local(tmp_path, force_reload=True)
    assert len(reads) == 4
    write_raw(tmp_path, meta=META[::-1])
    assert open_local(tmp_path).content_hash != first.content_hash
    assert len(reads) == 5


def test_large_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_raw(tmp_path)
    for path in raw.iterdir():
        os.utime(path, (time.time() - 100,) * 2)
    first = open_local(tmp_path).content_hash
    monkeypatch.setattr("pyg_mmrec.datasets._cache.file_digest", lambda path: pytest.fail("is read again"))
    assert open_local(tmp_path).content_hash == first


def test_cache_dir(tmp_path: Path) -> None:
    write_raw(tmp_path / "root")
    dataset = open_local(tmp_path / "root", cache_dir=tmp_path / "cache")
    assert Path(dataset.processed_paths[0]).parent == tmp_path / "cache"
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["raw"]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], failure: Callable[..., str]) -> None:
    write_raw(tmp_path)
    data = ["--dataset", "AmazonReviews", "--dataset.root", str(tmp_path), "--dataset.name", "Toy"]
    main(["datasets", *data, "--dataset.url", "null"])
    assert "image 4096" in capsys.readouterr().out
    trainer = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.progress", "false"]
    trainer += ["--evaluator.metrics", "[recall@3]", "--trainer.monitor", "recall@3"]
    main(["train", "--model", "VBPR", *data, *trainer, "--run_dir", str(tmp_path / "run")])
    assert Ids.load(tmp_path / "run" / "model") == Ids(user=USERS, item=ITEMS)
    assert failure("datasets", *data, "--dataset.name", "Toi", "--dataset.url", "null").startswith("no file ")
    capsys.readouterr()


# Downloads.


@pytest.fixture
def release(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server of the raw files, in the folders of the release."""
    raw = write_raw(tmp_path_factory.mktemp("release"))
    for path in raw.iterdir():
        folder = "image_features/categoryFiles" if path.suffix == ".b" else "categoryFiles"
        server.files[f"/graph/{folder}/{path.name}"] = path.read_bytes()
    return server


def test_missing_files_are_downloaded_and_others_used(release: Server, tmp_path: Path) -> None:
    root = tmp_path / "new" / "folder"
    release.limit = [100, 200]
    dataset = AmazonReviews(root, "Toy", url=f"{release.url}/graph/")
    assert sorted(path.name for path in (root / "raw").iterdir() if path.name != ".lock") == sorted(release_names())
    assert len(release.asked) == 5  # three files, two of which broke off once or twice
    write_raw(tmp_path / "local")
    local = open_local(tmp_path / "local")
    assert dataset.ids == local.ids
    assert torch.equal(dataset[0]["item"].x_image, local[0]["item"].x_image)
    release.asked.clear()
    AmazonReviews(root, "Toy", url=f"{release.url}/graph")
    (root / "raw" / "meta_Toy.json.gz").unlink()
    AmazonReviews(root, "Toy", url=f"{release.url}/graph")
    assert release.asked == [None]


def release_names() -> list[str]:
    return ["reviews_Toy_5.json.gz", "meta_Toy.json.gz", "image_features_Toy.b"]


def test_a_download_that_broke_off_goes_on(release: Server, tmp_path: Path) -> None:
    release.limit = [300, 0, 0]
    with pytest.raises(OSError, match=r"reviews_Toy_5.json.gz.part and the next call goes on"):
        AmazonReviews(tmp_path, "Toy", url=f"{release.url}/graph")
    assert (tmp_path / "raw" / "reviews_Toy_5.json.gz.part").stat().st_size == 300
    release.asked.clear()
    AmazonReviews(tmp_path, "Toy", url=f"{release.url}/graph")
    assert release.asked == ["bytes=300-", None, None]


def test_checksums_of_downloads_and_of_files_that_are_there(release: Server, tmp_path: Path) -> None:
    file = "meta_Toy.json.gz"
    right = hashlib.sha256(release.files[f"/graph/categoryFiles/{file}"]).hexdigest()
    with pytest.raises(
        ValueError, match=r"meta_Toy.json.gz.part has the SHA-256 .* but 'checksums' says 0{64}: it is rem"
    ):
        AmazonReviews(tmp_path, "Toy", url=f"{release.url}/graph", checksums={file: "0" * 64})
    assert not (tmp_path / "raw" / file).exists()
    AmazonReviews(tmp_path, "Toy", url=f"{release.url}/graph", checksums={file: right.upper()})
    message = f"meta_Toy.json.gz has the SHA-256 {right} but 'checksums' says 0{{64}}: delete it, so that it is down"
    with pytest.raises(ValueError, match=message):
        open_local(tmp_path, checksums={file: "0" * 64})
    open_local(tmp_path, modalities=[], checksums={file: "0" * 64})  # is not read


def test_a_category_that_is_not_there_is_one_line(release: Server, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"reviews_toy_5.json.gz cannot be downloaded \(HTTP 404 .*'Baby' and not 'baby'"):
        AmazonReviews(tmp_path, "toy", url=f"{release.url}/graph")


def test_the_release_is_where_it_is_looked_for() -> None:
    assert AmazonReviews.URL == "https://snap.stanford.edu/data/amazon/productGraph"
