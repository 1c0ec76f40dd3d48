from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from pyg_mmrec.cli import main
from pyg_mmrec.datasets import TableDataset, from_tables
from pyg_mmrec.features import ImageEncoder, TextEncoder
from pyg_mmrec.models import ModelCard

SALES = pd.DataFrame({"user": ["a", "b", "b", "c"], "item": [3, 1, 3, 9]})
ITEMS = pd.DataFrame(
    {
        "item": [1, 2, 3],
        "title": ["red pen", None, "ink"],
        "description": [None, " ", "in a bottle"],
        "image": ["0.png", "words.png", None],
        "x_audio_0": [1.0, 2.0, 3.0],
    }
)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is encoded is kept below the test's folder."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_texts_and_images_of_tables_become_features(
    text_model: Path, image_model: Path, pictures: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="are marked as missing") as caught:
        data, ids = from_tables(
            SALES, ITEMS, image_root=pictures, text_encoder=text_model, image_encoder=str(image_model)
        )
    notes = [str(warning.message) for warning in caught]
    assert "'items': 2 items have no text, and are marked as missing" in notes
    assert (
        "'items': 3 items have no image, 1 of them with a file that is missing or broken, and are marked as missing"
        in notes
    )
    item = data["item"]
    assert ids.of("item", range(4)) == [1, 2, 3, 9]
    assert item.mask_text.tolist() == [True, False, True, False]
    assert item.mask_image.tolist() == [True, False, False, False]
    x, _ = TextEncoder(text_model).encode(["red pen", "ink in a bottle"])
    assert torch.equal(item.x_text[[0, 2]], x)
    assert torch.equal(item.x_image[0], ImageEncoder(image_model).encode([str(pictures / "0.png")])[0][0])
    assert item.x_audio.flatten().tolist() == [1, 2, 3, 0]
    assert {name: entry["model"] for name, entry in item.provenance.items()} == {
        "text": str(text_model),
        "image": str(image_model),
    }
    assert (tmp_path / "home/.cache/pyg_mmrec/features").is_dir()


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_encoders_with_options_are_taken(text_model: Path, image_model: Path, pictures: Path, tmp_path: Path) -> None:
    encoder = TextEncoder(text_model, modality="words", prompt="ab: ", cache_dir=tmp_path / "cache")
    images = ImageEncoder(image_model, cache_dir=tmp_path / "cache")
    data, _ = from_tables(
        SALES,
        ITEMS,
        features={"text": "x_audio_"},
        text_encoder=encoder,
        image_encoder=images,
        image_root=pictures,
        image_size=8,
    )
    assert data["item"].x_text.shape == (4, 1)
    assert data["item"].x_words.shape == (4, 16)
    assert data["item"].provenance["words"]["prompt"] == "ab: "
    assert data["item"].image.shape == (4, 3, 8, 8)
    assert data["item"].mask_image.tolist() == [True, False, False, False]
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text_encoder": 3}, "'text_encoder' must be the folder or name of a model, or a TextEncoder"),
        ({"image_encoder": "TEXT"}, "'image_encoder' must be the folder or name of a model, or a ImageEncoder"),
        ({"text_encoder": "TEXT", "columns": {"text": ["name"]}}, "'items' has no column 'name'"),
        ({"text_encoder": "TEXT", "items": None}, "'text_encoder' reads columns of items: pass their table as 'items'"),
        ({"text_encoder": "TEXT", "items": ITEMS[["item"]]}, r"'text_encoder' needs texts but 'items' has none; name"),
        (
            {"image_encoder": "IMAGE", "items": ITEMS[["item"]]},
            r"'image_encoder' needs paths of images but",
        ),
        (
            {"text_encoder": "AUDIO"},
            r"'text_encoder' writes x_audio, which 'items' or 'features' gives too",
        ),
        ({"text_encoder": "PHOTO", "image_encoder": "IMAGE"}, "both write the modality 'image'"),
    ],
)
def test_what_cannot_be_encoded_is_refused(
    arguments: dict[str, Any], message: str, text_model: Path, image_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (TextEncoder, ImageEncoder):
        monkeypatch.setattr(kind, "_load", lambda self: pytest.fail("a model is loaded"))
    made = {
        "TEXT": TextEncoder(text_model),
        "AUDIO": TextEncoder(text_model, modality="audio"),
        "PHOTO": TextEncoder(text_model, modality="image"),
        "IMAGE": ImageEncoder(image_model),
    }
    given = {name: made.get(value, value) if isinstance(value, str) else value for name, value in arguments.items()}
    with pytest.raises(ValueError, match=message):
        from_tables(SALES, **{"items": ITEMS, **given})


@pytest.fixture
def files(tmp_path: Path, pictures: Path) -> dict[str, Path]:
    """The tables as files, with pictures beside them."""
    paths = {"interactions": tmp_path / "sales.csv", "items": tmp_path / "items.csv"}
    SALES.to_csv(paths["interactions"], index=False)
    ITEMS.to_csv(paths["items"], index=False)
    for path in pictures.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return paths


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_data_set_of_tables_is_read_once_per_content_and_model(
    files: dict[str, Path], text_model: Path, image_model: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened() -> TableDataset:
        return TableDataset(**files, text_encoder=text_model, image_encoder=image_model)

    first = opened()[0]["item"]
    expected = from_tables(**files, text_encoder=text_model, image_encoder=image_model)[0]["item"]
    for key in ("x_text", "mask_text", "x_image", "mask_image"):
        assert torch.equal(first[key], expected[key])
    assert first.provenance == expected.provenance
    with monkeypatch.context() as patch:
        patch.setattr(TextEncoder, "encode", lambda *args: pytest.fail("the cache is not used"))
        again = opened()[0]["item"]
    assert torch.equal(again.x_text, first.x_text)
    assert again.provenance == first.provenance
    assert "provenance" not in TableDataset(**files)[0]["item"]
    (files["items"].parent / "0.png").write_bytes((pictures / "2.png").read_bytes())
    changed = opened()[0]["item"]
    assert torch.equal(changed.x_text, first.x_text)
    assert not torch.allclose(changed.x_image[0], first.x_image[0])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_command_encodes_and_the_card_says_by_what(
    text_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], failure: Callable[..., str]
) -> None:
    sales = [(user, item) for user in range(8) for item in range(24) if (user + item) % 2]
    items = [(item, f"text {chr(97 + item)}") for item in range(24)]
    pd.DataFrame(sales, columns=["user", "item"]).to_csv(tmp_path / "sales.csv", index=False)
    pd.DataFrame(items, columns=["item", "title"]).to_csv(tmp_path / "items.csv", index=False)
    data = ["--dataset", "TableDataset", "--dataset.interactions", str(tmp_path / "sales.csv")]
    data += ["--dataset.items", str(tmp_path / "items.csv"), "--dataset.text_encoder", str(text_model)]
    short = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.progress", "false"]
    main(["train", "--model", "VBPR", *data, *short, "--run_dir", str(tmp_path / "run")])
    card = ModelCard.load(tmp_path / "run" / "model")
    assert card.data["modalities"] == ["text"]
    assert card.data["features"]["text"]["library"] == "sentence-transformers"
    assert "sentence-transformers" in (tmp_path / "run" / "model" / "README.md").read_text()
    assert str(text_model) in (tmp_path / "run" / "config.yaml").read_text()
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main(["recommend", str(tmp_path / "run"), "--users", "3", "--k", "2"])
    assert capsys.readouterr().out.startswith("user,rank,item,score\n3,1,")
    data[-1] = str(tmp_path / "none")
    assert "no folder" in failure("train", "--model", "VBPR", *data, "--run_dir", tmp_path / "other")
    assert not (tmp_path / "other").exists()
    assert json.loads((tmp_path / "run" / "model" / "card.json").read_text())["data"]["features"]
