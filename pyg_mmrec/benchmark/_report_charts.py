"""The charts of a comparison's report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pyg_mmrec.benchmark import _report_tables as tables
from pyg_mmrec.benchmark._charts import Chart, Series, dot_chart, line_chart, share_chart
from pyg_mmrec.benchmark._report_data import Group

#: Histories by model and seed.
Histories = Mapping[str, Mapping[int, pd.DataFrame | None]]

#: The shares of users that are counted: at 0, up to each of these, and at 1.
STEPS = (0.25, 0.5, 0.75)
SHARES = ("0", "up to 0.25", "up to 0.5", "up to 0.75", "below 1", "1")


def result_chart(parts: list[Group], metric: str) -> Chart:
    """Test runs, their mean and the published value of each model."""
    rows = [
        (part.model, part.runs[f"test_{metric}"].dropna().to_numpy(), tables.published_value(part.runs, metric))
        for part in parts
    ]
    return dot_chart(f"test {metric}", [row for row in rows if len(row[1])], metric)


def share_of_users(values: Mapping[str, pd.DataFrame], metric: str) -> Chart:
    """How many users are at 0, at 1 and between."""
    rows = []
    for model, table in values.items():
        if metric in table:
            one = table[metric].to_numpy()
            place = np.searchsorted(STEPS, one, side="left") + 1
            place = np.where(one == 0, 0, np.where(one == 1, len(SHARES) - 1, place))
            rows.append((model, np.bincount(place, minlength=len(SHARES)) / len(one)))
    return share_chart(f"users by {metric}", rows, SHARES)


def validation_charts(histories: Histories, monitor: str | None) -> list[Chart]:
    """A chart for each model of the validation metric by epoch, a line a seed, on one scale."""
    lines = {
        model: [
            _series(f"seed {seed}", table, monitor, best=float(table["epoch"].to_numpy()[table[monitor].argmax()]))
            for seed, table in seeds.items()
            if monitor and table is not None and monitor in table and table[monitor].notna().any()
        ]
        for model, seeds in histories.items()
    }
    lines = {model: series for model, series in lines.items() if series}
    values = [value for series in lines.values() for one in series for value in one.y if np.isfinite(value)]
    scale = (min(values), max(values)) if values else None
    return [line_chart(model, series, "epoch", y_range=scale) for model, series in lines.items()]


def loss_charts(histories: Histories) -> list[Chart]:
    """A chart for each model of its loss terms by epoch, a line a seed and term."""
    charts = []
    for model, seeds in histories.items():
        known = {seed: table for seed, table in seeds.items() if table is not None}
        columns = [str(name) for table in known.values() for name in table]
        names = dict.fromkeys(name.removeprefix("loss_") for name in columns if name.startswith("loss_"))
        terms = {name: i for i, name in enumerate(names)}
        series = [
            _series(f"{name}, seed {seed}", table, f"loss_{name}", terms[name])
            for seed, table in known.items()
            for name in terms
            if f"loss_{name}" in table
        ]
        if series:
            legend = [(i, name) for name, i in terms.items()]
            charts.append(line_chart(model, series, "epoch")._replace(legend=legend))
    return charts


def _series(label: str, table: pd.DataFrame, column: str, colour: int = 0, best: float | None = None) -> Series:
    return Series(label, table["epoch"].to_numpy(float), table[column].to_numpy(float), colour, best)
