from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import default_split, prepare
from pyg_mmrec.cli import main
from pyg_mmrec.datasets import PosterMovies, _cache, poster_movies
from pyg_mmrec.models import LightGCN
from pyg_mmrec.transforms import LabelSplit, WordTokens
from pyg_mmrec.typing import INTERACTS

NUM_USERS, NUM_ITEMS = 12, 8
WORDS = ("ash", "birch", "cedar", "elm")


def arrays() -> dict[str, Any]:
    """Every user has ten train interactions but the last, who has one, and two test interactions."""
    rng = np.random.default_rng(0)
    train, test = [], []
    for user in range(NUM_USERS):
        items = rng.permutation(NUM_ITEMS)
        train += [(user, item) for item in items[: 6 if user < NUM_USERS - 1 else 1]]
        test += [(user, item) for item in items[6:]]
    return {"train": np.array(train, dtype=np.int16), "test": np.array(test, dtype=np.int16)}


def posters() -> dict[str, Any]:
    images = np.random.default_rng(1).integers(1, 256, (NUM_ITEMS, 6, 4, 3), dtype=np.uint8)
    return {"images": images, "ok": np.arange(NUM_ITEMS) != 5, "movie_id": np.arange(NUM_ITEMS, dtype=np.int32) + 11}


def movies() -> list[dict[str, Any]]:
    return [
        {
            "movie_id": item + 11,
            "title": f"{WORDS[item % 4].title()} {WORDS[item % 3]}",
            "plot": f"A {WORDS[item % 4]} wood" if item != 2 else None,
            "genres": ("War|Drama", "Drama", "", "Comedy")[item % 4],
        }
        for item in range(NUM_ITEMS)
    ]


def write(
    root: Path, *, interactions: Any = None, images: Any = None, texts: Any = None, name: str = "toy", **_: Any
) -> Path:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "interactions.npz", **(arrays() if interactions is None else interactions))
    np.savez(folder / "posters.npz", **(posters() if images is None else images))
    (folder / "item_text.json").write_text(json.dumps(movies() if texts is None else texts))
    return folder


def read(root: Path, **arguments: Any) -> PosterMovies:
    return PosterMovies(root, "toy", **{"min_count": 1, **arguments})


def pairs(edge_index: Tensor) -> list[tuple[int, int]]:
    return [(user, item) for user, item in edge_index.t().tolist()]


def same(a: HeteroData, b: HeteroData) -> bool:
    flat = [[(kind, key, value) for kind, store in d.to_dict().items() for key, value in store.items()] for d in (a, b)]
    return len(flat[0]) == len(flat[1]) and all(
        x[:2] == y[:2] and (torch.equal(x[2], y[2]) if isinstance(x[2], Tensor) else x[2] == y[2])
        for x, y in zip(*flat, strict=True)
    )


# What good files become ----------------------------------------------------------------------------------------------


def test_reads_everything(tmp_path: Path) -> None:
    folder = write(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset = read(tmp_path)
    data, given, content = dataset[0], arrays(), posters()
    assert len(dataset) == 1
    assert sorted(data.node_types) == ["item", "user", "word"]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (NUM_USERS, NUM_ITEMS)
    assert list(data["user"].keys()) == ["num_nodes"]
    image = data["item"].image
    assert (image.shape, image.dtype, image.is_contiguous()) == ((NUM_ITEMS, 3, 6, 4), torch.uint8, True)
    assert image[3, 2, 1, 0] == content["images"][3, 1, 0, 2]
    assert image.any(dim=(1, 2, 3)).tolist() == content["ok"].tolist()  # zero where there is no poster
    assert data["item"].mask_image.tolist() == content["ok"].tolist()
    assert data["item"].movie_id.tolist() == list(range(11, 19))
    assert dataset.categories == ["Comedy", "Drama", "War"]
    assert data["item"].category.tolist() == [2, 1, -1, 0] * 2
    store = data[INTERACTS]
    assert pairs(store.edge_index) == [tuple(row) for row in np.concatenate([given["train"], given["test"]]).tolist()]
    assert store.edge_index.dtype == store.split.dtype == torch.int64
    assert (store.split[len(given["train"]) :] == 2).all()
    assert dataset.raw_dir == str(folder)
    assert dataset.raw_file_names == ["interactions.npz", "posters.npz", "item_text.json"]
    assert all(Path(path).is_file() for path in (*dataset.raw_paths, *dataset.processed_paths))
    assert repr(dataset) == (
        f"PosterMovies('toy', num_users=12, num_items=8, num_interactions={len(given['train']) + len(given['test'])}, "
        f"image=[3, 6, 4], num_words={data['word'].num_nodes})"
    )


def test_words_are_those_of_the_transform(tmp_path: Path) -> None:
    write(tmp_path)
    dataset = read(tmp_path, fields=["plot", "title"], max_length=3, max_words=4, stop_words="english")
    assert [dataset.text(item) for item in (0, 2)] == ["A ash wood Ash ash", "Cedar cedar"]
    data = dataset[0]
    texts = [dataset.text(item) for item in range(NUM_ITEMS)]
    transform = WordTokens(texts, min_count=1, max_length=3, max_words=4, stop_words="english")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = transform(data)
    assert torch.equal(data["item"].tokens, expected["item"].tokens)
    assert dataset.vocabulary == transform.vocabulary == data["word"].text
    assert len(dataset.vocabulary) == 5


@pytest.mark.filterwarnings("ignore:1 of 8 items have no word")
def test_vocabulary_follows_the_split(tmp_path: Path) -> None:
    given = arrays()
    held_out = given["train"][:, 1] == 7  # item 7 has test interactions alone
    given = {"train": given["train"][~held_out], "test": np.concatenate([given["test"], given["train"][held_out]])}
    texts = movies()
    texts[7]["title"] = "zebra zebra zebra"
    write(tmp_path, interactions=given, texts=texts)
    assert "zebra" not in read(tmp_path).vocabulary
    assert "wood" in read(tmp_path).vocabulary
    assert "wood" not in read(tmp_path, fields=["title"]).vocabulary


def test_vectors_become_those_of_the_words(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "vectors.txt"
    path.write_text("ash 1 2\nelm 3 4\n")
    for _ in range(2):  # with and without a cache
        with pytest.warns(UserWarning, match="vectors.txt lacks 3 of 5 words") as seen:
            dataset = read(tmp_path, vectors=path)
        assert seen[0].filename == __file__
        assert dataset[0]["word"].x[dataset.vocabulary.index("elm")].tolist() == [3, 4]
    path.write_text("ash 1 2\nelm 5 4\n")
    with pytest.warns(UserWarning, match=r"vectors\.txt"):
        changed = read(tmp_path, vectors=path)
    assert changed[0]["word"].x[dataset.vocabulary.index("elm")].tolist() == [5, 4]
    assert changed.content_hash != dataset.content_hash
    assert changed.raw_file_names == ["interactions.npz", "posters.npz", "item_text.json"]


def test_optional_parts_stay_absent(tmp_path: Path) -> None:
    images = posters() | {"ok": np.ones(NUM_ITEMS, dtype=bool)}
    del images["movie_id"]
    texts = [{key: value for key, value in entry.items() if key != "movie_id"} for entry in movies()]
    write(tmp_path, images=images, texts=texts)
    assert set(read(tmp_path)[0]["item"].keys()) == {"num_nodes", "image", "category", "tokens"}


def test_items_without_words(tmp_path: Path) -> None:
    texts = movies()
    del texts[4]["title"]
    texts[4]["plot"] = "?"
    write(tmp_path, texts=texts)
    for _ in range(2):  # with and without a cache
        with pytest.warns(UserWarning, match="1 of 8 items have no word of the vocabulary") as seen:
            data = read(tmp_path)[0]
        assert seen[0].filename == __file__
    assert data["item"].mask_tokens.tolist() == [item != 4 for item in range(NUM_ITEMS)]


def test_repeats_are_dropped_and_counted(tmp_path: Path) -> None:
    given = arrays()
    given["test"] = np.concatenate([given["test"], given["test"][:1], given["train"][:1]])
    write(tmp_path, interactions=given)
    with pytest.warns(UserWarning, match=r"interactions\.npz") as seen:
        data = read(tmp_path)[0]
    assert [str(warning.message).partition(":")[2] for warning in seen] == [
        f" 2 of {len(given['train']) + len(given['test'])} rows repeat a user-item pair and are dropped",
        " 1 user-item pairs are in more than one of train, validation and test; each stays in the first of these",
    ]
    assert len(set(pairs(data[INTERACTS].edge_index))) == data[INTERACTS].edge_index.size(1)


# The validation part and the sample of users -------------------------------------------------------------------------


def parts(data: HeteroData, label: int) -> Counter[int]:
    store = data[INTERACTS]
    return Counter(store.edge_index[0, store.split == label].tolist())


@pytest.mark.parametrize(("val", "each"), [(0.01, 1), (0.1, 1), (0.5, 3), (0.67, 4), (0.99, 5)])
def test_share_of_the_validation_part(tmp_path: Path, val: float, each: int) -> None:
    write(tmp_path)
    data = read(tmp_path, val=val)[0]
    last = NUM_USERS - 1
    assert parts(data, 1) == {user: each for user in range(last)}
    assert parts(data, 0) == {user: 6 - each for user in range(last)} | {last: 1}
    assert parts(data, 2) == {user: 2 for user in range(NUM_USERS)}


def test_seed(tmp_path: Path) -> None:
    write(tmp_path)
    splits = [read(tmp_path, seed=seed, force_reload=True)[0][INTERACTS].split for seed in (0, 0, 1)]
    assert torch.equal(splits[0], splits[1])
    assert not torch.equal(splits[0], splits[2])


def test_sample_of_users(tmp_path: Path) -> None:
    write(tmp_path)
    full = read(tmp_path)[0]
    samples = {size: read(tmp_path, num_users=size)[0] for size in (3, 7, NUM_USERS)}
    labelled = set(zip(pairs(full[INTERACTS].edge_index), full[INTERACTS].split.tolist(), strict=True))
    chosen: set[int] = set()
    for size, data in samples.items():
        users = data["user"].original_id
        assert data["user"].num_nodes == size == users.numel()
        assert users.tolist() == sorted(set(users.tolist()))
        assert chosen < set(users.tolist())  # a smaller sample is part of a larger one
        chosen = set(users.tolist())
        user, item = data[INTERACTS].edge_index
        former = zip(pairs(torch.stack([users[user], item])), data[INTERACTS].split.tolist(), strict=True)
        assert set(former) == {row for row in labelled if row[0][0] in chosen}
        assert user.unique().tolist() == list(range(size))
        assert data["item"].num_nodes == NUM_ITEMS
    other = read(tmp_path, num_users=7, seed=1)[0]
    assert not torch.equal(other["user"].original_id, samples[7]["user"].original_id)
    with pytest.raises(ValueError, match=r"'num_users' must be at most 12, the users in .*interactions.npz \(got 13\)"):
        read(tmp_path, num_users=13)


def test_sample_skips_numbers_without_interactions(tmp_path: Path) -> None:
    given = {name: value + np.array([3, 0]) * (value[:, :1] > 4) for name, value in arrays().items()}
    write(tmp_path, interactions=given)
    with pytest.warns(UserWarning, match="3 of 15 users"):
        data = read(tmp_path, num_users=NUM_USERS)[0]
    assert data["user"].original_id.tolist() == [0, 1, 2, 3, 4, *range(8, 15)]
    assert data[INTERACTS].edge_index[0].unique().numel() == NUM_USERS


def test_the_default_split_is_the_data_sets(tmp_path: Path) -> None:
    write(tmp_path)
    data = read(tmp_path)[0]
    assert isinstance(default_split(data), LabelSplit)
    views = prepare(data, [LightGCN])
    assert [view[INTERACTS].edge_label_index.size(1) for view in views] == [
        int((data[INTERACTS].split == label).sum()) for label in range(3)
    ]
    for view in views:
        assert view["item"].image is data["item"].image
        assert "word" in view.node_types
    model = LightGCN.from_data(views[0], hidden_channels=4)
    assert model.recommend(views[0], torch.arange(3), 2)[1].shape == (3, 2)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    flags = ["--dataset", "PosterMovies", "--dataset.root", str(tmp_path), "--dataset.name", "toy"]
    flags += ["--dataset.fields", "[title]", "--dataset.min_count", "1", "--dataset.num_users", "9"]
    run = str(tmp_path / "run")
    training = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.progress", "false"]
    training += ["--trainer.monitor", "recall@3", "--run_dir", run]
    metrics = ["--evaluator.metrics", "[recall@3]"]
    main(["train", "--model", "LightGCN", "--model.hidden_channels", "4", *flags, *training, *metrics])
    assert "recall@3" in capsys.readouterr().out
    main(["evaluate", run, *metrics])  # reads the data set as the run's configuration says
    assert "recall@3" in capsys.readouterr().out
    main(["datasets", *flags])
    assert "users  9\n" in capsys.readouterr().out


# Bad input -----------------------------------------------------------------------------------------------------------


def no(name: str) -> Callable[[Path], Any]:
    return lambda root: (write(root) / name).unlink()


def raw(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda root: (write(root) / name).write_bytes(content)


def interactions(**changes: Any) -> Callable[[Path], Any]:
    given = {name: value for name, value in (arrays() | changes).items() if value is not None}
    return lambda root: write(root, interactions=given)


def images(**changes: Any) -> Callable[[Path], Any]:
    given = {name: value for name, value in (posters() | changes).items() if value is not None}
    return lambda root: write(root, images=given)


def texts(change: Callable[[list[Any]], Any]) -> Callable[[Path], Any]:
    content = movies()
    changed = change(content)
    return lambda root: write(root, texts=content if changed is None else changed)


def one(name: str) -> np.ndarray[Any, Any]:
    return np.zeros((1, 2), dtype=name)


BAD: dict[str, tuple[Callable[[Path], Any], dict[str, Any], list[str]]] = {
    # Folders
    "no folder": (lambda root: write(root, name="toys"), {}, ["no folder", "did you mean toys?"]),
    "no interactions": (no("interactions.npz"), {}, ["no file", "interactions.npz", "has: item_text.json, posters"]),
    "no posters": (no("posters.npz"), {}, ["no file", "toy/posters.npz"]),
    "no texts": (no("item_text.json"), {}, ["no file", "toy/item_text.json"]),
    "no vectors": (write, {"vectors": "nowhere.txt"}, ["nowhere.txt cannot be read"]),
    # Interactions
    "truncated": (raw("interactions.npz", b"PK\x03\x04"), {}, ["interactions.npz", "truncated or not a valid .npz"]),
    "no test": (interactions(test=None), {}, ["interactions.npz has no array 'test' but train", "np.savez"]),
    "pickled": (interactions(train=np.array([{}])), {}, ["interactions.npz", "pickled Python objects"]),
    "floats": (interactions(train=one("f4")), {}, ["interactions.npz", "'train'", "integer", "(got float32, [1, 2])"]),
    "three columns": (interactions(test=np.zeros((1, 3), int)), {}, ["'test'", "[pairs, 2]", "[1, 3]"]),
    "no rows": (interactions(test=np.zeros((0, 2), int)), {}, ["'test'", "with a row or more", "[0, 2]"]),
    "negative": (interactions(train=one("i4") - 1), {}, ["interactions.npz", "'train' row 0 has the user -1"]),
    "no such item": (
        interactions(test=np.array([[0, 7], [0, 8]])),
        {},
        ["interactions.npz", "'test' row 1 has the item 8, which must lie in 0..7, as posters.npz has 8 items"],
    ),
    "huge user": (
        interactions(train=np.array([[2**40, 0]])),
        {},
        ["row 0 has the user 1099511627776", "0..2147483647"],
    ),
    # Posters
    "npy": (raw("posters.npz", b"\x93NUMPY"), {}, ["posters.npz", "truncated or not a valid"]),
    "no images": (images(images=None), {}, ["posters.npz has no array 'images' but", "movie_id"]),
    "float images": (images(images=posters()["images"] / 255), {}, ["posters.npz", "uint8", "float64, [8, 6, 4, 3]"]),
    "colours first": (images(images=np.zeros((8, 3, 6, 4), "u1")), {}, ["[items, height, width, 3]", "[8, 3, 6, 4]"]),
    "no mask": (images(ok=None), {}, ["posters.npz has no array 'ok'"]),
    "short mask": (images(ok=np.ones(7, bool)), {}, ["posters.npz: 'ok'", "each of the 8 images (got bool, [7])"]),
    "numeric mask": (images(ok=np.ones(8)), {}, ["posters.npz: 'ok' must be a bool array", "float64"]),
    "no poster at all": (images(ok=np.zeros(8, bool)), {}, ["posters.npz: 'ok' marks no item"]),
    "other movies": (
        images(movie_id=np.arange(8)[::-1] + 11),
        {},
        ["item_text.json item 0 has the movie_id 11 but posters.npz 18", "same items in the same order"],
    ),
    "other movies in the interactions": (
        interactions(movie_id=np.array([*range(11, 18), 0])),
        {},
        ["posters.npz item 7 has the movie_id 18 but interactions.npz 0"],
    ),
    "movie ids of another size": (
        images(movie_id=np.arange(7)),
        {},
        ["posters.npz: 'movie_id'", "each of the 8 items"],
    ),
    # Texts
    "no JSON": (raw("item_text.json", b"[{]"), {}, ["item_text.json", "not a valid .json file (Expecting"]),
    "not UTF-8": (raw("item_text.json", b"\xff\xfe[]"), {}, ["item_text.json", "not a valid .json file"]),
    "deep": (raw("item_text.json", b"[" * 100_000), {}, ["item_text.json", "not a valid .json file"]),
    "a dictionary": (texts(lambda movies: {"0": movies[0]}), {}, ["item_text.json must hold a list of dictionaries"]),
    "a list of texts": (texts(lambda movies: ["a"] * 8), {}, ["item_text.json must hold a list of dictionaries"]),
    "too few": (texts(lambda movies: movies[:-1]), {}, ["item_text.json has 7 items but posters.npz has 8"]),
    "no field": (write, {"fields": ["titel"]}, ["item_text.json has no field 'titel'", "did you mean title?"]),
    "no genres": (
        texts(lambda movies: [entry.pop("genres") for entry in movies] and None),
        {},
        ["item_text.json has no field 'genres'; its fields: movie_id, plot, title"],
    ),
    "a number": (
        texts(lambda movies: movies[3].update(title=7)),
        {},
        ["item_text.json item 3: 'title' must be a text or null (got 7)"],
    ),
    "a movie id is missing": (
        texts(lambda movies: movies[3].pop("movie_id") and None),
        {},
        ["json: 'movie_id' must be"],
    ),
    "no words": (write, {"min_count": 999}, ["item_text.json: no word occurs 999 times", "lower 'min_count'"]),
    # Arguments
    "no fields": (write, {"fields": []}, ["'fields' must name at least one field"]),
    "a field": (write, {"fields": "title"}, ["'fields' must be a list of names, ['title']"]),
    "val": (write, {"val": 1.0}, ["'val' must lie between 0 and 1 (got 1.0)"]),
    "no users": (write, {"num_users": 0}, ["'num_users' must be positive (got 0)"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_raises_one_line(tmp_path: Path, case: str) -> None:
    make, arguments, facts = BAD[case]
    make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read(tmp_path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500 + 2 * len(str(tmp_path))
    assert [fact for fact in facts if fact not in message] == [], message
    assert not list(tmp_path.rglob("processed"))


# The cache -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Collects the texts that are read."""
    seen: list[Path] = []
    really_read = poster_movies.read_json

    def spy(path: Path) -> Any:
        seen.append(path)
        return really_read(path)

    monkeypatch.setattr(poster_movies, "read_json", spy)
    return seen


def test_cache_is_used(tmp_path: Path, reads: list[Path]) -> None:
    folder = write(tmp_path)
    first, second = (read(tmp_path) for _ in range(2))
    assert len(reads) == 1
    assert same(first[0], second[0])
    assert (first.categories, first.vocabulary, first.text(3)) == (
        second.categories,
        second.vocabulary,
        second.text(3),
    )
    assert [path.suffix for path in (folder / "processed").iterdir()] == [".pt"]
    read(tmp_path, force_reload=True)
    assert len(reads) == 2


@pytest.mark.parametrize("name", ["interactions.npz", "posters.npz", "item_text.json"])
def test_a_changed_file_is_read_again(tmp_path: Path, reads: list[Path], name: str) -> None:
    folder = write(tmp_path)
    first = read(tmp_path)
    stat = (folder / name).stat()
    given, image, text = arrays(), posters(), movies()
    if name == "interactions.npz":
        given["test"] = given["test"][::-1]
    elif name == "posters.npz":
        image["images"] = image["images"][::-1]
    else:
        text[0], text[4] = (movies()[4] | {"movie_id": 11}, movies()[0] | {"movie_id": 15})
    write(tmp_path, interactions=given, images=image, texts=text)
    os.utime(folder / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same time
    assert (folder / name).stat().st_size == stat.st_size
    second = read(tmp_path)
    assert first.content_hash != second.content_hash
    assert not same(first[0], second[0])
    assert len(reads) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        {"val": 0.5},
        {"seed": 1},
        {"num_users": 5},
        {"fields": ["title"]},
        {"max_length": 1},
        {"max_words": 2},
        {"min_count": 2},
        {"stop_words": "english"},
    ],
)
def test_cache_follows_the_options(tmp_path: Path, reads: list[Path], arguments: dict[str, Any]) -> None:
    write(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = read(tmp_path), read(tmp_path, **arguments)
    assert len(reads) == 2
    assert first.content_hash == second.content_hash
    assert same(first[0], second[0]) == (arguments in ({"stop_words": "english"}, {"min_count": 2}))


def test_cache_follows_the_format_version(tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    read(tmp_path)
    monkeypatch.setattr(poster_movies, "_FORMAT", poster_movies._FORMAT + 1)
    read(tmp_path)
    assert len(reads) == 2


def test_transforms(tmp_path: Path) -> None:
    write(tmp_path)

    def mark(data: HeteroData) -> HeteroData:
        data["user"].mark = torch.ones(NUM_USERS)
        return data

    assert "mark" in read(tmp_path, transform=mark)[0]["user"]
    assert "mark" in read(tmp_path, pre_transform=mark)[0]["user"]
    assert "mark" not in read(tmp_path)[0]["user"]  # the cache holds what was read


@pytest.mark.parametrize("place", ["reading", "writing"])
def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    folder = write(tmp_path)

    def stop(*arguments: Any) -> None:
        if place == "writing":
            arguments[1].write(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((_cache.torch, "save", stop) if place == "writing" else (poster_movies, "add_words", stop)))
        with pytest.raises(KeyboardInterrupt):
            read(tmp_path)
    assert list(folder.glob("processed/*")) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path)[0]["item"].num_nodes == NUM_ITEMS


@pytest.mark.parametrize("damage", ["truncated", "other key"])
def test_unusable_cache_is_rebuilt(tmp_path: Path, reads: list[Path], damage: str) -> None:
    write(tmp_path)
    first = read(tmp_path)
    path = Path(first.processed_paths[0])
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        torch.save({**torch.load(path, weights_only=True), "key": "0" * 64}, path)
    with pytest.warns(UserWarning, match=r"is not a usable cache \(.+\); reading the files again") as record:
        second = read(tmp_path)
    assert Path(record[0].filename) == Path(__file__)
    assert len(reads) == 2
    assert same(first[0], second[0])


# Real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_real_data(data_root: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "1 of 3706 items have no word")
        dataset = PosterMovies(data_root, cache_dir=tmp_path, stop_words="english")
    data = dataset[0]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (6040, 3706)
    count = torch.bincount(data[INTERACTS].split)
    assert count[0] + count[1] == 797_758
    assert count[2] == 202_451
    assert 0.09 < count[1] / 797_758 < 0.1  # shares are rounded down
    train = torch.bincount(data[INTERACTS].edge_index[0, data[INTERACTS].split == 0], minlength=6040)
    assert train.min() > 0
    assert data["item"].image.shape == (3706, 3, 64, 44)
    assert int(data["item"].mask_image.sum()) == 3699
    assert len(dataset.categories) == 18
    assert data["item"].category.min() >= 0
    assert dataset.text(0).startswith("Toy Story")
    toy = [dataset.vocabulary[token] for token in data["item"].tokens[0].tolist() if token]
    assert {"toy", "story", "1995", "jealous", "room"} <= set(toy)
    assert 2000 < data["word"].num_nodes < 3500
    views = default_split(data)(data)
    assert [view[INTERACTS].edge_label_index.size(1) for view in views] == count.tolist()
    sample = PosterMovies(data_root, cache_dir=tmp_path, num_users=100, min_count=2)[0]
    assert (sample["user"].num_nodes, sample["item"].num_nodes) == (100, 3706)
