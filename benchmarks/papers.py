"""The tables and figures of the four papers as experiments: what was done of them, and how to do the rest.

    python benchmarks/papers.py --list
    python benchmarks/papers.py --run sea/table4 --root DATA
    python benchmarks/papers.py --write

``papers.yaml`` names the experiments, ``papers.csv`` holds the papers' numbers. What was done is read from the files in
``results/``: ``--write`` makes ``docs/papers.md`` of it, ``--run`` runs an experiment's commands one after another.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

import pyg_mmrec.models

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
PAGE = ROOT / "docs" / "papers.md"
#: How data sets are called that are not the papers'.
NAMES = {"tiktok": "TikTok", "microlens50k": "MicroLens-50k", "ml1m": "MovieLens-1M", "shop": "the built-in shop"}
PAPERS = {"sea": "SEA", "drepmrec": "DRepMRec", "mmil": "MMIL", "mdr": "MDR"}
SWEPT = "val_recall@20"
KEYS = {"title", "note", "cells", "evidence", "run", "size", "cannot", "left_out"}

HEAD = """# The papers' tables and figures

Every table and figure of the four papers is an experiment with a name. `python benchmarks/papers.py --write` makes this
page from the files in `benchmarks/results`; the status is counted there: **done** where all that can be shown is there,
**partly** where some of it is or where it was shown on other data, **not run** where none is, and **cannot be shown**
where something is missing that no run brings. "Ours" is the mean over seeds, ± the sample standard deviation.

    python benchmarks/papers.py --list
    python benchmarks/papers.py --run sea/table4 --root DATA
"""


class Cell(NamedTuple):
    """A number of a paper beside ours."""

    dataset: str
    model: str
    paper: float
    ours: str | None
    cannot: str


class Item(NamedTuple):
    """Another figure of an experiment."""

    label: str
    on: str
    paper: str
    ours: str | None


class Experiment(NamedTuple):
    """A table or a figure, with what there is of it."""

    name: str
    spec: dict[str, Any]
    cells: list[Cell]
    items: list[Item]
    others: dict[str, int]  #: How many models of the cells were tested on data sets that are not the paper's

    @property
    def status(self) -> str:
        """What was done, counted."""
        wanted = [cell.ours for cell in self.cells if not cell.cannot]
        own = wanted + [item.ours for item in self.items if not item.on]
        every = wanted + [item.ours for item in self.items]
        found = sum(value is not None for value in every)
        if not every:
            return "cannot be shown"
        if own and None not in own:
            return "done"
        if found:
            return "partly (on other data)" if not own and found == len(every) else f"partly ({found} of {len(every)})"
        if self.others:
            name = max(self.others, key=lambda one: self.others[one])
            models = len({cell.model for cell in self.cells})
            return f"partly ({self.others[name]} of {models} on {NAMES.get(name, name)})"
        return "not run"

    @property
    def left_out(self) -> str:
        """How many of the paper's numbers cannot be shown."""
        count = sum(bool(cell.cannot) for cell in self.cells)
        return f"{count} of {len(self.cells)} numbers" if count else self.spec.get("left_out", "")


@functools.cache
def _yaml(name: str) -> dict[str, Any]:
    """A YAML file beside this one; not to be changed."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))
    return content


@functools.cache
def _table(path: Path) -> pd.DataFrame | None:
    return pd.read_csv(path) if path.is_file() else None


def load(results: Path = FOLDER / "results") -> list[Experiment]:
    """The experiments, with what is in a folder of results."""
    _table.cache_clear()
    specs = _yaml("papers.yaml")
    papers = pd.read_csv(FOLDER / "papers.csv")
    found = []
    for name, spec in specs.items():
        if name == "x":  # what others take parts of
            continue
        if unknown := set(spec) - KEYS:
            raise ValueError(f"papers.yaml: {name} has the unknown keys {', '.join(sorted(unknown))}")
        published = papers[papers["paper"] == name.partition("/")[0]]
        cells = _cells(spec["cells"], published, results) if "cells" in spec else []
        items = [item for one in spec.get("evidence", ()) for item in _items(one, name, published, results)]
        found.append(Experiment(name, spec, cells, items, _others(cells, spec, results)))
    return found


def _cells(spec: dict[str, Any], published: pd.DataFrame, results: Path) -> list[Cell]:
    """The paper's numbers in the main metric, with ours."""
    cannot = spec.get("cannot", {})
    rows = published[(published["table"] == spec["table"]) & (published["metric"] == spec["metric"])]
    cells = []
    for dataset, model, value in rows[["dataset", "model", "value"]].itertuples(index=False):
        reason = cannot.get(dataset) or cannot.get(model) or ""
        ours = None if reason else our_value(spec, results, dataset.lower(), model)
        cells.append(Cell(dataset, model, value, ours, reason))
    return cells


def _others(cells: list[Cell], spec: dict[str, Any], results: Path) -> dict[str, int]:
    """The data sets beside the paper's that models of the cells were tested on, and how many."""
    if not cells or (table := _table(results / spec["cells"].get("file", "accuracy.csv"))) is None:
        return {}
    own = {cell.dataset.lower() for cell in cells}
    models = {cell.model for cell in cells}
    count = {
        name: sum(part["model"].isin(_our_names(spec["cells"], name, model)).any() for model in models)
        for name, part in table.groupby("dataset", sort=False)
    }
    return {str(name): int(number) for name, number in count.items() if number and name not in own}


def _our_names(spec: dict[str, Any], dataset: Any, model: str) -> list[str]:
    """What a model of the paper is called here."""
    names: list[str] = (spec.get("models", {}) | spec.get("models_on", {}).get(dataset, {})).get(model, [model])
    return names


def our_value(spec: dict[str, Any], results: Path, dataset: str, model: str) -> str | None:
    """The mean of a model of the paper on a data set, by the first of its names here that was tested."""
    table = _table(results / spec.get("file", "accuracy.csv"))
    if table is None:
        return None
    names = _our_names(spec, dataset, model)
    for name in names:
        row = table[(table["dataset"] == dataset) & (table["model"] == name)]
        if len(row):
            return _mean(row.iloc[0], spec["metric"]) + (f" ({name})" if name != names[0] else "")
    return None


def _mean(row: pd.Series, column: str) -> str:
    deviation = row.get(f"{column}_std")
    return f"{row[column]:.4f}" + ("" if deviation is None or pd.isna(deviation) else f" ± {deviation:.4f}")


def _items(spec: dict[str, Any], name: str, published: pd.DataFrame, results: Path) -> list[Item]:
    """Figures of a file, None where they are not there."""
    if "sweep" in spec:
        return [item for argument in spec["sweep"]["arguments"] for item in _swept(argument, spec["sweep"], results)]
    paper = spec.get("paper", "")
    if isinstance(paper, dict):
        row = published[published["table"].astype(str) == name.rpartition("/")[2].removeprefix("table")]
        for column, value in paper.items():
            row = row[row[column] == value]
        paper = row["value"].item()
    shown = f"{paper:,}" if isinstance(paper, int) else f"{paper:g}" if isinstance(paper, float) else str(paper)
    return [Item(spec["label"], spec.get("on", ""), shown, _evidence(spec, results))]


def _swept(argument: str, spec: dict[str, Any], results: Path) -> list[Item]:
    """The best of an argument's values on validation, and those that were not trained."""
    trained = _yaml("accuracy.yaml")[spec["model"]]
    values = trained["sweep"][argument]
    table, found = _table(results / "sweep_runs.csv"), {}
    if table is not None:
        rows = table[(table["dataset"] == spec["dataset"]) & (table["model"] == spec["model"])]
        defaults = default_args(getattr(pyg_mmrec.models, trained.get("model", spec["model"])))
        given = [{**defaults, **json.loads(one)} for one in rows["init_args"]]
        others = [json.dumps(_without(one, argument), sort_keys=True) for one in given]
        point = max(set(others), key=others.count, default="")  # where only this argument differs
        found = {
            _argument(one, argument): score
            for one, other, score in zip(given, others, rows[SWEPT], strict=True)
            if other == point
        }
    scores = {value: found[value] for value in values if value in found}
    if len(scores) < 2:  # the point itself is there, or nothing is
        scores = {}
    missing = [f"{value:g}" for value in values if value not in scores]
    label, items = f"{spec['dataset']}, {argument}", []
    if scores:
        best = max(scores, key=lambda value: scores[value])
        what = f"{label}: best of {len(scores)}, validation {SWEPT.removeprefix('val_')}"
        items.append(Item(what, "", "", f"{best:g} ({scores[best]:.4f})"))
    if missing:
        items.append(Item(f"{label}: {', '.join(missing)}", "", "", None))
    return items


def default_args(model: type) -> dict[str, Any]:
    """The arguments of a model's constructor that have a default."""
    parameters = inspect.signature(model).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _argument(init_args: dict[str, Any], name: str) -> Any:
    """An argument of a model; ``<modality>_weight`` is the modality's share."""
    shares = init_args.get("modality_weights") or {}
    return init_args.get(name, shares.get(name.removesuffix("_weight")))


def _without(init_args: dict[str, Any], name: str) -> dict[str, Any]:
    """The other arguments of a model."""
    left_out = {name, "modality_weights"} if name not in init_args and "modality_weights" in init_args else {name}
    return {key: value for key, value in init_args.items() if key not in left_out}


def _evidence(spec: dict[str, Any], results: Path) -> str | None:
    path = (ROOT if spec["file"].startswith("docs/") else results) / spec["file"]
    if path.suffix != ".csv":
        return path.name if path.is_file() else None
    rows = _table(path)
    if rows is None:
        return None
    for column, value in spec.get("where", {}).items():
        rows = rows[rows[column].astype(str) == str(value)]
    if rows.empty:
        return None
    columns = spec["column"]
    if isinstance(columns, list):
        return f"{rows[columns].iloc[0].sum():,}"
    value = rows[columns].mean() if spec.get("mean") else rows[columns].iloc[-1 if spec.get("last") else 0]
    if isinstance(value, str):
        return value
    if spec.get("times"):
        return f"{value * spec['times']:.1f}"
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return _mean(rows.iloc[0], columns) if f"{columns}_std" in rows else f"{value:.{4 if abs(value) < 1 else 2}f}"


def page(results: Path = FOLDER / "results") -> str:
    """The page."""
    experiments = load(results)
    lines = ["", "| experiment | shows | status | cannot be shown |", "| --- | --- | --- | --- |"]
    for one in experiments:
        anchor = one.name.replace("/", "-")
        lines.append(f"| [{one.name}](#{anchor}) | {one.spec['title']} | {one.status} | {one.left_out} |")
    text = HEAD + "\n".join(lines) + "\n"
    for paper, title in PAPERS.items():
        text += f"\n## {title}\n"
        text += "".join(_section(one, results) for one in experiments if one.name.partition("/")[0] == paper)
    return text


def _section(one: Experiment, results: Path) -> str:
    spec, anchor = one.spec, one.name.replace("/", "-")
    text = f"\n({anchor})=\n### {one.name}\n\n{spec['title']}: {one.status}."
    if "cannot" in spec:
        return f"{text} {spec['cannot'][0].upper()}{spec['cannot'][1:]}.\n"
    reasons: dict[str, dict[str, None]] = {}
    for cell in one.cells:
        if cell.cannot:
            of = cell.dataset if cell.cannot == spec["cells"]["cannot"].get(cell.dataset) else cell.model
            reasons.setdefault(cell.cannot, {})[of] = None
    said = [f"{', '.join(names)} ({reason})." for reason, names in reasons.items()]
    notes = [spec["note"]] if "note" in spec else []
    if "left_out" in spec or said:
        notes.append(f"Not shown: {' '.join([*said, *([spec['left_out'] + '.'] if 'left_out' in spec else [])])}")
    text += f" {' '.join(notes)}\n" if notes else "\n"
    if one.cells:
        text += f"\n{_cell_table(one, results)}"
    if one.items:
        rows = [[item.label, item.on, item.paper, item.ours or "not run"] for item in one.items]
        text += f"\n{_markdown(['', 'other data', 'paper', 'ours'], rows)}"
    commands = "".join(f"    {command}\n" for command in spec["run"])
    return f"{text}\nCommands ({spec['size']}):\n\n{commands}"


def _cell_table(one: Experiment, results: Path) -> str:
    """A row a model: the paper and ours on its data sets that can be shown, and ours on others."""
    spec = one.spec["cells"]
    shown = [name for name in dict.fromkeys(cell.dataset for cell in one.cells) if name not in spec.get("cannot", {})]
    models = list(dict.fromkeys(cell.model for cell in one.cells))
    rows = []
    for model in models:
        by_set = {cell.dataset: cell for cell in one.cells if cell.model == model}
        row = [model]
        for name in shown:
            cell = by_set[name]
            row += [f"{cell.paper:.4f}", cell.ours or ("cannot be shown" if cell.cannot else "not run")]
        row += [our_value(spec, results, name, model) or "" for name in one.others]
        rows.append(row)
    both = [f"{name}, {who}" for name in shown for who in ("paper", "ours")]
    header = ["model", *both, *(f"{NAMES.get(name, name)}, ours" for name in one.others)]
    return f"Test {spec['metric']}:\n\n{_markdown(header, rows)}"


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def run(name: str, root: str | None) -> None:
    """Runs an experiment's commands one after another; the first that fails ends it."""
    spec = next((one.spec for one in load() if one.name == name), None)
    if spec is None:
        raise SystemExit(f"unknown experiment '{name}': --list names them")
    if "run" not in spec:
        raise SystemExit(f"{name} cannot be shown: {spec['cannot']}")
    if root is None and any("DATA" in shlex.split(command) for command in spec["run"]):
        raise SystemExit(f"{name} needs --root: the folder of the data sets")
    for command in spec["run"]:
        program, *arguments = (root if token == "DATA" else token for token in shlex.split(command))
        print(f"$ {command}", flush=True)
        subprocess.run([sys.executable if program == "python" else program, *arguments], cwd=ROOT, check=True)


def main() -> None:
    """Lists, runs or writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="print the experiments and what was done")
    what.add_argument("--run", metavar="NAME", help="run an experiment's commands")
    what.add_argument("--write", action="store_true", help="write docs/papers.md")
    parser.add_argument("--root", help="folder of the data sets")
    args = parser.parse_args()
    if args.run:
        run(args.run, str(Path(args.root).resolve()) if args.root else None)
    elif args.write:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        for one in load():
            print(f"{one.name:<18} {one.status:<26} {one.spec['title']}")


if __name__ == "__main__":
    main()
