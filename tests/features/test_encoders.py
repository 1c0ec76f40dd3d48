from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.features import ImageEncoder, TextEncoder
from pyg_mmrec.features import encoder as encoder_module
from pyg_mmrec.features._store import VectorStore

TEXTS = ["red pen", "", "blue ink, in a bottle", "  ", "red pen ", "paper"]


def names(folder: Path, *files: str) -> list[str]:
    """Paths in a folder, empty ones left as they are."""
    return [str(folder / name) if name else "" for name in files]


def graph(size: int, **attributes: Any) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 1, size
    data["item"].update(attributes)
    return data


class Counting(TextEncoder):
    """Encodes by the model, counts the texts, and stops after some of them."""

    stop_after: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[str] = []

    def _embed(self, contents: Sequence[str]) -> tuple[Tensor | None, list[bool]]:
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += contents
        return super()._embed(contents)


def test_texts_become_what_the_model_gives(text_model: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    x, mask = TextEncoder(text_model, cache_dir=tmp_path, device="cpu").encode(TEXTS)
    expected = torch.from_numpy(SentenceTransformer(str(text_model), device="cpu").encode(["red pen", "paper"]))
    assert mask.tolist() == [True, False, True, False, True, True]
    assert x.shape == (6, 16)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x[[0, 5]], expected)
    assert torch.equal(x[0], x[4])
    assert x[[1, 3]].count_nonzero() == 0
    assert not torch.allclose(x[0], x[2])


def test_a_prompt_comes_before_each_text(text_model: Path, tmp_path: Path) -> None:
    x, _ = TextEncoder(text_model, cache_dir=tmp_path, prompt="ab: ").encode(["pen"])
    written, _ = TextEncoder(text_model, cache_dir=tmp_path).encode(["ab: pen", "pen"])
    torch.testing.assert_close(x[0], written[0])
    assert not torch.allclose(x[0], written[1])


def test_images_become_what_the_model_gives(image_model: Path, pictures: Path, tmp_path: Path) -> None:
    import timm
    from PIL import Image

    files = names(pictures, "0.png", "", "short.png", "1.png", "words.png", "4.png", "none.png")
    x, mask = ImageEncoder(image_model, cache_dir=tmp_path, device="cpu", batch_size=2).encode(files)
    model = timm.create_model(f"local-dir:{image_model}", pretrained=True, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    pixels = torch.stack([transform(Image.open(pictures / name)) for name in ("0.png", "1.png")])
    assert pixels.shape == (2, 3, 32, 32)
    with torch.no_grad():
        expected = model(pixels)
    assert mask.tolist() == [True, False, False, True, False, True, False]
    torch.testing.assert_close(x[[0, 3]], expected)
    assert torch.equal(x[0], x[5])
    assert x[~mask].count_nonzero() == 0


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_batches_do_not_matter(text_model: Path, tmp_path: Path, batch_size: int) -> None:
    texts = [f"a text of {'many ' * (n % 7)}words {chr(97 + n)}" for n in range(20)]
    x, _ = TextEncoder(text_model, cache_dir=tmp_path / "one").encode(texts)
    other, _ = TextEncoder(text_model, cache_dir=tmp_path / "two", batch_size=batch_size).encode(texts)
    torch.testing.assert_close(x, other)


def test_nothing_is_encoded_twice(text_model: Path, tmp_path: Path) -> None:
    first = Counting(text_model, cache_dir=tmp_path)
    x, _ = first.encode(TEXTS)
    assert sorted(first.seen) == ["blue ink, in a bottle", "paper", "red pen"]
    again = Counting(text_model, cache_dir=tmp_path)
    y, _ = again.encode([*TEXTS, "more"])
    assert again.seen == ["more"]
    assert torch.equal(x, y[:6])
    third = Counting(text_model, cache_dir=tmp_path)
    third.encode(["more", "paper"])
    assert third.seen == []
    assert third._network is None  # not even loaded


def test_images_are_known_by_their_bytes(
    image_model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _ = ImageEncoder(image_model, cache_dir=tmp_path / "cache").encode(names(pictures, "0.png", "1.png"))
    moved, changed = tmp_path / "moved.png", tmp_path / "changed.png"
    moved.write_bytes((pictures / "1.png").read_bytes())
    monkeypatch.setattr(ImageEncoder, "_load", lambda self: pytest.fail("the model is loaded"))
    y, _ = ImageEncoder(image_model, cache_dir=tmp_path / "cache").encode([str(moved)])
    assert torch.equal(x[1], y[0])
    monkeypatch.undo()
    changed.write_bytes((pictures / "2.png").read_bytes())
    z, _ = ImageEncoder(image_model, cache_dir=tmp_path / "cache").encode([str(changed)])
    assert not torch.allclose(x[1], z[0])


def test_another_model_is_not_taken_for_this_one(text_model: Path, tmp_path: Path) -> None:
    import safetensors.torch

    cache, moved, other = tmp_path / "cache", tmp_path / "moved", tmp_path / "other"
    shutil.copytree(text_model, moved)
    shutil.copytree(text_model, other)
    weights = safetensors.torch.load_file(other / "model.safetensors")
    safetensors.torch.save_file(
        {name: 2 * value for name, value in weights.items()}, other / "model.safetensors", {"format": "pt"}
    )
    first = Counting(text_model, cache_dir=cache)
    x, _ = first.encode(["pen"])
    same = Counting(moved, cache_dir=cache)
    assert torch.equal(same.encode(["pen"])[0], x)
    assert same.seen == []
    assert same.provenance["sha256"] == first.provenance["sha256"]
    changed = Counting(other, cache_dir=cache)
    assert not torch.allclose(changed.encode(["pen"])[0], x)
    assert changed.seen == ["pen"]
    assert changed.provenance["sha256"] != first.provenance["sha256"]


def test_a_stopped_run_goes_on(text_model: Path, tmp_path: Path) -> None:
    texts = [f"pen {chr(97 + n)}" for n in range(10)]
    stopped = Counting(text_model, cache_dir=tmp_path, batch_size=2)
    stopped.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        stopped.encode(texts)
    rest = Counting(text_model, cache_dir=tmp_path, batch_size=2)
    x, mask = rest.encode(texts)
    assert sorted(stopped.seen + rest.seen) == texts
    assert len(rest.seen) == 4
    assert mask.all()
    whole, _ = TextEncoder(text_model, cache_dir=tmp_path / "other").encode(texts)
    torch.testing.assert_close(x, whole)


KILLED = """
import sys, time
from pyg_mmrec.features import TextEncoder, encoder
encoder._KEEP_EVERY = 0.0
class Slow(TextEncoder):
    def _embed(self, contents):
        time.sleep(0.3)
        return super()._embed(contents)
Slow(sys.argv[1], cache_dir=sys.argv[2], batch_size=1).encode([f"pen {chr(97 + n)}" for n in range(20)])
"""


@pytest.mark.slow
def test_a_killed_run_goes_on(text_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(text_model), str(tmp_path)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 200
        while len(list(tmp_path.glob("*/*.safetensors"))) < 3:
            assert time.monotonic() < limit
            assert running.poll() is None
            time.sleep(0.05)
    finally:
        running.send_signal(signal.SIGKILL)
        running.wait()
    rest = Counting(text_model, cache_dir=tmp_path)
    _, mask = rest.encode([f"pen {chr(97 + n)}" for n in range(20)])
    assert mask.all()
    assert 0 < len(rest.seen) <= 17


def test_what_is_damaged_is_encoded_again(text_model: Path, tmp_path: Path) -> None:
    x, _ = TextEncoder(text_model, cache_dir=tmp_path).encode(["pen", "ink"])
    (part,) = tmp_path.glob("*/*.safetensors")
    part.write_bytes(part.read_bytes()[:40])
    again = Counting(text_model, cache_dir=tmp_path)
    with pytest.warns(UserWarning, match="was damaged .*encoded again"):
        y, _ = again.encode(["pen", "ink"])
    assert sorted(again.seen) == ["ink", "pen"]
    assert torch.equal(x, y)
    last = Counting(text_model, cache_dir=tmp_path)
    last.encode(["pen", "ink"])
    assert last.seen == []


def test_without_a_place_to_keep_it_the_work_goes_on(text_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    encoder = TextEncoder(text_model, cache_dir=tmp_path / "file")
    with pytest.warns(UserWarning, match="cannot be written .* pass another 'cache_dir'"):
        x, mask = encoder.encode(["pen", "ink"])
    assert mask.all()
    assert x.any()


def test_a_transform_writes_features_masks_and_where_they_come_from(
    text_model: Path, image_model: Path, pictures: Path, tmp_path: Path
) -> None:
    files = names(pictures, "0.png", "words.png", "", "1.png")
    data = graph(4, text=["pen", "ink", "", "pad"], image_path=files, provenance={"audio": {}})
    with pytest.warns(UserWarning, match=r"data\['item'\]\.text: 1 items have no text, and are marked as missing"):
        texts = TextEncoder(text_model, cache_dir=tmp_path)(data)
    with pytest.warns(UserWarning, match="2 items have no image, 1 of them with a file that is missing or broken"):
        both = ImageEncoder(image_model, cache_dir=tmp_path, modality="photo")(texts)
    item = both["item"]
    assert item.x_text.shape == (4, 16)
    assert item.mask_text.tolist() == [True, True, False, True]
    assert item.x_photo.shape == (4, 96)
    assert item.mask_photo.tolist() == [True, False, False, True]
    assert set(item.provenance) == {"audio", "text", "photo"}
    assert json.loads(json.dumps(item.provenance["text"])) == {
        "library": "sentence-transformers",
        "version": importlib.metadata.version("sentence-transformers"),
        "model": str(text_model),
        "sha256": item.provenance["text"]["sha256"],
    }
    assert len(item.provenance["photo"]["sha256"]) == 64
    assert set(data["item"].provenance) == {"audio"}
    assert "x_text" not in data["item"]


def test_where_nothing_is_missing_there_is_no_mask(text_model: Path, tmp_path: Path) -> None:
    data = graph(2, text=["pen", "ink"], x_text=torch.ones(2, 3), mask_text=torch.tensor([True, False]))
    encoded = TextEncoder(text_model, cache_dir=tmp_path)(data)
    assert "mask_text" not in encoded["item"]
    assert encoded["item"].x_text.shape == (2, 16)


@pytest.mark.parametrize("kind", [TextEncoder, ImageEncoder])
def test_folders_without_a_model_are_refused(kind: type, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*none; 'model' must be a model's folder or name"):
        kind(tmp_path / "none")
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds no model: it has no .*config\.json"):
        kind(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        kind(tmp_path / "model.bin")


@pytest.mark.parametrize("broken", ["config.json", "model.safetensors"])
def test_broken_models_are_refused(
    text_model: Path, image_model: Path, pictures: Path, tmp_path: Path, broken: str
) -> None:
    for kind, source, content in (
        (TextEncoder, text_model, "pen"),
        (ImageEncoder, image_model, str(pictures / "0.png")),
    ):
        folder = tmp_path / kind.__name__
        shutil.copytree(source, folder)
        (folder / broken).write_bytes(b"{")
        encoder = kind(folder, cache_dir=tmp_path / "cache")
        with pytest.raises(ValueError, match=f"'model' '.*{kind.__name__}' cannot be loaded by") as error:
            encoder.encode([content])
        assert "\n" not in str(error.value)


def test_unknown_names_are_refused(image_model: Path, pictures: Path, tmp_path: Path) -> None:
    encoder = ImageEncoder("resnet_of_nobody", cache_dir=tmp_path)
    with pytest.raises(ValueError, match=r"is no folder, and cannot be loaded by timm \(Unknown model"):
        encoder.encode([str(pictures / "0.png")])


def test_a_model_of_a_name_is_known_by_its_weights(
    image_model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name of a model without a network: its loading is replaced."""
    local = ImageEncoder(image_model)._load()
    monkeypatch.setattr(ImageEncoder, "_load", lambda self: local)
    first = ImageEncoder("somebody_s_model", cache_dir=tmp_path)
    x, _ = first.encode([str(pictures / "0.png")])
    assert first.provenance["model"] == "somebody_s_model"
    assert first.provenance["sha256"] == ImageEncoder("other_name").provenance["sha256"]
    with torch.no_grad():
        next(local.model.parameters()).mul_(2)
    changed = ImageEncoder("somebody_s_model", cache_dir=tmp_path)
    assert changed.provenance["sha256"] != first.provenance["sha256"]
    assert not torch.allclose(changed.encode([str(pictures / "0.png")])[0], x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": 5}, "'model' must be a path"),
        ({"modality": "a b"}, "'modality' must be a word without a dot"),
        ({"batch_size": 0}, "'batch_size' must be positive"),
        ({"device": "gpu"}, "'device' must name a device such as 'cpu' or 'cuda:0' .got 'gpu'"),
        ({"device": "cuda:99"}, "'device' 'cuda:99' is not there"),
        ({"cache_dir": 3}, "'cache_dir' must be a path"),
        ({"prompt": 3}, "'prompt' must be a text"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=message):
        TextEncoder(**{"model": tmp_path, **arguments})


def test_contents_are_checked(text_model: Path, image_model: Path, pictures: Path, tmp_path: Path) -> None:
    texts, images = (
        kind(model, cache_dir=tmp_path) for kind, model in ((TextEncoder, text_model), (ImageEncoder, image_model))
    )
    for contents in ("pen", ["pen", 3]):
        with pytest.raises(ValueError, match="'contents' must be a list of texts"):
            texts.encode(contents)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="none of 2 texts can be encoded; all are empty"):
        texts.encode(["", " "])
    with pytest.raises(ValueError, match=r"none of 1 images can be encoded; check the paths, such as '.*words\.png'"):
        images.encode([str(pictures / "words.png")])
    with pytest.raises(ValueError, match="none of 1 images can be encoded; there is no path"):
        images.encode([""])
    with pytest.raises(ValueError, match=r"data\['item'\]\.text must be a list of 2 texts, '' for none \(got None\)"):
        texts(graph(2))
    with pytest.raises(ValueError, match=r"data\['item'\]\.image_path must be a list of 3 images"):
        images(graph(3, image_path=["a"]))


@pytest.mark.parametrize(
    ("x", "message"),
    [(torch.full((1, 4), torch.nan), "values that are not finite"), (torch.ones(1, 4, 2), r"of the shape \[4, 2\]")],
)
def test_what_is_no_vector_is_refused(
    x: Tensor, message: str, text_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextEncoder, "_embed", lambda self, contents: (x, [True]))
    with pytest.raises(ValueError, match=message):
        TextEncoder(text_model, cache_dir=tmp_path).encode(["pen"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "library"), [(TextEncoder, "sentence-transformers"), (ImageEncoder, "timm")])
def test_an_absent_library_names_the_extra(
    kind: type, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(encoder_module.importlib.metadata, "version", version)
    with pytest.raises(ImportError, match=rf"need {library}; install it with: pip install 'pyg-mmrec\[features\]'"):
        kind(tmp_path)


def test_a_store_finds_what_several_parts_hold(tmp_path: Path) -> None:
    keys = [bytes([n]) * 32 for n in range(6)]
    store = VectorStore(tmp_path / "deep" / "folder")
    assert store.read(keys)[0] is None
    store.add(keys[:2], torch.tensor([[1.0], [2.0]]))
    store.add(keys[1:4], torch.tensor([[2.0], [3.0], [4.0]]))
    x, has = store.read([keys[5], keys[3], keys[0], keys[1]])
    assert x is not None
    assert x.tolist() == [[0], [4], [1], [2]]
    assert has.tolist() == [False, True, True, True]
    assert store.read([])[1].numel() == 0
    assert not [path for path in os.listdir(store.folder) if path.startswith(".")]


def test_the_repr_names_the_model(text_model: Path) -> None:
    assert repr(TextEncoder(text_model)) == f"TextEncoder({str(text_model)!r}, modality='text')"
