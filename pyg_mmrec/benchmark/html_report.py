"""A comparison as one page that needs nothing beside it."""

from __future__ import annotations

import datetime
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyg_mmrec import __version__
from pyg_mmrec.benchmark import _report_tables as tables
from pyg_mmrec.benchmark._report_charts import (
    loss_charts,
    result_chart,
    share_of_users,
    validation_charts,
)
from pyg_mmrec.benchmark._report_data import (
    SHOWN,
    Comparison,
    Group,
    groups,
    read_comparison,
    read_history,
    read_settings,
)
from pyg_mmrec.benchmark._showcase import dataset_of, draw_users, galleries, item_maps, load_models, pictures
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.utils import num_users_items
from pyg_mmrec.utils.checks import check_int, check_names, check_path
from pyg_mmrec.utils.files import write_text


def write_report(
    folder: str | Path,
    path: str | Path,
    *,
    title: str = "",
    metrics: Sequence[str] | None = None,
    baseline: str | None = None,
    views: Views | None = None,
    texts: Sequence[str] | None = None,
    users: Sequence[int] | None = None,
    num_users: int = 4,
    k: int = 8,
    map_items: int = 300,
    seed: int = 0,
) -> None:
    """Writes a comparison as one HTML file that works without a network.

    The page has, for each data set: test metrics over the seeds, published values beside them; paired tests on the
    users with Holm's correction; validation metric and losses by epoch, all seeds; how the metric is distributed over
    the users; time and memory; the hyper-parameters and what was searched. With ``views`` it also has, from the saved
    models, t-SNE maps of the item representations, and what they recommend to some users, with the items' images where
    there are any. What a folder lacks is left out, and the page says so.

    Args:
        folder: What ``pyg-mmrec benchmark`` wrote: ``runs.csv``, ``suite.yaml`` and a folder for each test run.
        path: The file.
        title: Of the page (default: the folder's name).
        metrics: Names of test metrics (default: recall and NDCG at 10 and 20, else the first four); tests, curves and
            distributions are of those that the files have.
        baseline: The model that all others are tested against (default: every pair of up to five models; of more, the
            one with the best mean on validation).
        views: Train, validation and test view of one of the data sets, with the graphs that its models read.
        texts: ``[num_items]`` What to call the items of ``views``.
        users: Whose recommendations are shown (default: drawn at random).
        num_users: How many are drawn (default: 4).
        k: Items that are recommended (default: 8).
        map_items: Random items on a map (default: 300; 0: no maps).
        seed: Of all that is drawn.

    Raises:
        ValueError: If a file is not what it should be, an argument is out of range or names what is not there, or
            ``views`` is of a split that no run was trained on.
        ImportError: If jinja2 is not installed, or images are to be shown and pillow is not.
    """
    check_path(folder=folder, path=path)
    check_int(1, num_users=num_users, k=k)
    check_int(0, map_items=map_items, seed=seed)
    if importlib.util.find_spec("jinja2") is None:
        raise ImportError("reports need jinja2: pip install 'pyg-mmrec[report]'")
    comparison = read_comparison(folder)
    chosen = _metrics(comparison, metrics)
    known = list(dict.fromkeys(comparison.tested["model"]))
    if baseline is not None and baseline not in known:
        raise ValueError(f"'baseline' must be one of {', '.join(known)} (got {baseline!r})")
    shown = None if views is None else dataset_of(comparison, views)
    if views is not None:
        _check_users(views, users, texts)
    datasets = [_dataset(comparison, name, chosen, baseline) for name in dict.fromkeys(comparison.tested["dataset"])]
    for part in datasets:
        if views is not None and part["name"] == shown:
            part |= _showcase(groups(comparison, part["name"]), views, users, texts, num_users, k, map_items, seed)
    page = _render(
        title=title or Path(folder).resolve().name,
        facts=_facts(comparison),
        datasets=datasets,
        runs=tables.run_table(comparison, chosen),
        suite=comparison.suite,
        version=__version__,
        today=datetime.date.today().isoformat(),
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(Path(path), page)


def _metrics(comparison: Comparison, asked: Sequence[str] | None) -> list[str]:
    """The metrics to show."""
    known = comparison.metrics
    if asked is None:
        return [name for name in SHOWN if name in known] or known[:4]
    check_names(metrics=asked)
    for name in asked:
        if name not in known:
            raise ValueError(f"'metrics' must be among {', '.join(known)} (got {name!r})")
    if not asked:
        raise ValueError("'metrics' must name at least one metric (got none)")
    return list(asked)


def _check_users(views: Views, users: Sequence[int] | None, texts: Sequence[str] | None) -> None:
    sizes = num_users_items(views[0])
    for user in users or ():
        check_int(0, users=user)
        if user >= sizes[0]:
            raise ValueError(f"'users' must lie in 0..{sizes[0] - 1} (got {user})")
    if texts is not None and len(texts) != sizes[1]:
        raise ValueError(f"'texts' must have one for each of the {sizes[1]} items (got {len(texts)})")


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """What a reader has to know of all runs."""
    tested = comparison.tested

    def values(column: str) -> str:
        return ", ".join(dict.fromkeys(map(str, tested[column].dropna()))) if column in tested else ""

    dates = sorted(map(str, tested["date"].dropna())) if "date" in tested else []
    facts = [
        ("data sets", values("dataset")),
        ("models", str(tested["model"].nunique())),
        ("test runs", str(len(tested))),
        ("searched points", str(len(comparison.runs) - len(tested))),
        ("protocol", values("protocol")),
        ("split", values("split_hash")),
        ("dates", " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else ""),
        ("device", values("device")),
        ("threads", values("threads")),
        (
            "versions",
            values("versions")
            or " ".join(f"{name} {values(name)}" for name in ("torch", "torch_geometric") if values(name)),
        ),
    ]
    return [(name, value) for name, value in facts if value]


def _dataset(comparison: Comparison, name: str, metrics: list[str], baseline: str | None) -> dict[str, Any]:
    """All of a data set that comes from its files."""
    parts = groups(comparison, name)
    metrics = [metric for metric in metrics if any(part.runs[f"test_{metric}"].notna().any() for part in parts)]
    values, missing = tables.user_values(parts)
    by_user = [metric for metric in metrics if any(metric in table for table in values.values())]
    by_user = by_user or list(dict.fromkeys(str(name) for table in values.values() for name in table))[:1]
    monitor = _monitor(parts, metrics)
    against = baseline or (_best_on_validation(parts, monitor) if len(parts) > tables.MOST_PAIRED else None)
    histories = {part.model: {seed: read_history(folder) for seed, folder in part.folders.items()} for part in parts}
    return {
        "name": name,
        "result": tables.result_table(name, parts, metrics),
        "dots": [result_chart(parts, metric) for metric in metrics[:2]],
        "tests": tables.test_tables(name, values, by_user, against),
        "shares": [share_of_users(values, metric) for metric in by_user],
        "quantiles": [tables.user_table(name, metric, values) for metric in by_user],
        "missing_users": [str(path.relative_to(comparison.folder)) for path in missing],
        "monitor": monitor,
        "curves": validation_charts(histories, monitor),
        "losses": loss_charts(histories),
        "missing_history": [
            str(comparison.run_folder(name, model, seed).relative_to(comparison.folder))
            for model, seeds in histories.items()
            for seed, table in seeds.items()
            if table is None
        ],
        "cost": tables.cost_table(name, parts),
        "chosen": tables.chosen_table(comparison, name, parts, monitor),
        "search": tables.search_table(comparison, name, monitor),
        "maps": [],
        "galleries": [],
        "pictures": {},
        "saved": None,
    }


def _monitor(parts: list[Group], metrics: list[str]) -> str | None:
    """The validation metric that the runs were selected by, as they say, else the first that they have."""
    said = [read_settings(folder).get("monitor") for part in parts for folder in part.folders.values()]
    for name in [*said, "recall@20", *metrics]:
        if isinstance(name, str) and all(f"val_{name}" in part.runs for part in parts):
            return name
    return None


def _best_on_validation(parts: list[Group], monitor: str | None) -> str:
    means = [part.runs[f"val_{monitor}"].mean() if monitor else 0.0 for part in parts]
    return parts[int(np.argmax(np.nan_to_num(means, nan=-1.0)))].model


def _showcase(
    parts: list[Group],
    views: Views,
    users: Sequence[int] | None,
    texts: Sequence[str] | None,
    num_users: int,
    k: int,
    map_items: int,
    seed: int,
) -> dict[str, Any]:
    """Maps and galleries from the saved models."""
    models = load_models(parts)
    for model in models.values():
        model.check_data(views[0])
    shown = draw_users(views, num_users, seed) if users is None else list(users)
    lists = galleries(models, views, shown, k, texts) if models else []
    return {
        "saved": len(models),
        "maps": item_maps(models, views, map_items, seed) if map_items else [],
        "galleries": lists,
        "pictures": pictures(views[0], lists),
    }


def _render(**content: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("pyg_mmrec.benchmark", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html").render(**content)
