"""The interactive plots of a comparison, as the plain values that plotly.js draws."""

import html
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from vae_jax.comparison import intervals
from vae_jax.comparison.figures import Family, beyond, families
from vae_jax.comparison.results import ComparedRun, Comparison, Group, Summary
from vae_jax.comparison.wording import apart, in_nats
from vae_jax.report.markup import text

COLOURS = ("#3b7dd8", "#d9762b", "#2f9e67", "#c9473f", "#8a63c9", "#a0703c", "#d361a6", "#7a8591", "#a3a52a", "#28a3b8")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
GREY = "#858d97"
PALE, FULL = 0.25, 0.95
MOST_NAMED = 24
"""Groups that a legend has room for; of more, the text at a dot tells."""

Figure = dict[str, Any]


def figures(comparison: Comparison) -> dict[str, Figure]:
    """The plots that this comparison has numbers for, by name."""
    drawn = {
        "rate_distortion": rate_distortion(comparison),
        "strength": score_by_strength(comparison),
        "correlation": correlation(comparison),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def rate_distortion(comparison: Comparison) -> Figure | None:
    """Every run a dot, dominated ones pale, the means of a family's groups joined.

    At the right end those without a rate, or far out; those whose distortion is of other things are left out.
    """
    runs = _comparable(comparison, "distortion")
    if not runs:
        return None
    rated = _within(comparison, {name: run for name, run in runs.items() if _finite(run.metrics.get("rate"))})
    points = [(run.metrics["rate"], run.metrics["distortion"]) for run in rated.values()]
    pale = intervals.dominated(*np.array(points).reshape(-1, 2).T)
    shade = {name: PALE if beaten else FULL for name, beaten in zip(rated, pale, strict=True)}
    x = _limits([rate for rate, _ in points] or [0.0])
    y = _limits([run.metrics["distortion"] for run in runs.values()])
    lines, notes = _elbo_lines(x, y, [rate + distortion for rate, distortion in points])
    joined = []
    for family in families(comparison):
        means = [_centre([rated[name].metrics for name in group.runs if name in rated]) for group in family.groups]
        joined.append(_line(family.name, [point for point in means if point]))
    dots = []
    for group, colour, symbol in styled(comparison):
        own = [runs[name] for name in group.runs if name in rated]
        places = [(run.metrics["rate"], run.metrics["distortion"]) for run in own]
        dots.append(_dots(group, own, places, ("distortion", "rate"), colour, symbol))
        dots[-1]["marker"]["opacity"] = [shade[run.name] for run in own]
        if rest := [runs[name] for name in group.runs if name in runs and name not in rated]:
            ends = [(0.0, run.metrics["distortion"]) for run in rest]
            dots.append(_dots(group, rest, ends, ("distortion", "rate"), colour, symbol) | {"xaxis": "x2"})
    placed = {run.group for run in runs.values()}
    keys = [_key(*style) for style in styled(comparison) if style[0].name in placed]
    axes = _axis("rate, nats per image", range=x), _axis("distortion, nats per image", range=y)
    figure = _figure(lines + joined + dots + keys, *axes, names=len(keys), annotations=notes)
    if len(rated) < len(runs):
        figure["layout"]["xaxis"]["domain"] = (0, 0.86)
        far = any(_finite(run.metrics.get("rate")) for name, run in runs.items() if name not in rated)
        words = "no rate,<br>or far out" if far else "no rate"
        figure["layout"]["xaxis2"] = _axis(
            "", domain=(0.9, 1), range=(-1, 1), tickvals=[0], ticktext=[words], tickangle=0
        )
    return figure


def score_by_strength(comparison: Comparison) -> Figure | None:
    """The score of choice against the strength of each family with its band; by group where none has a strength."""
    score = comparison.metrics[0]
    runs = _comparable(comparison, score)
    if not runs:
        return None
    scored = {run.group for run in runs.values()}
    some = [family for family in families(comparison) if any(group.name in scored for group in family.groups)]
    shown = [group for group in comparison.groups if group.name in scored]
    place, axis = _strengths(some, scored) or _names(shown)
    left, right = axis["range"]
    styles = [each for each in styled(comparison) if each[0].name in scored]
    style = {group.name: (colour, symbol) for group, colour, symbol in styles}
    traces, dots = [], []
    for family in some:
        own = [group for group in family.groups if group.name in scored]
        colour = style[own[0].name][0]
        found = [(place.get(group.name), group.summaries[score]) for group in own if score in group.summaries]
        known = [(x, summary) for x, summary in found if x is not None and math.isfinite(summary.mean)]
        if family.field:
            traces += [_band(known, colour), _line(family.name, [(x, summary.mean) for x, summary in known], colour)]
        elif known:
            traces.append(_bars(known, colour))
        elif found:
            level = found[0][1].mean
            traces.append(_line(family.name, [(left, level), (right, level)], colour, dash="dash"))
    for group in shown:
        own = [runs[name] for name in group.runs if name in runs]
        points = [(place.get(group.name, right), run.metrics[score]) for run in own]
        dots.append(_dots(group, own, points, (score,), *style[group.name]))
        dots[-1]["marker"]["opacity"] = 0.6
    keys = [_key(*each) for each in styles]
    return _figure([trace for trace in traces if trace] + dots + keys, axis, _axis(score), names=len(keys))


def correlation(comparison: Comparison) -> Figure | None:
    """Spearman's correlation between the metrics as a heat map; what is not known is left empty."""
    names = [_plain(name) for name in comparison.metrics]
    if len(names) < 2:
        return None
    heat = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": [[value if _finite(value) else None for value in row] for row in comparison.correlation],
        "zmin": -1,
        "zmax": 1,
        "colorscale": [[0, "#b2382f"], [0.5, "#f3f3f1"], [1, "#2c66b0"]],
        "hovertemplate": "%{y} and %{x}: %{z:.2f}<extra></extra>",
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"thickness": 10, "outlinewidth": 0},
    }
    if len(names) <= 8:
        heat["texttemplate"] = "%{z:.2f}"
    axes = _axis("", type="category", showgrid=False), _axis("", type="category", showgrid=False, autorange="reversed")
    figure = _figure([heat], *axes, names=0)
    figure["layout"]["height"] = 320 + 16 * len(names)
    return figure


def styled(comparison: Comparison) -> list[tuple[Group, str, str]]:
    """Each group with its colour, and the symbol of its family."""
    symbols = {}
    for i, family in enumerate(families(comparison)):
        symbols |= dict.fromkeys((group.name for group in family.groups), SYMBOLS[i % len(SYMBOLS)])
    return [(group, COLOURS[i % len(COLOURS)], symbols[group.name]) for i, group in enumerate(comparison.groups)]


def _strengths(some: list[Family], scored: Collection[str]) -> tuple[dict[str, float], Figure] | None:
    """Where each scored group stands by its strength, and that axis: a logarithm where they span much, 0 below."""
    of = {
        group.name: at
        for family in some
        if family.field
        for group, at in zip(family.groups, family.strengths, strict=True)
        if group.name in scored
    }
    if not of:
        return None
    values = sorted(set(of.values()))
    positive = [value for value in values if value > 0]
    place = {value: value for value in values}
    if values[0] >= 0 and positive and positive[-1] / positive[0] >= 8:
        step = math.log(positive[-1] / positive[0]) / (len(positive) - 1)
        place = {value: math.log(value) if value else math.log(positive[0]) - step for value in values}
    shown = _apart(values, place)
    ticks = {"tickvals": [place[value] for value in shown], "ticktext": [f"{value:.4g}" for value in shown]}
    title = ", ".join(dict.fromkeys(family.field for family in some if family.field))
    return {name: place[value] for name, value in of.items()}, _axis(title, range=_limits(place.values()), **ticks)


def _apart(values: list[float], place: dict[float, float]) -> list[float]:
    """The values whose ticks leave each other room, from the first."""
    room, found = (place[values[-1]] - place[values[0]]) / 16, values[:1]
    for value in values[1:]:
        if place[value] - place[found[-1]] >= room:
            found.append(value)
    return found


def _names(groups: Sequence[Group]) -> tuple[dict[str, float], Figure]:
    """Where each group stands, one after the other, and that axis."""
    place = {group.name: i for i, group in enumerate(groups)}
    ticks = {"tickvals": list(place.values()), "ticktext": [_plain(name) for name in place]}
    return place, _axis("", range=(-0.6, len(place) - 0.4), **ticks)


def _elbo_lines(x: tuple[float, float], y: tuple[float, float], sums: list[float]) -> tuple[list[Figure], list[Figure]]:
    """Lines of equal rate + distortion = -ELBO: the best run's, and round ones; and their names."""
    if not sums:
        return [], []
    span = max(sums) - min(sums) or 1.0
    step = 10 ** math.floor(math.log10(span))
    step *= next(times for times in (0.2, 0.5, 1, 2, 5) if span / (times * step) <= 5)
    levels = [level * step for level in range(math.ceil(min(sums) / step), math.floor(max(sums) / step) + 1)]
    best = min(sums)
    lines, notes, named = [], [], []
    for level in dict.fromkeys([best, *levels]):
        start, end = max(x[0], level - y[1]), min(x[1], level - y[0])
        if start >= end:
            continue
        lines.append(_line("", [(start, level - start), (end, level - end)], GREY, dash="dot", width=1))
        if all(abs(level - other) > 0.06 * (y[1] - y[0]) for other in named):
            name = f"best ELBO {text(-best)}" if level == best else text(-level)
            notes.append(_note(start, level - start, name, xanchor="left", yanchor="bottom", font={"size": 10}))
            named.append(level)
    return lines, notes


def _comparable(comparison: Comparison, metric: str) -> dict[str, ComparedRun]:
    """The finished runs, by name, for which the metric is a finite number, and of what the baseline's is."""
    other = apart(comparison) if in_nats(metric) else ()
    done = [run for run in comparison.runs if run.status == "done" and run.group not in other]
    return {run.name: run for run in done if _finite(run.metrics.get(metric))}


def _within(comparison: Comparison, rated: dict[str, ComparedRun]) -> dict[str, ComparedRun]:
    """Those of groups whose rate leaves room for the others."""
    rates = {}
    for run in rated.values():
        rates.setdefault(run.group, []).append(run.metrics["rate"])
    far = beyond({group: float(np.mean(of)) for group, of in rates.items()})
    return {name: run for name, run in rated.items() if run.group not in far}


def _centre(found: list[dict[str, float]]) -> tuple[float, float] | None:
    mean = lambda name: math.fsum(metrics[name] for metrics in found) / len(found)  # noqa: E731
    return (mean("rate"), mean("distortion")) if found else None


def _dots(group: Group, runs: list, places: list, metrics: tuple[str, ...], colour: str, symbol: str) -> Figure:
    told = lambda run: [f"{name} {run.metrics[name]:.4g}" for name in metrics if name in run.metrics]  # noqa: E731
    return {
        "type": "scatter",
        "mode": "markers",
        "name": _plain(group.name),
        "x": [x for x, _ in places],
        "y": [y for _, y in places],
        "marker": {"color": colour, "symbol": symbol, "size": 8},
        "hovertext": ["<br>".join(map(_plain, (run.name, group.name, *told(run)))) for run in runs],
        "hoverinfo": "text",
        "legendgroup": _plain(group.name),
        "showlegend": False,
    }


def _key(group: Group, colour: str, symbol: str) -> Figure:
    """The group's mark in the legend, which is not that of a pale dot."""
    return _dots(group, [], [(None, None)], (), colour, symbol) | {"showlegend": True}


def _line(name: str, points: list[tuple[float, float]], colour: str = GREY, **style: Any) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": _plain(name),
        "x": [x for x, _ in points],
        "y": [y if math.isfinite(y) else None for _, y in points],
        "line": {"color": colour, "width": 1.5} | style,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _band(known: list[tuple[float, Summary]], colour: str) -> Figure | None:
    """The 95% intervals of the means, filled; a group of one seed has none."""
    sure = [(x, summary.low, summary.high) for x, summary in known if _finite(summary.low) and _finite(summary.high)]
    edge = [(x, high) for x, _, high in sure] + [(x, low) for x, low, _ in reversed(sure)]
    if not edge:
        return None
    return _line("", edge, colour, width=0 if len(sure) > 1 else 3) | {
        "fill": "toself",
        "fillcolor": f"{colour}33",
    }


def _bars(known: list[tuple[float, Summary]], colour: str) -> Figure:
    sure = [(x, summary) for x, summary in known if _finite(summary.mean)]
    ends = lambda name: [abs(getattr(s, name) - s.mean) if _finite(getattr(s, name)) else 0 for _, s in sure]  # noqa: E731
    return _line("", [(x, summary.mean) for x, summary in sure], colour) | {
        "mode": "markers",
        "marker": {"color": colour, "symbol": "line-ew-open", "size": 22},
        "error_y": {"array": ends("high"), "arrayminus": ends("low"), "symmetric": False, "width": 8, "color": colour},
    }


def _note(x: float, y: float, text: str, **rest: Any) -> Figure:
    return {"x": x, "y": y, "text": text, "showarrow": False} | rest


def _axis(title: str, **rest: Any) -> Figure:
    titled = {"title": {"text": _plain(title), "standoff": 8}} if title else {}
    return titled | {"zeroline": False, "automargin": True, "gridcolor": "#d9dee4"} | rest


def _figure(traces: list[Figure], x: Figure, y: Figure, names: int, **rest: Any) -> Figure:
    layout = {
        "xaxis": x,
        "yaxis": y,
        "height": 400 + 20 * min(names, MOST_NAMED) * (names <= MOST_NAMED),
        "margin": {"l": 48, "r": 12, "t": 28, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, Liberation Sans, sans-serif", "size": 12, "color": "#1c2127"},
        "showlegend": 1 < names <= MOST_NAMED,
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "itemsizing": "constant"},
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout | rest}


def _limits(values: Iterable[float]) -> tuple[float, float]:
    """The range of an axis that shows these values, with some room."""
    values = list(values)
    low, high = min(values), max(values)
    room = 0.07 * (high - low) or max(0.05 * abs(high), 0.5)
    return low - room, high + room


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _plain(text: str) -> str:
    """Text in which plotly.js finds no markup."""
    return html.escape(text, quote=False)
