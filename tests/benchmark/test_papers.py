from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pandas as pd
import pytest
import yaml

from pyg_mmrec.benchmark import Candidate
from pyg_mmrec.models import MMIL

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
#: Tables and figures of each paper.
PRINTED = {"sea": (5, 6), "drepmrec": (4, 9), "mmil": (3, 4), "mdr": (3, 5)}


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


papers, _, _, report = (module(name) for name in ("papers", "report_tables", "report_speed", "report"))
_, accuracy, sweep = (module(name) for name in ("tasks", "accuracy", "sweep"))
EXPERIMENTS = {one.name: one for one in papers.load()}
SPECS: dict[str, Any] = yaml.safe_load((BENCHMARKS / "accuracy.yaml").read_text())


@pytest.mark.parametrize(("name", "page"), [("papers", papers.page), ("benchmarks", report.page)])
def test_the_page_is_that_of_the_results(name: str, page: Any) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert text == page(), f"docs/{name}.md is stale: run python benchmarks/report.py"


@pytest.mark.parametrize("paper", PRINTED)
def test_every_table_and_figure_is_an_experiment(paper: str) -> None:
    for kind, count in zip(("table", "figure"), PRINTED[paper], strict=True):
        known = [name for name in EXPERIMENTS if name.startswith(f"{paper}/{kind}")]
        assert sorted(known) == [f"{paper}/{kind}{number}" for number in range(1, count + 1)]


def test_every_printed_number_belongs_to_an_experiment() -> None:
    table = pd.read_csv(BENCHMARKS / "papers.csv")
    assert set(table["paper"] + "/table" + table["table"].astype(str)) <= set(EXPERIMENTS)
    assert table["value"].between(0, 300).all()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_how_it_is_run_or_why_not(name: str) -> None:
    spec = EXPERIMENTS[name].spec
    assert ("cannot" in spec) != ("run" in spec)
    assert ("run" in spec) == ("size" in spec) == ("cells" in spec or "evidence" in spec)
    for command in spec.get("run", ()):
        program, script, *flags = shlex.split(command)
        assert program == "python"
        assert (ROOT / script).is_file()
        text = (ROOT / script).read_text()
        assert [flag for flag in flags if flag.startswith("--") and f'"{flag}"' not in text] == []
        if script == "benchmarks/accuracy.py":
            assert set(flags[flags.index("--models") + 1 :]) <= set(SPECS)
        if script == "benchmarks/sweep.py":
            assert SPECS[flags[flags.index("--model") + 1]]["sweep"]


@pytest.mark.parametrize("name", [name for name, one in EXPERIMENTS.items() if one.cells])
def test_the_numbers_of_a_table_have_models_that_its_commands_train(name: str) -> None:
    one = EXPERIMENTS[name]
    trained = {token for command in one.spec["run"] for token in shlex.split(command)}
    for cell in one.cells:
        names = one.spec["cells"].get("models", {}).get(cell.model, [cell.model])
        assert cell.cannot or names[0] in trained, cell
        assert cell.cannot or set(names) <= set(SPECS), cell


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    pd.DataFrame(rows).to_csv(folder / name, index=False)


def status(folder: Path, name: str) -> str:
    return next(one.status for one in papers.load(folder) if one.name == name)


def test_the_status_is_counted_from_the_files(tmp_path: Path) -> None:
    assert status(tmp_path, "sea/table4") == "not run"
    assert status(tmp_path, "sea/figure6") == "not run"
    assert status(tmp_path, "sea/figure1") == "cannot be shown"
    rows = [{"dataset": "tiktok", "model": "SEA-b", "recall@20": 0.1, "recall@20_std": 0.01}]
    write(tmp_path, "accuracy.csv", rows)
    assert status(tmp_path, "sea/table4") == "partly (1 of 4 on TikTok)"
    rows += [{**rows[0], "dataset": "baby", "model": f"SEA-{letter}"} for letter in "abcd"]
    write(tmp_path, "accuracy.csv", rows[:4])
    assert status(tmp_path, "sea/table4") == "partly (3 of 4)"
    write(tmp_path, "accuracy.csv", rows)
    assert status(tmp_path, "sea/table4") == "done"
    assert "| SEA-a | 0.1033 | 0.1000 ± 0.0100 |  |" in papers.page(tmp_path)


def test_figures_on_other_data_are_not_done(tmp_path: Path) -> None:
    row = {"model": "trained", "variant": "SEA-a", "view": "head", "modality": "image", "accuracy": 0.5}
    parts = [("generic", "colour"), ("generic", "texture"), ("unique", "texture")]
    rows = [row | {"part": part, "attribute": attribute} for part, attribute in parts]
    write(tmp_path, "sea_probes.csv", rows[:2])
    assert status(tmp_path, "sea/figure6") == "partly (2 of 3)"
    write(tmp_path, "sea_probes.csv", rows)
    assert status(tmp_path, "sea/figure6") == "partly (on other data)"


def test_a_sweep_is_done_when_all_values_are(tmp_path: Path) -> None:
    given = [{"hidden_channels": width} for width in SPECS["MMIL"]["sweep"]["hidden_channels"]]
    given[2] = {}  # the default, as the point in the middle has it
    rows = [
        {"dataset": "baby", "model": "MMIL", "init_args": json.dumps(args), papers.SWEPT: score}
        for args, score in zip(given, (0.1, 0.2, 0.3, 0.5, 0.4, 0.1), strict=True)
    ]
    assert status(tmp_path, "mmil/figure4") == "not run"
    write(tmp_path, "sweep_runs.csv", rows[2:3])
    assert status(tmp_path, "mmil/figure4") == "not run"
    write(tmp_path, "sweep_runs.csv", rows[:-1])
    assert status(tmp_path, "mmil/figure4") == "partly (1 of 2)"
    assert "| baby, hidden_channels: 512 |  |  | not run |" in papers.page(tmp_path)
    write(tmp_path, "sweep_runs.csv", rows)
    assert status(tmp_path, "mmil/figure4") == "done"
    assert "128 (0.5000)" in papers.page(tmp_path)
    args = {"modality_weights": {"image": 0.3, "text": 0.7}}
    assert papers._argument(args, "image_weight") == 0.3


def test_the_middle_of_a_sweep_is_one_candidate() -> None:
    point = Candidate(MMIL, {"num_negatives": 4}, {"patience": 3})
    assert sweep.varied(point, "num_negatives", 4, []) is point
    assert sweep.varied(point, "hidden_channels", 64, []) is point  # the default
    assert sweep.varied(point, "hidden_channels", 32, []) == Candidate(
        MMIL, {"num_negatives": 4, "hidden_channels": 32}, {"patience": 3}
    )


class Scores:
    """Grades candidates by their arguments."""

    facts: ClassVar = {"dataset": "baby"}
    task = SimpleNamespace(monitor="recall@20")

    def run(self, candidate: Candidate, seed: int, purpose: str) -> dict[str, float]:
        assert (seed, purpose) == (0, "search")
        return {"val_recall@20": candidate.init_args["l2_weight"] % 1 + candidate.init_args.get("num_layers", 0)}


def test_a_search_goes_on_from_the_point_of_another() -> None:
    specs = {
        "LightGCN": {"grid": {"l2_weight": [0.1, 0.2, 1.0]}, "trainer": {"patience": 3}},
        "wider": {"model": "LightGCN", "point_of": "LightGCN", "args": {"hidden_channels": 128}},
        "deeper": {"model": "LightGCN", "point_of": "wider", "grid": {"num_layers": [0, 3, 1]}},
        "none": {"model": "LightGCN", "point_of": "LightGCN", "args": {"l2_weight": 0.0}},
    }
    chosen = {name: accuracy.choose(name, specs, Scores()) for name in specs}
    assert {one.name for one in chosen.values()} == {"LightGCN", "wider", "deeper", "none"}
    assert all(one.trainer_args == {"patience": 3} for one in chosen.values())
    assert chosen["wider"].init_args == {"l2_weight": 0.2, "hidden_channels": 128}
    assert chosen["deeper"].init_args == {"l2_weight": 0.2, "hidden_channels": 128, "num_layers": 3}
    assert chosen["none"].init_args == {"l2_weight": 0.0}


def test_a_search_may_be_shorter_on_one_data_set(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(Scores, "run", lambda _, point, *__: shown.append(point.trainer_args) or {"val_recall@20": 0})
    spec = {"grid": {"l2_weight": [0, 1]}, "search": {"max_epochs": 9, "patience": 2}}
    for search_on in ({"tiktok": {"max_epochs": 1}}, {"baby": {"max_epochs": 1}}):
        accuracy.choose("LightGCN", {"LightGCN": {**spec, "search_on": search_on}}, Scores())
    assert shown == [{"max_epochs": 9, "patience": 2}] * 2 + [{"max_epochs": 1, "patience": 2}] * 2


def test_a_variant_in_place_of_a_model_is_named(tmp_path: Path) -> None:
    write(tmp_path, "accuracy.csv", [{"dataset": "baby", "model": "FREEDOM-graph", "recall@20": 0.1}])
    assert "| FREEDOM | 0.0992 | 0.1000 (FREEDOM-graph) |" in papers.page(tmp_path)


def test_a_model_may_have_another_name_on_another_data_set(tmp_path: Path) -> None:
    rows = [{"dataset": name, "model": "DINPlus", "gauc": value} for name, value in (("office", 0.1), ("ml1m", 0.2))]
    write(tmp_path, "sampled.csv", rows)
    text = papers.page(tmp_path)
    assert "| ABAE | 0.8157 | 0.1000 |  |" in text
    assert "| DIN++ | 0.8671 | cannot be shown | 0.2000 |" in text


def test_an_experiment_runs_its_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(papers.subprocess, "run", lambda command, **_: ran.append(command))
    papers.run("sea/figure3", "/data")
    assert [Path(command[1]).name for command in ran] == ["accuracy.py", "accuracy.py", "sea_evidence.py"]
    assert ran[0][:4] == [sys.executable, "benchmarks/accuracy.py", "--root", "/data"]
    for name, root, message in (
        ("sea/table9", "/data", "unknown experiment"),
        ("sea/figure1", "/data", "cannot be shown"),
        ("sea/table4", None, "needs --root"),
    ):
        with pytest.raises(SystemExit, match=message):
            papers.run(name, root)
    assert len(ran) == 3


def test_links_of_the_page_lead_somewhere() -> None:
    text = papers.page()
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) == set(re.findall(r"^\(([\w-]+)\)=$", text, flags=re.MULTILINE))
