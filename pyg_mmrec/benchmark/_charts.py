"""Small charts: where their lines, dots and bars lie. A template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Of the drawing, in pixels: about as wide as a phone, so that text keeps its size there.
WIDTH, HEIGHT = 340.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 8.0, 10.0, 28.0
ROW = 40.0
#: Most points of a line, colours of lines and dots.
MAX_POINTS, COLOURS = 200, 8

Values = Sequence[float] | NDArray[np.float64]


class Mark(NamedTuple):
    """A shape of a chart: a line's points, or the place of a dot, a bar or a label."""

    kind: str  #: line, dot, bar, tick, label
    colour: int
    title: str
    points: str = ""
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0


class Chart(NamedTuple):
    """What a template needs to draw a chart."""

    title: str
    description: str
    marks: list[Mark]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    x_name: str = ""
    legend: Sequence[tuple[int, str]] = ()
    height: float = HEIGHT
    left: float = LEFT
    width: float = WIDTH
    bottom: float = BOTTOM


class Series(NamedTuple):
    """One line."""

    label: str
    x: Values
    y: Values
    colour: int = 0
    best: float | None = None  #: The x to mark


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``.

    Example:
        >>> nice_ticks(0.02, 0.11)
        [0.0, 0.05, 0.1, 0.15]
    """
    if not high > low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def line_chart(
    title: str, series: Sequence[Series], x_name: str, *, y_range: tuple[float, float] | None = None
) -> Chart:
    """Lines over a common x; the y axis is logarithmic where positive values are far apart and no range is given.

    Args:
        title: Of the chart.
        series: The lines; values that are not finite are left out.
        x_name: Name of the x axis.
        y_range: Least and largest value of the y axis (default: those of the lines).
    """
    drawn = [_finite(one) for one in series]
    drawn = [one for one in drawn if len(one.y)]
    values = np.concatenate([np.asarray(one.y) for one in drawn]) if drawn else np.zeros(1)
    log = y_range is None and values.min() > 0 and values.max() > 30 * values.min()
    low, high = y_range or (float(values.min()), float(values.max()))
    y_marks = _decades(low, high) if log else nice_ticks(low, high)
    x_marks = nice_ticks(0, max([float(max(one.x)) for one in drawn] or [1.0]))
    marks = []
    for one in drawn:
        x = _scale(one.x, x_marks[0], x_marks[-1], LEFT, WIDTH - RIGHT)
        y = _vertical(one.y, y_marks, log)
        marks.append(Mark("line", one.colour % COLOURS, one.label, _points(x, y)))
        if one.best is not None and (at := np.flatnonzero(np.asarray(one.x) == one.best)).size:
            best = f"{one.label}: {one.y[at[0]]:.4f} in epoch {one.best:g}, the best"
            marks.append(Mark("dot", one.colour % COLOURS, best, x=float(x[at[0]]), y=float(y[at[0]])))
    places = _vertical(y_marks, y_marks, log)
    found = [f"{one.label} from {one.y[0]:.4g} to {one.y[-1]:.4g}" for one in drawn]
    return Chart(
        title + (", logarithmic scale" if log else ""),
        f"{title} by {x_name}: {'; '.join(found) or 'no values'}." + (" Logarithmic scale." if log else ""),
        marks,
        [(float(_scale([at], x_marks[0], x_marks[-1], LEFT, WIDTH - RIGHT)[0]), f"{at:g}") for at in x_marks],
        [(float(at), f"{value:g}") for at, value in zip(places, y_marks, strict=True)],
        x_name,
    )


def dot_chart(title: str, rows: Sequence[tuple[str, Values, float | None]], x_name: str) -> Chart:
    """A row for each name: a dot a value, a bar at their mean and a stroke at a value to compare with.

    Args:
        title: Of the chart.
        rows: Name, values and the value to compare with, None without one.
        x_name: Name of the x axis.
    """
    every = [float(value) for _, values, other in rows for value in (*values, *([] if other is None else [other]))]
    ticks, marks = nice_ticks(min(every), max(every)), []
    left, right = 12.0, WIDTH - 16.0

    def place(value: float) -> float:
        return float(_scale([value], ticks[0], ticks[-1], left, right)[0])

    for i, (name, values, other) in enumerate(rows):
        y, mean = TOP + ROW * i + 26.0, float(np.mean(values))
        marks.append(Mark("label", 0, name, x=left, y=y - 11.0))
        marks += [Mark("dot", 0, f"{name}: {value:.4f}", x=place(float(value)), y=y) for value in values]
        marks.append(Mark("tick", 0, f"{name}: mean {mean:.4f}", x=place(mean), y=y))
        if other is not None:
            marks.append(Mark("tick", 1, f"{name}: published {other:.4f}", x=place(other), y=y))
    height = TOP + ROW * len(rows) + BOTTOM + 8.0
    described = "; ".join(f"{name} {float(np.mean(values)):.4f}" for name, values, _ in rows)
    legend = [(0, "a run, and the mean")] + ([(1, "published")] if any(o is not None for *_, o in rows) else [])
    x_ticks = [(place(value), f"{value:g}") for value in ticks]
    return Chart(title, f"{title}, means: {described}.", marks, x_ticks, [], x_name, legend, height, left)


def share_chart(title: str, rows: Sequence[tuple[str, Values]], names: Sequence[str]) -> Chart:
    """A bar for each name, divided by shares that add up to one.

    Args:
        title: Of the chart.
        rows: Name and shares.
        names: Of the shares, in order.
    """
    left, marks, span = 8.0, [], WIDTH - 16.0
    for i, (name, shares) in enumerate(rows):
        y, start = TOP + ROW * i + 18.0, left
        marks.append(Mark("label", 0, name, x=left, y=y - 5.0))
        for colour, (share, part) in enumerate(zip(shares, names, strict=True)):
            marks.append(Mark("bar", colour, f"{name}, {part}: {share:.1%}", x=start, y=y, width=span * float(share)))
            start += span * float(share)
    legend = list(enumerate(names))
    height = TOP + ROW * len(rows) + 4.0
    described = "; ".join(f"{name}: {', '.join(f'{share:.0%}' for share in shares)}" for name, shares in rows)
    return Chart(
        title, f"{title} ({', '.join(names)}): {described}.", marks, [], [], "", legend, height, left, bottom=0.0
    )


def scatter_chart(title: str, places: NDArray[np.float64], colours: Sequence[int], names: Sequence[str]) -> Chart:
    """Dots in the plane, without axes.

    Args:
        title: Of the chart.
        places: ``[n, 2]``.
        colours: ``[n]`` an index into ``names`` for each dot.
        names: Of the colours; empty if there is one without a name.
    """
    x = _scale(places[:, 0], float(places[:, 0].min()), float(places[:, 0].max()), 6.0, WIDTH - 6.0)
    y = _scale(places[:, 1], float(places[:, 1].min()), float(places[:, 1].max()), WIDTH - 6.0, 6.0)
    marks = [Mark("point", colour, "", x=float(a), y=float(b)) for a, b, colour in zip(x, y, colours, strict=True)]
    legend = list(enumerate(names))
    return Chart(title, f"{title}: {len(marks)} items.", marks, [], [], "", legend, WIDTH, 6.0, bottom=0.0)


def _finite(series: Series) -> Series:
    """The values that can be drawn, the last of each stretch where there are too many; the marked one stays."""
    x, y = np.asarray(series.x, dtype=np.float64), np.asarray(series.y, dtype=np.float64)
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    if len(x) > MAX_POINTS:
        chosen = np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(int)
        chosen = np.union1d(chosen, np.flatnonzero(x == series.best))
        x, y = x[chosen], y[chosen]
    return series._replace(x=x, y=y)


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = max(1, math.ceil((last - first) / 5))
    return [10.0**power for power in range(first, last + step, step)]


def _scale(values: Values, low: float, high: float, start: float, end: float) -> NDArray[np.float64]:
    span = (high - low) or 1.0
    return np.round(start + (np.asarray(values, dtype=np.float64) - low) / span * (end - start), 1)


def _vertical(values: Values, marks: Sequence[float], log: bool) -> NDArray[np.float64]:
    if log:
        values, marks = np.log10(np.asarray(values)), [math.log10(mark) for mark in marks]
    return _scale(values, marks[0], marks[-1], HEIGHT - BOTTOM, TOP)


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    return " ".join(f"{a:g},{b:g}" for a, b in zip(x, y, strict=True))
