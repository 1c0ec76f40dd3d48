from __future__ import annotations

import doctest
import importlib
import inspect
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import pyg_mmrec

PACKAGE = Path(pyg_mmrec.__file__).parent
ROOT = Path(__file__).parents[1]

#: Helpers of the command line and plain names, which users do not import.
NOT_PUBLIC = {"pyg_mmrec", "pyg_mmrec.cli", "pyg_mmrec.typing"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_public(path: Path) -> bool:
    """Whether a file is a package, or a module right below the root, that users import from."""
    name = module_name(path)
    top = path.name == "__init__.py" or name.count(".") == 1
    return top and name not in NOT_PUBLIC and not any(part.startswith("_") for part in name.split("."))


MODULES = sorted(map(module_name, PACKAGE.rglob("*.py")))
PUBLIC = sorted(module_name(path) for path in PACKAGE.rglob("*.py") if is_public(path))
PAGES = sorted([*ROOT.glob("*.md"), *(page for page in ROOT.glob("docs/**/*.md") if "_build" not in page.parts)])


def page_of(module: str) -> Path:
    """The page of a public module, docs/api/nn.loss.md for pyg_mmrec.nn.loss."""
    return ROOT / "docs" / "api" / f"{module.partition('.')[2]}.md"


def listed_names(page: str) -> list[str]:
    """Full names in the ``autosummary`` lists of a page."""
    module, names, listing = "", [], False
    for line in page.splitlines():
        if match := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif line.startswith(".. autosummary::"):
            listing = True
        elif line and not line.startswith(" "):
            listing = False
        elif listing and re.fullmatch(r" +\w+", line):
            names.append(f"{module}.{line.strip()}")
    return names


def not_mentioned(names: Iterable[str], text: str) -> list[str]:
    """Names that do not occur as a word in a text."""
    words = set(re.findall(r"\w+", text))
    return [name for name in names if name not in words]


def code_spans(markdown: str) -> str:
    """What stands between backticks."""
    return " ".join(re.findall(r"`([^`]+)`", markdown))


def has_own_docstring(module: ModuleType, name: str) -> bool:
    """Whether a class or function has a docstring that somebody wrote; constants need none."""
    value = getattr(module, name)
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return True
    own = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    return bool(own) and not own.startswith(f"{name}(")  # what dataclass and NamedTuple write themselves


def public_names(module: str) -> list[str]:
    return list(importlib.import_module(module).__all__)


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_exist(module: str) -> None:
    names = public_names(module)
    assert names
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(importlib.import_module(module), name)] == []


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_on_an_api_page(module: str) -> None:
    page = page_of(module)
    assert page.is_file(), f"{page.relative_to(ROOT)} is missing"
    expected = sorted(f"{module}.{name}" for name in public_names(module))
    assert sorted(listed_names(page.read_text(encoding="utf-8"))) == expected


def test_api_pages_belong_to_public_modules() -> None:
    pages = {page.name for page in (ROOT / "docs" / "api").glob("*.md")}
    assert pages == {page_of(module).name for module in PUBLIC}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_in_the_changelog(module: str) -> None:
    missing = not_mentioned(public_names(module), code_spans((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))
    assert not missing, f"not between backticks in CHANGELOG.md: {', '.join(missing)}"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_tested(module: str) -> None:
    tests = [path for path in ROOT.glob("tests/**/*.py") if path != Path(__file__)]
    missing = not_mentioned(public_names(module), "\n".join(path.read_text(encoding="utf-8") for path in tests))
    assert not missing, f"in no file under tests/: {', '.join(missing)}"


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_have_a_docstring(module: str) -> None:
    loaded = importlib.import_module(module)
    missing = [name for name in public_names(module) if not has_own_docstring(loaded, name)]
    assert not missing, f"without a docstring of their own: {', '.join(missing)}"


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_docstring(module: str) -> None:
    assert importlib.import_module(module).__doc__


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    failed, _ = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_in_pages(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = re.sub(r"^```.*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(text, {}, page.stem, str(page), 0)
    failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples)
    assert failed == 0


def test_listed_names_reads_every_list_of_a_page() -> None:
    page = """# Title

```{eval-rst}
.. currentmodule:: pyg_mmrec.nn

Gates

.. autosummary::
   :toctree: generated

   FilterGate
   IntentPrototypes

   text that is indented

.. currentmodule:: pyg_mmrec.nn.loss
.. autosummary::

   bpr_loss
```
Other
"""
    assert listed_names(page) == [
        "pyg_mmrec.nn.FilterGate",
        "pyg_mmrec.nn.IntentPrototypes",
        "pyg_mmrec.nn.loss.bpr_loss",
    ]


def test_mentions_are_whole_words() -> None:
    assert not_mentioned(["SEA", "MDR"], "`SEAL` and pyg_mmrec.models.MDR.") == ["SEA"]
    assert not_mentioned(["rank", "split"], code_spans("`rank(x)` and a split of `data`")) == ["split"]


class _Written:
    """A class."""


class _Inherits(_Written):
    pass


class _Pair(NamedTuple):
    first: int


@dataclass
class _Record:
    first: int


def _bare() -> None:
    pass


def _described() -> None:
    """A function."""


_LIMIT = 3


def test_docstrings_that_nobody_wrote_do_not_count() -> None:
    names = ["_Written", "_Inherits", "_Pair", "_Record", "_bare", "_described", "_LIMIT"]
    here = inspect.getmodule(_bare)
    assert here is not None
    assert [name for name in names if not has_own_docstring(here, name)] == ["_Inherits", "_Pair", "_Record", "_bare"]
