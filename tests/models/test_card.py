from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from pyg_mmrec.models import BPRMF, ModelCard, Recommender

CARD = ModelCard(
    data={"dataset": "shop", "num_users": 2, "note": "a | b"},
    metrics={"test_recall@20": 0.25},
    protocol="random; seed 0",
    licence="cc-by-4.0",
)


def test_a_card_comes_back(tmp_path: Path) -> None:
    BPRMF(2, 3, hidden_channels=4).save_pretrained(tmp_path, CARD)
    assert ModelCard.load(tmp_path) == CARD
    assert isinstance(Recommender.from_pretrained(tmp_path), BPRMF)
    content = json.loads((tmp_path / "card.json").read_text())
    assert content["model"] == "BPRMF"
    assert (content["licence"], content["metrics"]) == ("cc-by-4.0", {"test_recall@20": 0.25})


def test_the_page(tmp_path: Path) -> None:
    BPRMF(2, 3, hidden_channels=4).save_pretrained(tmp_path, CARD)
    page = (tmp_path / "README.md").read_text().splitlines()
    assert page[:6] == ["---", "library_name: pyg_mmrec", "tags: [recommendation]", 'license: "cc-by-4.0"', "---", ""]
    for line in ("# BPRMF", "| hidden_channels | 4 |", "| weights | 20 |", "| note | a \\| b |", "random; seed 0"):
        assert line in page
    assert "| test_recall@20 | 0.2500 |" in page


def test_nothing_is_known(tmp_path: Path) -> None:
    BPRMF(2, 3).save_pretrained(tmp_path)
    assert ModelCard.load(tmp_path) == ModelCard()
    page = (tmp_path / "README.md").read_text()
    assert page.count("Not stated.") == 4
    assert "license" not in page


def test_a_card_may_follow(tmp_path: Path) -> None:
    BPRMF(2, 3).save_pretrained(tmp_path)
    CARD.save(tmp_path)
    assert ModelCard.load(tmp_path) == CARD
    with pytest.raises(FileNotFoundError, match=r"has no config.json"):
        CARD.save(tmp_path.parent)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": ["shop"]}, "'data' must be a dictionary from names to values"),
        ({"metrics": {"recall": "high"}}, "'metrics.recall' must be a number"),
        ({"metrics": {"recall": float("nan")}}, "'metrics.recall' must be finite"),
        ({"protocol": 3}, "'protocol' must be a text"),
        ({"licence": None}, "'licence' must be a text"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelCard(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"data": 3, "metrics": {}, "protocol": "", "licence": ""}'])
def test_a_damaged_card(tmp_path: Path, text: str) -> None:
    BPRMF(2, 3).save_pretrained(tmp_path)
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(ValueError, match=r"card.json' is no model card .*: write it anew with ModelCard.save"):
        ModelCard.load(tmp_path)
    (tmp_path / "card.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no card\.json"):
        ModelCard.load(tmp_path)


def test_other_weights_of_the_same_shapes_are_refused(tmp_path: Path) -> None:
    model = BPRMF(2, 3)
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: weight + 1 for name, weight in weights.items()}, path)
    with pytest.raises(
        ValueError, match=r"are not those that its config.json was saved with: model.safetensors was ch"
    ):
        Recommender.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    again = Recommender.from_pretrained(tmp_path)
    assert all(torch.equal(weight, model.state_dict()[name]) for name, weight in again.state_dict().items())


@pytest.mark.parametrize("version", [2, "1", None])
def test_another_format_is_refused(tmp_path: Path, version: object) -> None:
    BPRMF(2, 3).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": version}))
    with pytest.raises(ValueError, match=r"is of format .* but this version of pyg_mmrec reads format 1: load it with"):
        Recommender.from_pretrained(tmp_path)
