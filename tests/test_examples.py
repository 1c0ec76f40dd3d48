from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_sea_writes_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["sea.py", "--small", "--root", str(tmp_path / "shop"), "--out", str(tmp_path / "out")]
    )
    runpy.run_path(str(EXAMPLES / "sea.py"), run_name="__main__")
    assert "recall@20" in capsys.readouterr().out
    assert {"probes.csv", "information.csv", "alignment.csv", "tsne.csv", "tsne.png", "probes.png"} == {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_every_example_has_a_docs_page() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in EXAMPLES.parent.glob("docs/**/*.md"))
    assert [path.name for path in EXAMPLES.glob("*.py") if path.name not in pages] == []
