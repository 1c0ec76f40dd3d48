from __future__ import annotations

import importlib.util
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pyg_mmrec.features import import_library


def library(name: str) -> Any:
    """A library, or a skip where it is not installed."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return import_library(name)


@pytest.fixture(scope="session")
def text_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sentence-transformers model of two small layers over letters; not to be changed."""
    encoders = library("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder, letters = tmp_path_factory.mktemp("text_model"), string.ascii_lowercase
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ":", *letters, *(f"##{letter}" for letter in letters)]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    parts = [modules.Transformer(str(folder / "bert")), modules.Pooling(16)]
    encoders.SentenceTransformer(modules=parts, device="cpu").save(str(folder / "model"))
    return folder / "model"


@pytest.fixture(scope="session")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small timm model for images of 32 pixels; not to be changed."""
    timm = library("timm")
    from timm.models import save_for_hf

    folder = tmp_path_factory.mktemp("image_model") / "model"
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3)
    save_for_hf(model, folder, model_config={"pretrained_cfg": {"input_size": [3, 32, 32]}}, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, the fifth with the same bytes as the first, and of files that are none; not to be changed."""
    image = pytest.importorskip("PIL.Image")
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(4):
        image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    whole = (folder / "0.png").read_bytes()
    (folder / "4.png").write_bytes(whole)
    (folder / "short.png").write_bytes(whole[:900])
    (folder / "words.png").write_text("no picture")
    return folder
