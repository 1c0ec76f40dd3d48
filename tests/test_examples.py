from __future__ import annotations

import ast
import importlib.util
import re
import runpy
import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest

from pyg_mmrec.cli import main
from pyg_mmrec.models import ModelCard

EXAMPLES = Path(__file__).parents[1] / "examples"


REPORTS = {
    "sea.py": {"probes.csv", "information.csv", "alignment.csv", "tsne.csv", "tsne.png", "probes.png"},
    "mdr.py": {
        *(f"{name}.csv" for name in ("labels", "probes", "scores", "shares")),
        "colour.png",
        "shape.png",
        "texture.png",
    },
    "mmil.py": {"recovery.csv", "shift.csv"},
    "drepmrec.py": {"ranking.csv", "distance.csv", "tsne.csv", "tsne.png", "ranking.png"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTS)
def test_an_example_writes_its_report(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--root", str(tmp_path / "shop"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [name, "--small", *folders])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert "recall@20" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == REPORTS[name]


@pytest.mark.slow
def test_the_walk_ends_in_a_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for library in ("sentence_transformers", "timm", "uvicorn"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(EXAMPLES))
    folder = tmp_path / "walk"
    monkeypatch.setattr(sys, "argv", ["walk.py", "--folder", str(folder), "--epochs", "3"])
    with pytest.warns(UserWarning, match="1 items have no image, 1 of them with a file that is missing or broken"):
        runpy.run_path(str(EXAMPLES / "walk.py"), run_name="__main__")
    printed = capsys.readouterr().out
    items = re.findall(r"P\d{4}", re.search(r"^user-0: (.*)$", printed, re.MULTILINE)[1])
    sales = pd.read_csv(folder / "interactions.csv")
    assert len(set(items)) == 3
    assert not set(items) & set(sales["product_id"][sales["customer_id"] == "user-0"])
    popular = sales["product_id"].value_counts()
    first = re.search(r"^newcomer: (P\d{4})", printed, re.MULTILINE)
    assert first is not None
    assert popular[first[1]] == popular.max()
    answer = ast.literal_eval(printed.partition("the service: ")[2])
    assert answer["user"] == "user-0"
    assert [entry["item"] for entry in answer["items"]] == items
    assert all(entry["has_image"] or entry["item"] == "P0001" for entry in answer["items"])
    features = ModelCard.load(folder / "model").data["features"]
    assert set(features) == {"text", "image"}
    assert features["text"]["model"] == str(folder / "made" / "text_model")
    page = (EXAMPLES.parent / "docs/guide/walk.md").read_text(encoding="utf-8")
    command = page.partition("$ pyg-mmrec ")[2].partition("\n$")[0].replace("\\\n", " ")
    for name, made in (("minilm", "text_model"), ("vit", "image_model")):
        command = command.replace(f"models/{name}", f"made/{made}")
    monkeypatch.chdir(folder)
    main([*shlex.split(command), "--trainer.max_epochs", "1", "--trainer.progress", "false"])
    assert ModelCard.load("runs/walk/model").data["features"]["image"]["sha256"] == features["image"]["sha256"]


def test_every_example_has_a_docs_page() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in EXAMPLES.parent.glob("docs/**/*.md"))
    assert [path.name for path in EXAMPLES.glob("*.py") if path.name not in pages] == []
