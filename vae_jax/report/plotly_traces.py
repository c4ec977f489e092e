"""Traces, axes and layouts of interactive plots, as the plain values that plotly.js draws."""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from vae_jax.comparison.results import ComparedRun, Number, Summary
from vae_jax.plots.captions import format_short

GREY = "#858d97"
MAX_NAMES = 24
"""Families that a legend has room for; of more, the text at a dot tells."""

Figure = dict[str, Any]
Point = tuple[Number, Number]


def dots(
    group: str,
    runs: Sequence[ComparedRun],
    points: Sequence[tuple[Number | None, Number | None]],
    metrics: Sequence[str],
    colour: str,
    symbol: str,
    opacity: float | Sequence[float] | None = None,
) -> Figure:
    """A dot for each run of a group, at `points`; at the pointer its name, its group and these metrics."""
    marker = {"color": colour, "symbol": symbol, "size": 8}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escaped(group),
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "marker": marker if opacity is None else marker | {"opacity": opacity},
        "cliponaxis": False,
        "customdata": [run.name for run in runs],
        "hovertext": [_hover_text(group, run, metrics) for run in runs],
        "hoverinfo": "text",
        "legendgroup": escaped(group),
        "showlegend": False,
    }


def _hover_text(group: str, run: ComparedRun, metrics: Sequence[str]) -> str:
    numbers = [f"{name} {format_short(run.metrics[name], 4)}" for name in metrics if name in run.metrics]
    return "<br>".join(map(escaped, (run.name, group, *numbers)))


def legend_key(family: str, colour: str, symbol: str) -> Figure:
    """A family's mark in the legend, which is not that of a pale dot."""
    return dots(family, [], [(None, None)], (), colour, symbol) | {"showlegend": True}


def line(name: str, points: Sequence[Point], colour: str = GREY, **style: Any) -> Figure:
    """A line through these points, with a gap where y is not finite."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": escaped(name),
        "x": [x for x, _ in points],
        "y": [y if math.isfinite(y) else None for _, y in points],
        "line": {"color": colour, "width": 1.5} | style,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def band(summaries: Sequence[tuple[Number, Summary]], colour: str) -> Figure | None:
    """The 95% intervals of the means, filled; a group of one seed has none."""
    sure = [(x, s.low, s.high) for x, s in summaries if is_finite(s.low) and is_finite(s.high)]
    edge = [(x, high) for x, _, high in sure] + [(x, low) for x, low, _ in reversed(sure)]
    if not edge:
        return None
    return line("", edge, colour, width=0 if len(sure) > 1 else 3) | {
        "fill": "toself",
        "fillcolor": f"{colour}33",
    }


def bars(summaries: Sequence[tuple[Number, Summary]], colour: str) -> Figure:
    """The means with their intervals as bars."""
    above = [_reach(summary.mean, summary.high) for _, summary in summaries]
    below = [_reach(summary.mean, summary.low) for _, summary in summaries]
    return line("", [(x, summary.mean) for x, summary in summaries], colour) | {
        "mode": "markers",
        "marker": {"color": colour, "symbol": "line-ew-open", "size": 22},
        "error_y": {"array": above, "arrayminus": below, "symmetric": False, "width": 8, "color": colour},
    }


def _reach(mean: Number, end: Number | None) -> Number:
    return abs(end - mean) if is_finite(end) else 0


def note(x: Number, y: Number, text: str, **options: Any) -> Figure:
    """A text at a point."""
    return {"x": x, "y": y, "text": text, "showarrow": False} | options


def axis(title: str, **options: Any) -> Figure:
    """An axis, with a title unless that is empty."""
    heading = {"title": {"text": escaped(title), "standoff": 8}} if title else {}
    return heading | {"zeroline": False, "automargin": True, "gridcolor": "#d9dee4"} | options


def figure(traces: list[Figure], x: Figure, y: Figure, names: int, **options: Any) -> Figure:
    """Traces on two axes, with a legend of so many `names` where there is room for it."""
    layout = {
        "xaxis": x,
        "yaxis": y,
        "height": 400 + (20 * names if names <= MAX_NAMES else 0),
        "margin": {"l": 48, "r": 12, "t": 28, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, Liberation Sans, sans-serif", "size": 12, "color": "#1c2127"},
        "showlegend": 1 < names <= MAX_NAMES,
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "itemsizing": "constant"},
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout | options}


def limits(values: Iterable[Number]) -> Point:
    """The range of an axis that shows these values, with some room."""
    values = list(values)
    low, high = min(values), max(values)
    room = 0.07 * (high - low) or max(0.05 * abs(high), 0.5)
    return low - room, high + room


def is_finite(value: Any) -> TypeGuard[Number]:
    """Whether it is a finite number, and not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def escaped(text: str) -> str:
    """Text in which plotly.js finds no markup."""
    return html.escape(text, quote=False)
