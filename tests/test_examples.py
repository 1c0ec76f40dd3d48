from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

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


def test_every_example_has_a_docs_page() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in EXAMPLES.parent.glob("docs/**/*.md"))
    assert [path.name for path in EXAMPLES.glob("*.py") if path.name not in pages] == []
