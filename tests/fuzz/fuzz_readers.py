"""Feeds bytes to everything that reads a file: ``python tests/fuzz/fuzz_readers.py --target inter --seconds 300``.

Any bytes either load into valid data or raise a ValueError or FileNotFoundError that names the file, on one line. They
never run code, take long or much memory. Inputs follow the coverage where atheris is installed (pip install atheris),
else they are random changes of the seeds. What breaks the rule is printed once for each place it breaks at, again
when a shorter input does.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import io
import json
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
import torch

try:
    import atheris
except ImportError:
    atheris = None

FUZZING = atheris is not None and __name__ == "__main__"

with atheris.instrument_imports(include=["pyg_mmrec"]) if FUZZING else contextlib.nullcontext():
    from pyg_mmrec.datasets import AmazonReviews, MMRecDataset, PosterMovies
    from pyg_mmrec.datasets._files import read_features, read_neighbors
    from pyg_mmrec.models import VBPR, LightGCN, Recommender
    from pyg_mmrec.training.checkpoint import FORMAT, load_checkpoint
    from pyg_mmrec.typing import INTERACTS

MAX_SECONDS = 5.0  # of processor time
MAX_BYTES = 2**29  # that one input adds to the peak
SETTINGS: dict[str, Any] = {"model": "LightGCN", "learning_rate": 1e-3, "model.in_channels": {"text": 8}, "seed": None}


class Payload:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return exec, ("import os; os.system('true')",)


class Watch:
    """Notes what inputs make the interpreter do, while it is on."""

    EVENTS = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen")

    def __init__(self) -> None:
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self.hook)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.on and event in self.EVENTS:
            self.seen.append(event)

    @contextlib.contextmanager
    def watching(self) -> Iterator[list[str]]:
        self.on, self.seen = True, []
        try:
            yield self.seen
        finally:
            self.on = False


WATCH = Watch()


def saved(write: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def member(archive: bytes, name: str) -> bytes:
    """The content of the archive's member whose name ends so."""
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return next(file.read(entry) for entry in file.namelist() if entry.endswith(name))


def with_member(archive: bytes, name: str, content: bytes) -> bytes:
    """An archive with other content in one member and right check sums."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, content if entry.endswith(name) else old.read(entry))
    return out.getvalue()


def torch_saved(value: Any, **kwargs: Any) -> bytes:
    return saved(lambda file: torch.save(value, file, **kwargs))


# Interaction tables.


def inter_seeds() -> list[bytes]:
    return [
        b"userID\titemID\trating\ttimestamp\tx_label\n0\t0\t5.0\t1400000000\t0\n0\t1\t1\t14.5\t1\n1\t1\t2\t-3\t2\n",
        b"user_id:token,item_id:token,x_label\n0,0,0\n0,2,2\n\n1,1,0\n1,1,2\n",
        b"\xef\xbb\xbfuid;iid;title\r\n3;0;\"a\r\n0;1;'b\r\n",
        b"user|item|time\n1|2|1e9\n1|2|.5\n0|0|-1E3\n",
        b"user item\n0 1\n1 2147483647\n",
        b"\xff\xfeu\0s\0e\0r\0\n\0",
    ]


def read_inter(folder: Path, data: bytes) -> None:
    path = folder / "toy" / "toy.inter"
    path.parent.mkdir()
    path.write_bytes(data)
    graph = MMRecDataset(folder, "toy")[0]
    store = graph[INTERACTS]
    user, item = store.edge_index
    assert user.dtype == torch.long
    assert user.numel() > 0
    for node, name in ((user, "user"), (item, "item")):
        assert int(node.min()) >= 0
        assert int(node.max()) == graph[name].num_nodes - 1 < 2**31
    assert len(set(zip(user.tolist(), item.tolist(), strict=True))) == user.numel()
    for key in ("rating", "time", "split"):
        if key in store:
            assert store[key].shape == user.shape
            assert store[key].isfinite().all()
    if "split" in store:
        assert set(store.split.tolist()) <= {0, 1, 2}
        assert (store.split == 0).any()


# Features: the first byte says in which kind of file the rest is.

MATRIX = np.arange(6, dtype=np.float32).reshape(3, 2)
NPZ = saved(lambda file: np.savez(file, feat=MATRIX))
PT = torch_saved(torch.from_numpy(MATRIX))
FEATURES: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("x_feat.npy", bytes),
    ("x_feat.npz", bytes),
    ("x_feat.npz", lambda data: with_member(NPZ, "feat.npy", data)),
    ("x_feat.pt", bytes),
    ("x_feat.pt", lambda data: with_member(PT, "data.pkl", data)),
]


def feature_seeds() -> list[bytes]:
    npy = [saved(lambda file, x=x: np.save(file, x)) for x in (MATRIX, np.ones((2, 2), "<f2"), np.ones((2, 2), ">i8"))]
    npy.append(saved(lambda file: np.save(file, np.array([[Payload()]], dtype=object))))
    tensors = (torch.from_numpy(MATRIX), torch.ones(2, 2).bfloat16(), torch.eye(2).to_sparse(), {"x": [1]}, Payload())
    return [
        *(b"\0" + part for part in npy),
        b"\1" + NPZ,
        b"\1" + saved(lambda file: np.savez_compressed(file, one=MATRIX, two=MATRIX)),
        *(b"\2" + part for part in npy),
        *(b"\3" + torch_saved(tensor) for tensor in tensors),
        b"\3" + torch_saved(tensors[0], _use_new_zipfile_serialization=False),
        *(b"\4" + member(torch_saved(tensor), "data.pkl") for tensor in tensors),
    ]


def read_any_features(folder: Path, data: bytes) -> None:
    name, wrap = FEATURES[data[0] % len(FEATURES) if data else 0]
    path = folder / name
    path.write_bytes(wrap(data[1:]))
    x, mask, note = read_features(path)
    assert x.dtype == torch.float32
    assert x.dim() == 2
    assert x.isfinite().all()
    assert mask is None or note
    assert torch.equal((x != 0).any(1), torch.ones(len(x), dtype=torch.bool) if mask is None else mask)
    assert (x != 0).any()


# Movies: the first byte says which file the rest is; the others are good.

MOVIES: dict[str, bytes] = {
    "interactions.npz": saved(
        lambda file: np.savez(file, train=[[0, 0], [0, 1], [1, 0]], test=[[1, 1]], movie_id=[7, 8])
    ),
    "posters.npz": saved(lambda file: np.savez(file, images=np.ones((2, 2, 1, 3), np.uint8), ok=[True, False])),
    "item_text.json": b'[{"title": "a red pen", "genres": "x|y"}, {"title": null, "genres": "x", "movie_id": 8}]',
    "vectors.txt": b"3 2\nred 1 -2.5\npen 1e-3 4\nzebra 0 0\n",
}


def movie_seeds() -> list[bytes]:
    other = [
        saved(lambda file: np.savez(file, train=[[0, 1]], test=np.array([[Payload(), 1]]))),
        saved(
            lambda file: np.savez_compressed(file, images=np.ones((2, 1, 1, 3), np.uint8), ok=[1, 0], movie_id=[7, 8])
        ),
        b'[{"title": "red", "genres": "", "movie_id": 7}, {"genres": "x", "movie_id": 8}]',
        b"red .5\n. . 3\npen 1e9\n",
    ]
    return [bytes([number % 4]) + content for number, content in enumerate([*MOVIES.values(), *other])]


def read_movies(folder: Path, data: bytes) -> None:
    (folder / "toy").mkdir()
    for name, content in MOVIES.items():
        (folder / "toy" / name).write_bytes(content)
    (folder / "toy" / list(MOVIES)[data[0] % 4 if data else 0]).write_bytes(data[1:])
    dataset = PosterMovies(folder, "toy", fields=["title"], min_count=1, vectors=folder / "toy" / "vectors.txt")
    item, word = dataset[0]["item"], dataset[0]["word"]
    assert item.image.shape[:2] == (item.num_nodes, 3)
    assert item.tokens.shape[0] == item.category.numel() == item.num_nodes
    assert int(item.tokens.max()) < word.num_nodes == len(dataset.vocabulary) == word.x.size(0)
    assert word.x.isfinite().all()
    assert (dataset[0][INTERACTS].split == 0).any()


# Amazon's files: the first byte says which one the rest is, from 3 on before it is compressed; the others are good.

AMAZON: dict[str, bytes] = {
    "reviews_Toy.json.gz": b"".join(
        b'{"reviewerID": "A%d", "asin": "B00000000%d", "overall": 5.0, "unixReviewTime": 1388275200}\n' % (n % 2, n % 3)
        for n in range(6)
    ),
    "meta_Toy.json.gz": b"{'asin': 'B000000000', 'title': \"Ann's\", 'categories': [['a', 'b'], ['c']], 'price': 9.9}",
    "image_features_Toy.b": b"B000000001" + np.linspace(-1, 1, 4096, dtype="<f4").tobytes(),
}


def amazon_seeds() -> list[bytes]:
    reviews, meta, images = AMAZON.values()
    texts = [reviews, reviews.replace(b'"', b"'"), meta, meta.replace(b"'asin'", b"'brand': None, 'asin'")]
    texts += [
        b'{"asin": "B000000001", "description": "\\ud800", "title": [["x"]]}',
        b"{'asin': 'B000000000'" + b"[" * 99,
    ]
    compressed = [bytes([number]) + gzip.compress(text) for number, text in enumerate([reviews, meta])]
    return [*compressed, b"\2" + images, *(bytes([3 + (n > 1)]) + text for n, text in enumerate(texts))]


def read_amazon(folder: Path, data: bytes) -> None:
    (folder / "raw").mkdir()
    kind = data[0] % 5 if data else 0
    for number, (name, content) in enumerate(AMAZON.items()):
        if number == kind % 3:
            content = data[1:]
        packed = name.endswith(".gz") and (number != kind % 3 or kind >= 3)
        (folder / "raw" / name).write_bytes(gzip.compress(content) if packed else content)
    dataset = AmazonReviews(folder, "Toy", full=True, min_interactions=0, url=None)
    item, store = dataset[0]["item"], dataset[0][INTERACTS]
    assert dataset.ids.sizes() == (dataset[0]["user"].num_nodes, item.num_nodes)
    assert store.edge_index.shape == (2, store.time.numel())
    assert 0 <= int(store.edge_index.min()) <= int(store.edge_index[1].max()) == item.num_nodes - 1
    assert store.rating.isfinite().all()
    assert item.x_image.shape == (item.num_nodes, 4096)
    assert item.x_image.isfinite().all()
    assert len(item.text) == len(item.category) == item.num_nodes
    assert "".join(item.text).isascii() or "".join(item.text).encode()


# Neighbour graphs: the first byte says whether the rest is the file or the numbers in it.


def graph_parts(data: bytes) -> dict[str, Any]:
    """Shape, pointers, columns and weights of a graph from bytes that are not in any file format."""
    numbers = np.frombuffer(data, dtype=np.int8)
    shape, (pointers, columns, weights) = numbers[:2], np.array_split(numbers[2:].astype(np.int32), 3)
    values = weights.astype(np.float32) / 3
    return {"format": b"csr", "shape": shape, "indptr": pointers, "indices": columns, "data": values}


def graph_seeds() -> list[bytes]:
    graph = scipy.sparse.csr_matrix(np.eye(3, dtype=np.float32))
    return [
        b"\0" + saved(lambda file: scipy.sparse.save_npz(file, graph)),
        b"\0" + saved(lambda file: scipy.sparse.save_npz(file, graph.tocoo(), compressed=False)),
        bytes([1, 3, 3, 0, 1, 2, 3, 0, 1, 2, 3, 3, 3]),
    ]


def read_graph(folder: Path, data: bytes) -> None:
    path = folder / "x_knn3.npz"
    path.write_bytes(data[1:] if data[:1] != b"\1" else saved(lambda file: np.savez(file, **graph_parts(data[1:]))))
    graph = read_neighbors(path)
    assert graph.dtype == np.float32
    assert graph.shape[0] == graph.shape[1]
    assert np.isfinite(graph.data).all()
    assert not graph.nnz or 0 <= graph.indices.min() <= graph.indices.max() < graph.shape[0]
    assert (np.diff(graph.indptr) >= 0).all()


# Training checkpoints: the first byte says whether the rest is the file or the pickle within it.


def checkpoint_seeds() -> list[bytes]:
    state = {"model": {"weight": torch.arange(4.0)}, "progress": {"epoch": 3, "history": [{"loss": 0.5}]}}
    settings: list[Any] = [
        SETTINGS,
        SETTINGS | {"learning_rate": 1e-2},
        SETTINGS | {"seed": torch.zeros(2)},
        {},
        [],
        {1: 2},
    ]
    whole = [torch_saved({"format": FORMAT, "settings": setting, **state}) for setting in settings]
    whole += [torch_saved([1, 2]), torch_saved({"format": FORMAT, "settings": Payload()})]
    old = torch_saved({"format": FORMAT, "settings": SETTINGS}, _use_new_zipfile_serialization=False)
    return [*(b"\0" + part for part in whole), b"\0" + old, *(b"\1" + member(part, "data.pkl") for part in whole)]


CHECKPOINT = torch_saved({"format": FORMAT, "settings": SETTINGS, "model": {"weight": torch.arange(4.0)}})


def read_checkpoint(folder: Path, data: bytes) -> None:
    path = folder / "last.ckpt"
    path.write_bytes(data[1:] if data[:1] != b"\1" else with_member(CHECKPOINT, "data.pkl", data[1:]))
    loaded = load_checkpoint(path, SETTINGS)
    assert loaded["format"] == FORMAT
    assert all(loaded["settings"].get(key) == value for key, value in SETTINGS.items())


# Saved models: the configuration, a zero byte and the weights, by default LightGCN's.


def model_files(model: Recommender) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as name:
        model.save_pretrained(name)
        return Path(name, "config.json").read_bytes(), Path(name, "model.safetensors").read_bytes()


LIGHTGCN = model_files(LightGCN(3, 2, hidden_channels=2))


def model_seeds() -> list[bytes]:
    config = json.loads(LIGHTGCN[0])
    changes: list[Any] = [{"model": "Recommender"}, {"model": ["LightGCN"]}, {"init_args": []}, {"init_args": {}}]
    changes += [{"init_args": config["init_args"] | {"num_users": size}} for size in (-1, 4, "3", 10**12)]
    return [
        b"\0".join(LIGHTGCN),
        b"\0".join(model_files(VBPR(2, 2, {"text": 3}, hidden_channels=2))),
        LIGHTGCN[0],
        *(json.dumps(config | change).encode() for change in changes),
        b"[]",
        b'{"model": "WithSEA", "init_args": {"num_users": 1, "num_items": 2, "in_channels": {"text": 3}, "base": "V"}}',
    ]


def read_model(folder: Path, data: bytes) -> None:
    config, split, weights = data.partition(b"\0")
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(weights if split else LIGHTGCN[1])
    model = Recommender.from_pretrained(folder)
    assert isinstance(model, Recommender)
    assert model.num_users > 0
    assert model.num_items > 0


class Target(NamedTuple):
    """What is fuzzed."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[Path, bytes], None]  #: writes the bytes into an empty folder, reads them, checks what comes back


TARGETS = {
    "inter": Target(inter_seeds, read_inter),
    "features": Target(feature_seeds, read_any_features),
    "movies": Target(movie_seeds, read_movies),
    "amazon": Target(amazon_seeds, read_amazon),
    "graphs": Target(graph_seeds, read_graph),
    "checkpoint": Target(checkpoint_seeds, read_checkpoint),
    "model": Target(model_seeds, read_model),
}


def place_of(error: BaseException) -> str:
    """The innermost line of the package that an error passed through, else of this file."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((frame for frame in reversed(frames) if "/pyg_mmrec/" in frame.filename), frames[-1])
    return f"{Path(frame.filename).name}:{frame.lineno}"


def verdict(folder: Path, read: Callable[[Path, bytes], None], data: bytes) -> str:
    """What is wrong with the way the bytes were read, with its place; empty if nothing is."""
    try:
        read(folder, data)
    except (ValueError, FileNotFoundError) as error:
        message = str(error)
        if str(folder) not in message:
            return f"{place_of(error)}: does not name the file: {type(error).__name__}: {message}"
        if "\n" in message:
            return f"{place_of(error)}: more than one line: {message!r}"
    except Exception as error:  # whatever a reader lets through
        return f"{place_of(error)}: {type(error).__name__}: {str(error)[:300]}"
    return ""


def try_input(target: Target, data: bytes) -> str:
    """As :func:`verdict`, in a folder of its own and with an eye on time, memory and what is executed."""
    peak, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings(), WATCH.watching() as executed:
        warnings.simplefilter("ignore")
        found = verdict(Path(name), target.read, data)
    if executed:
        return f"executed: {executed}"
    if time.process_time() - start > MAX_SECONDS:
        return f"slow: {found}"
    if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024 > MAX_BYTES:
        return f"large: {found}"
    return found


def mutations(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """The seeds, then random changes of them without end."""
    rng = random.Random(seed)
    yield from seeds
    while True:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            start = rng.randrange(len(data) + 1)
            stop = start + min(rng.choice((0, 0, 1, 1, 1, 2, 8, 64)), len(data) - start)
            other = rng.choice(seeds)
            cut = rng.randrange(len(other))
            data[start:stop] = rng.choice(
                (
                    b"",
                    rng.randbytes(1),
                    rng.randbytes(stop - start),
                    b"9" * 20,
                    b"-",
                    b"\xff" * 4,
                    other[cut : cut + 32],
                )
            )
        yield bytes(data)


class Findings:
    """Prints each place that breaks the rule, once for every shorter input."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.shortest: dict[str, int] = {}
        self.count = 0

    def __call__(self, data: bytes) -> None:
        self.count += 1
        found = try_input(self.target, data)
        key = ":".join(found.split(":")[:3])
        if found and len(data) < self.shortest.get(key, sys.maxsize):
            self.shortest[key] = len(data)
            print(f"FOUND after {self.count} inputs, {found}\n  input {data[:300]!r}", flush=True)
            print(f"  base64 {base64.b64encode(data).decode()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    target = TARGETS[arguments.target]
    torch.set_num_threads(1)
    findings = Findings(target)
    for data in target.seeds():  # imports what is imported late
        findings(data)
    room = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + 2 * MAX_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    if atheris is None:
        end = time.monotonic() + arguments.seconds
        for data in mutations(target.seeds(), arguments.seed):
            if time.monotonic() > end:
                break
            findings(data)
        print(f"{findings.count} inputs, {len(findings.shortest)} findings, without coverage")
        return
    for function in (torch._weights_only_unpickler.Unpickler.load, np.lib.format.read_array):
        atheris.instrument_func(function)
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(target.seeds()):
            Path(corpus, str(number)).write_bytes(data)
        limits = ["-timeout=60", "-rss_limit_mb=4096", "-max_len=8192", f"-artifact_prefix={tempfile.gettempdir()}/"]
        atheris.Setup(
            [sys.argv[0], corpus, f"-max_total_time={arguments.seconds}", f"-seed={arguments.seed}", *limits], findings
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
