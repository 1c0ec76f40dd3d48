from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pyg_mmrec.cli import main

GUIDE = Path(__file__).parents[1] / "docs" / "guide"


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language, in order, without those that show a Python session."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [block for block in found if not block.startswith(">>> ")]


def console(text: str) -> list[tuple[str, str]]:
    """The commands of a page's console blocks, each with the output that is shown."""
    pairs = []
    for block in blocks(text, "console"):
        for part in re.split(r"^\$ ", block.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            pairs.append((command, output))
    return pairs


def without_values(output: str) -> list[list[str]]:
    """The words of each line but the numbers, which depend on the machine."""
    lines = [[word for word in line.split() if not re.match(r"[\d±]", word)] for line in output.splitlines()]
    return [line for line in lines if line]


PAGES = sorted(page for page in GUIDE.glob("*.md") if blocks(page.read_text(encoding="utf-8"), "python"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_in_order(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    (tmp_path / "page.py").write_text("\n".join(blocks(text, "python")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_commands_of_a_page_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (GUIDE / "cli.md").read_text(encoding="utf-8")
    (tmp_path / "shop.yaml").write_text(blocks(page, "yaml")[0], encoding="utf-8")
    commands = console(page)
    assert len(commands) > 5
    for command, shown in commands:
        program, *argv = shlex.split(command)
        assert program == "pyg-mmrec"
        if shown.startswith("pyg-mmrec: error"):
            with pytest.raises(SystemExit):
                main(argv)
            assert capsys.readouterr().err == shown
        else:
            main(argv)
            printed = capsys.readouterr()
            assert printed.err == ""
            assert without_values(printed.out) == without_values(shown) or not shown


def test_blocks_are_found_in_order() -> None:
    page = "```python\na = 1\n```\n\n```console\n$ one \\\n  two\nout\n$ three\n```\n```python\n>>> a\n1\n```\n"
    assert blocks(page + "```python\nb = 2\n```\n", "python") == ["a = 1\n", "b = 2\n"]
    assert [(shlex.split(command), shown) for command, shown in console(page)] == [
        (["one", "two"], "out\n"),
        (["three"], ""),
    ]
