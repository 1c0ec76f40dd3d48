from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import pyg_mmrec.models
from pyg_mmrec.models import Recommender

EXPORTED = sorted(
    name
    for name in pyg_mmrec.models.__all__
    if inspect.isclass(getattr(pyg_mmrec.models, name))
    and issubclass(getattr(pyg_mmrec.models, name), Recommender)
    and name != "Recommender"
)


def models_with_suite(source: str) -> dict[str, str]:
    """Model names to the shared suite that a test class for them inherits."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
            suites = [base for base in bases if base.endswith("ModelTests")]
            for line in node.body:
                is_model = isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "model_class"
                if is_model and suites and isinstance(line.value, ast.Name):
                    found[line.value.id] = suites[0]
    return found


TESTED = {
    model: suite
    for path in Path(__file__).parent.glob("test_*.py")
    for model, suite in models_with_suite(path.read_text(encoding="utf-8")).items()
}


def test_there_are_models() -> None:
    assert {"BPRMF", "FREEDOM", "LightGCN", "Popularity", "VBPR"} <= set(EXPORTED)


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_models_pass_the_shared_suite(name: str) -> None:
    assert name in TESTED, f"no test class in tests/models inherits ModelTests with model_class = {name}"
    if "in_channels" in inspect.signature(getattr(pyg_mmrec.models, name).__init__).parameters:
        assert TESTED[name] == "FeatureModelTests", f"{name} reads features"


def test_only_classes_with_the_suite_count() -> None:
    source = """
class TestA(ModelTests):
    model_class = A
class TestB:
    model_class = B
class C(ModelTests):
    model_class = C
class TestD(FeatureModelTests[D]):
    init_args = {}
    model_class = D
class TestE(ModelTests):
    other = E
"""
    assert models_with_suite(source) == {"A": "ModelTests", "D": "FeatureModelTests"}
