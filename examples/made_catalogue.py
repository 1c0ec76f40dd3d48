"""Writes a small made-up catalogue as tables and images, and encoders to try the steps with; see walk.py."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from pyg_mmrec.datasets import AttributeShop
from pyg_mmrec.features import import_library


def write_catalogue(folder: Path, num_users: int, num_items: int) -> None:
    """Writes interactions.csv, items.csv, users.csv and images/*.png; one image is broken and one text empty."""
    shop = AttributeShop(folder / "shop", num_users=num_users, num_items=num_items)
    data = shop[0]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    items = []
    for item, pixels in enumerate(data["item"].image):
        name = f"images/{item:04d}.png"
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / name)
        items.append((f"P{item:04d}", shop.text(item), name))
    items[0] = (items[0][0], "", items[0][2])
    (folder / items[1][2]).write_bytes(b"not an image")
    edges = data["user", "interacts", "item"]
    rows = zip(edges.edge_index[0].tolist(), edges.edge_index[1].tolist(), edges.time.tolist(), strict=True)
    sales = [(f"user-{user}", f"P{item:04d}", time) for user, item, time in rows]
    users = [(f"user-{user}", "made up") for user in range(num_users)] + [("newcomer", "made up")]
    _write(folder / "items.csv", ("product_id", "description", "image"), items)
    _write(folder / "users.csv", ("customer_id", "origin"), users)
    _write(folder / "interactions.csv", ("customer_id", "product_id", "timestamp"), sales)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])


def write_text_model(folder: Path, texts: Iterable[str]) -> None:
    """Writes a text encoder that nobody trained: one random vector a word, and their mean for a text."""
    library = import_library("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    torch.manual_seed(0)
    words = sorted({word.strip(".,") for text in texts for word in text.split()})
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(["[UNK]", *words])}, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    library.SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=64)]).save(str(folder))


def write_image_model(folder: Path) -> None:
    """Writes an image encoder that nobody trained: a small residual network with random weights."""
    timm = import_library("timm")
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=2)
    timm.models.save_for_hf(
        model, folder, model_config={"pretrained_cfg": {"input_size": [3, 32, 32]}}, safe_serialization=True
    )
