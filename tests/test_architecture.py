from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyg_mmrec

PACKAGE = Path(pyg_mmrec.__file__).parent

BASE = {"typing", "utils"}
LIBRARY = {
    *BASE,
    *("nn", "models", "features", "datasets", "transforms", "loader", "retrieval", "metrics", "evaluation", "training"),
}

#: What each part of the package may import, itself aside; "" is pyg_mmrec/__init__.py.
ALLOWED: dict[str, set[str]] = {
    "": set(),
    "typing": set(),
    "utils": {"typing"},
    "nn": BASE,
    "models": BASE | {"nn"},
    "features": BASE,
    "datasets": BASE | {"features"},
    "transforms": BASE,
    "loader": BASE,
    "retrieval": BASE,
    "metrics": BASE,
    "evaluation": BASE | {"metrics"},
    "training": BASE | {"metrics", "evaluation", "loader"},  # the loop makes its batches; loader knows only BASE
    "diagnostics": LIBRARY,
    "benchmark": LIBRARY,
    "serve": LIBRARY,
    "cli": LIBRARY | {"diagnostics", "benchmark", "serve"},
}
MAY_PRINT = {"cli", "diagnostics", "benchmark"}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(name: str) -> str:
    """The part of the package that a dotted name belongs to."""
    return ".".join(name.split(".")[1:2])


def imported_names(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Absolute dotted names that an import statement brings in from the package."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = module.split(".")
        base = base[: len(base) - node.level + is_package] if node.level else []
        names = [".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names]
    yield from (name for name in names if name.split(".")[0] == "pyg_mmrec")


def is_call_of(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What in a module's source breaks the package's rules, one line each."""
    part = part_of(module)
    if part not in ALLOWED:
        return [f"{module}: 'pyg_mmrec.{part}' has no place in the import direction; add it to ALLOWED"]
    found = []
    for node in ast.walk(ast.parse(source)):
        where = f"{module}:{getattr(node, 'lineno', 0)}:"
        for name in imported_names(node, module, is_package):
            target = part_of(name)
            if target in ALLOWED and target not in {part, *ALLOWED[part]}:
                found.append(f"{where} {part or 'the root'} must not import {target} ({name})")
        if is_call_of(node, "print") and part not in MAY_PRINT:
            found.append(f"{where} print() outside {', '.join(sorted(MAY_PRINT))}")
        if isinstance(node, ast.Raise) and node.exc is not None:
            error = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            if isinstance(error, ast.Name) and error.id == "NotImplementedError":
                found.append(f"{where} raises NotImplementedError")
    for number, line in enumerate(source.splitlines(), start=1):
        if match := re.search(r"\b(TODO|FIXME|XXX)\b", line):
            found.append(f"{module}:{number}: {match[1]}")
    return found


MODULES = sorted(PACKAGE.rglob("*.py"), key=module_name)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_keeps_the_rules(path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), module_name(path), path.name == "__init__.py") == []


def test_all_modules_are_walked() -> None:
    names = set(map(module_name, MODULES))
    assert {"pyg_mmrec", "pyg_mmrec.typing", "pyg_mmrec.utils", "pyg_mmrec.utils.sparse"} <= names


def test_the_direction_has_no_cycle() -> None:
    for part, allowed in ALLOWED.items():
        assert part not in allowed
        for target in allowed:
            assert ALLOWED[target] <= allowed, f"{part} may import {target} but not all that {target} imports"


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("pyg_mmrec.nn.gate", "import pyg_mmrec.datasets.inter as x", "nn must not import datasets"),
        ("pyg_mmrec.nn.gate", "from pyg_mmrec.models import SEA", "nn must not import models"),
        ("pyg_mmrec.nn.gate", "from pyg_mmrec import models", "nn must not import models"),
        ("pyg_mmrec.nn.gate", "from ..training import Trainer", "nn must not import training"),
        ("pyg_mmrec.nn.conv.lines", "from ... import models", "nn must not import models"),
        ("pyg_mmrec.models.sea", "from .. import evaluation", "models must not import evaluation"),
        ("pyg_mmrec.models.sea", "def f():\n    from ..loader import triplets", "models must not import loader"),
        (
            "pyg_mmrec.training.trainer",
            "if True:\n    from pyg_mmrec.models import SEA",
            "training must not import mod",
        ),
        ("pyg_mmrec.evaluation", "from .models.sea import SEA", "evaluation must not import models"),
        ("pyg_mmrec.evaluation", "from .loader import TripletLoader", "evaluation must not import loader"),
        ("pyg_mmrec.transforms.knn", "from pyg_mmrec.datasets import Inter", "transforms must not import datasets"),
        ("pyg_mmrec.serve.app", "from pyg_mmrec import cli", "serve must not import cli"),
        ("pyg_mmrec.typing", "from pyg_mmrec.utils import modalities", "typing must not import utils"),
        ("pyg_mmrec.extra", "", "has no place in the import direction"),
        ("pyg_mmrec.nn.gate", "def f():\n    print(1)", "pyg_mmrec.nn.gate:2: print()"),
        ("pyg_mmrec.nn.gate", "def f():\n    raise NotImplementedError", "gate:2: raises NotImplementedError"),
        ("pyg_mmrec.nn.gate", "def f():\n    raise NotImplementedError('x')", "gate:2: raises NotImplementedError"),
        ("pyg_mmrec.nn.gate", "x = 1\n# TODO: y", "gate:2: TODO"),
        ("pyg_mmrec.nn.gate", "def f():\n    '''FIXME'''", "gate:2: FIXME"),
    ],
)
def test_violations_are_found(module: str, source: str, expected: str) -> None:
    found = violations(source, module)
    assert len(found) == 1
    assert expected in found[0]


def test_relative_imports_of_a_package_start_at_itself() -> None:
    assert violations("from .sparse import x", "pyg_mmrec.utils", is_package=True) == []
    assert violations("from .models import x", "pyg_mmrec", is_package=True) != []
    assert violations("from ..models import x", "pyg_mmrec.utils", is_package=True) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "pyg_mmrec.models.sea",
            "import torch\nfrom pyg_mmrec.nn.loss import bpr\nfrom ..typing import ITEM\nfrom . import x",
        ),
        ("pyg_mmrec.training.trainer", "from pyg_mmrec.loader import TripletLoader\nfrom pyg_mmrec import __version__"),
        ("pyg_mmrec.cli", "from pyg_mmrec.serve import app\nprint(1)"),
        (
            "pyg_mmrec.nn.gate",
            "'''print() and NotImplementedError'''\ntry:\n    x = 1\nexcept NotImplementedError:\n    x = 2",
        ),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    assert violations(source, module) == []
