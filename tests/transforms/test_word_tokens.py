from __future__ import annotations

import copy
import json
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark import prepare
from pyg_mmrec.datasets import MMRecDataset
from pyg_mmrec.models import BPRMF, FREEDOM
from pyg_mmrec.training import Trainer
from pyg_mmrec.transforms import ColdItemSplit, LabelSplit, LeaveLastOut, RandomSplit, TemporalSplit, WordTokens
from pyg_mmrec.transforms.split import InteractionSplit
from pyg_mmrec.typing import INTERACTS
from pyg_mmrec.utils import with_operators, word_vectors

#: Item 3 is held out, item 4 has no interaction.
TEXTS = ["Red pen, red ink!", "A pen; a blue Étui", "", "zebra zebra zebra pen", "zebra ink"]
SPLIT = [0, 0, 0, 2]


def whole(device: str = "cpu") -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 5
    data[INTERACTS].edge_index = torch.tensor([[0, 0, 1, 1], [0, 1, 2, 3]], device=device)
    data[INTERACTS].split = torch.tensor(SPLIT, device=device)
    return data


def quietly(transform: WordTokens, data: HeteroData) -> HeteroData:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out: HeteroData = transform(data)
    return out


# What it writes ------------------------------------------------------------------------------------------------------


def test_words_of_train_items_alone() -> None:
    transform = WordTokens(TEXTS, min_count=1)
    assert transform.vocabulary == []
    with pytest.warns(
        UserWarning, match="1 of 5 items have no word of the vocabulary and are marked as missing"
    ) as seen:
        data = transform(whole())
    assert seen[0].filename == __file__
    # by count, then alphabetically; runs of two letters or more, lower case; no "zebra", which only others have
    assert transform.vocabulary == ["", "pen", "red", "blue", "ink", "étui"]
    assert data["word"].text == transform.vocabulary
    assert data["word"].num_nodes == 6
    assert "x" not in data["word"]
    assert data["item"].tokens.tolist() == [[2, 1, 2, 4], [1, 3, 5, 0], [0] * 4, [1, 0, 0, 0], [4, 0, 0, 0]]
    assert data["item"].tokens.dtype == torch.int64
    assert data["item"].mask_tokens.tolist() == [True, True, False, True, True]


def test_the_input_stays_as_it_was() -> None:
    data = whole()
    before = copy.copy(data).to_dict()
    quietly(WordTokens(TEXTS, min_count=1), data)
    assert data.to_dict() == before
    assert data.node_types == ["user", "item"]


def test_a_view_counts_its_train_edges() -> None:
    data = whole()
    data[INTERACTS].edge_index = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 3]])
    data[INTERACTS].split = torch.tensor([0, 0, 1, 2])
    views = LabelSplit()(data)
    transform = WordTokens(TEXTS, min_count=1)
    tokens = [quietly(transform, view)["item"].tokens for view in (data, *views)]
    assert all(torch.equal(tokens[0], other) for other in tokens)
    assert "zebra" not in transform.vocabulary
    del data[INTERACTS].split  # as if nothing were held out
    quietly(transform, data)
    assert "zebra" in transform.vocabulary


def test_options() -> None:
    assert quietly(WordTokens(TEXTS, min_count=2), whole())["word"].text == ["", "pen", "red"]
    assert quietly(WordTokens(TEXTS, min_count=1, max_words=3), whole())["word"].text == ["", "pen", "red", "blue"]
    short = quietly(WordTokens(TEXTS, min_count=1, max_length=2), whole())
    assert short["item"].tokens.tolist() == [[2, 1], [1, 3], [0, 0], [1, 0], [4, 0]]
    assert short["word"].num_nodes == 6  # the vocabulary knows the whole texts
    texts = ["the pen of the month", "an ink and the pen", "more", "", ""]
    assert "the" in quietly(WordTokens(texts, min_count=1), whole())["word"].text
    dropped = quietly(WordTokens(texts, min_count=1, stop_words="english"), whole())
    assert dropped["word"].text == ["", "pen", "ink", "month"]


def test_no_mask_where_all_items_have_words() -> None:
    data = quietly(WordTokens(TEXTS, min_count=1), whole())
    assert "mask_tokens" in data["item"]
    data["word"].x = torch.ones(6, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = WordTokens(["pen"] * 5, min_count=1)(data)
    assert "mask_tokens" not in again["item"]
    assert set(again["word"].keys()) == {"num_nodes", "text"}  # nothing of the former words
    assert again["item"].tokens.tolist() == [[1]] * 5
    assert "mask_tokens" in data["item"]


def test_repr() -> None:
    assert repr(WordTokens(TEXTS, vectors="glove.txt")) == (
        "WordTokens(<5 texts>, max_length=200, min_count=5, max_words=None, stop_words=None, vectors='glove.txt')"
    )


# Vectors from a file -------------------------------------------------------------------------------------------------

VECTORS = "zebra 9 9\npen 1 -2.5\nétui 1e-1 0\npen 7 7\nred -0.5 4\n"


@pytest.mark.parametrize("header", ["", "5 2\n"])
@pytest.mark.parametrize("change", [("", ""), ("\n", "\r\n"), ("\n", " \n"), (" ", "\t"), ("pen 1", "pen  1")])
def test_vectors(tmp_path: Path, header: str, change: tuple[str, str]) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(header + (VECTORS.replace(*change) if change[0] else VECTORS), encoding="utf-8", newline="")
    with pytest.warns(UserWarning, match="missing|lacks") as seen:
        data = WordTokens(TEXTS, min_count=1, vectors=path)(whole())
    assert str(seen[-1].message) == "vectors.txt lacks 2 of 5 words; their vectors are zero"
    # padding, pen (the first of two), red, blue, ink, étui
    assert data["word"].x.tolist() == [[0, 0], [1, -2.5], [-0.5, 4], [0, 0], [0, 0], [pytest.approx(0.1), 0]]
    assert data["word"].x.dtype == torch.float32


def test_words_with_spaces_and_odd_bytes_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_bytes(b"the 0 1\n. . . 3 4\nat name@domain.com 3 4\n\xff\xfe 1 1\na\xc2\xa0b 5 6\npen 1 2\n0.5 3 4")
    data = quietly(WordTokens(TEXTS, min_count=1, vectors=str(path)), whole())
    assert data["word"].x[1].tolist() == [1, 2]
    assert data["word"].x.count_nonzero() == 2


def test_only_the_words_are_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("".join(f"word{i} {i} x\n" for i in range(3000)) + "pen 1 2\n")  # numbers of others are not read
    monkeypatch.setattr(Path, "read_bytes", None)
    monkeypatch.setattr(Path, "read_text", None)
    assert quietly(WordTokens(TEXTS, min_count=1, vectors=path), whole())["word"].x[1].tolist() == [1, 2]


BAD_VECTORS: dict[str, tuple[bytes, str]] = {
    "no number": (b"pen\nred\n", "vectors.txt line 1 must be a word and its numbers, separated by spaces"),
    "empty": (b"", "vectors.txt line 1 must be a word and its numbers"),
    "short row": (b"red 1 2\npen 1\n", "vectors.txt line 2 must be a word and 2 numbers, as in line 1 (got 2 fields)"),
    "short row of another word": (b"2 2\npen 1 2\nzebra 1\n", "vectors.txt line 3 must be a word and 2 numbers"),
    "long row": (b"red 1 2\npen 1 2 3\n", "vectors.txt line 2 must be a word and 2 numbers, as in line 1 (got 4"),
    "long row of another word": (b"red 1 2\nzebra 1 2 3\n", "vectors.txt line 2 must be a word and 2 numbers"),
    "blank row": (b"red 1 2\n\npen 1 2\n", "vectors.txt line 2 must be a word and 2 numbers"),
    "text": (b"2 2\nred 1 2\npen 1 x\n", "vectors.txt line 3: 'x' must be a finite number"),
    "NaN": (b"red 1 2\npen nan 2\n", "vectors.txt line 2: 'nan' must be a finite number"),
    "too large": (b"red 1 2\npen 1 1e39\n", "vectors.txt line 2: '1e39' must be a finite number"),
    "truncated": (b"3 2\nred 1 2\npen 1 2\n", "vectors.txt has 2 words but line 1 says 3; get the whole file"),
    "other words": (b"rot 1 2\nTinte 1 2\n", "vectors.txt has none of the 5 words"),
    "binary": (b"2 2\npen \0\0\x80?\0\0\0@\nred \0\0\x80?\0\0\0@", "vectors.txt line 2 must be a word and 2 numbers"),
    "a number beyond all": (b"9" * 5000 + b" " + b"9" * 5000 + b"\nzebra 1\n", "vectors.txt has none of the 5 words"),
}


@pytest.mark.parametrize("case", BAD_VECTORS)
def test_bad_vectors_name_the_line(tmp_path: Path, case: str) -> None:
    content, message = BAD_VECTORS[case]
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"vectors\.txt") as caught:
        WordTokens(TEXTS, min_count=1, vectors=path)(whole())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.txt cannot be read \(No such file or directory\)"):
        WordTokens(TEXTS, min_count=1, vectors=tmp_path / "no.txt")(whole())


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "pen"}, "'texts' must be a list of texts, one per item (got str)"),
        ({"texts": ["pen", None]}, "'texts' must be a list of texts (entry 1 is None); write '' for no text"),
        ({"max_length": 0}, "'max_length' must be positive (got 0)"),
        ({"min_count": 0}, "'min_count' must be positive (got 0)"),
        ({"max_words": 0}, "'max_words' must be positive (got 0)"),
        ({"stop_words": "german"}, "'stop_words' must be 'english' or None (got 'german')"),
        ({"vectors": 3}, "'vectors' must be a path, a text or a pathlib.Path (got 3)"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^'\w+' must") as caught:
        WordTokens(**{"texts": TEXTS, **arguments})
    assert str(caught.value) == message


def test_bad_data() -> None:
    with pytest.raises(ValueError, match=r"'texts' must have one text per item, 5 \(got 2\)"):
        WordTokens(["a", "b"])(whole())
    with pytest.raises(
        ValueError, match="'texts': no word occurs 5 times in the texts of the 3 items with train inter"
    ):
        WordTokens(TEXTS)(whole())
    data = whole()
    data[INTERACTS].split = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"'split' must have one entry per interaction, 4 \(got \[2\]\)"):
        WordTokens(TEXTS, min_count=1)(data)
    data[INTERACTS].edge_index = torch.tensor([[0], [9]])
    with pytest.raises(ValueError, match=r"names items outside 0\.\.4"):
        WordTokens(TEXTS, min_count=1)(data)


# Words as a node type, with the rest of the package -----------------------------------------------------------------


def with_words(data: HeteroData) -> HeteroData:
    """The same graph with words; text t of item i has word t of block i modulo 4."""
    names = ("ash", "birch", "cedar", "elm")
    texts = [f"{names[item % 4]} wood {names[item % 4]}" for item in range(data["item"].num_nodes)]
    return WordTokens(texts, min_count=1)(data)


def timed(tiny_split: tuple[HeteroData, HeteroData, HeteroData]) -> HeteroData:
    """The parts of a split as one graph, before any split."""
    data = copy.copy(tiny_split[0])
    parts = [view[INTERACTS].edge_label_index for view in tiny_split]
    store = data[INTERACTS]
    del store.edge_label_index, data["user"].seen_ptr, data["user"].seen_item
    store.edge_index = torch.cat(parts, dim=1)
    store.split = torch.cat([torch.full((part.size(1),), label) for label, part in enumerate(parts)])
    store.time = torch.arange(store.edge_index.size(1))
    return with_words(data)


@pytest.mark.parametrize("split", [LabelSplit(), RandomSplit(), LeaveLastOut(), TemporalSplit(), ColdItemSplit()])
def test_splits_keep_the_words(tiny_split: Any, split: InteractionSplit) -> None:
    data = timed(tiny_split)
    for view in split(data):
        assert view.node_types == ["user", "item", "word"]
        assert view["item"].tokens is data["item"].tokens  # shared
        assert view["word"].text == data["word"].text


def test_operators_devices_and_copies(tiny_data: HeteroData) -> None:
    data = with_words(tiny_data)
    data["word"].x = word_vectors(data["item"].tokens, data["word"].num_nodes, 2)
    view = with_operators(data)
    assert view["word"].x is data["word"].x
    moved = view.to("meta")
    assert moved["word"].x.device.type == moved["item"].tokens.device.type == "meta"
    assert moved["word"].text == ["", "wood", "ash", "birch", "cedar", "elm"]
    clone = copy.deepcopy(data)
    assert clone["word"].text == data["word"].text
    with pytest.warns(UserWarning, match="isolated"):  # PyG: "may be intended"
        assert data.validate()


def test_prepare_and_train(tiny_split: Any, tmp_path: Path) -> None:
    data = timed(tiny_split)
    views = prepare(data, [FREEDOM, BPRMF])
    assert all("word" in view.node_types for view in views)
    scores = []
    for given in (views, prepare(timed(tiny_split), [BPRMF])):
        torch.manual_seed(0)
        model = BPRMF.from_data(given[0], hidden_channels=8)
        trainer = Trainer(max_epochs=2, batch_size=64, accelerator="cpu", progress=False)
        scores.append(trainer.fit(model, *given).test)
    assert scores[0] == scores[1]


def test_words_survive_a_file(tiny_data: HeteroData, tmp_path: Path) -> None:
    data = with_words(tiny_data)
    torch.save(data.to_dict(), tmp_path / "data.pt")
    loaded = HeteroData.from_dict(torch.load(tmp_path / "data.pt", weights_only=True))
    assert loaded["word"].text == data["word"].text
    assert loaded["word"].num_nodes == 6
    assert torch.equal(loaded["item"].tokens, data["item"].tokens)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_tokens_are_where_the_interactions_are() -> None:
    data = quietly(WordTokens(TEXTS, min_count=1), whole("cuda"))
    assert data["item"].tokens.is_cuda
    assert data["item"].mask_tokens.is_cuda


# Real data -----------------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_office(data_root: Path, tmp_path: Path) -> None:
    entries = json.loads((data_root / "office" / "item_text.json").read_text(encoding="utf-8"))
    texts = [f"{entry['title']} {entry['description']}" for entry in entries]
    transform = WordTokens(texts, stop_words="english")
    with pytest.warns(UserWarning, match="1 of 2420 items have no word"):
        dataset = MMRecDataset(data_root, "office", cache_dir=tmp_path, modalities=[], pre_transform=transform)
    data = dataset[0]
    assert data["item"].tokens.shape == (2420, 200)
    assert 4000 < data["word"].num_nodes < 5000
    assert {"ink", "paper", "printer", "pen"} < set(transform.vocabulary[:100])
    assert "the" not in transform.vocabulary
    used = data["item"].tokens[data["item"].tokens > 0]
    assert used.max() == data["word"].num_nodes - 1

    store = data[INTERACTS]
    train = store.edge_index[1, store.split == 0].unique()
    assert train.numel() < 2420  # some items are in no train interaction
    count = Counter(word for item in train.tolist() for word in re.findall(r"\b\w\w+\b", texts[item].lower()))
    expected = {word for word, number in count.items() if number >= 5} - ENGLISH_STOP_WORDS
    assert set(transform.vocabulary[1:]) == expected
    views = prepare(data, [BPRMF])
    assert views[0]["item"].tokens is data["item"].tokens
