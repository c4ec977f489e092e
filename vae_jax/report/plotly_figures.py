"""The interactive plots of a comparison, as the plain values that plotly.js draws."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vae_jax.comparison import intervals
from vae_jax.comparison.comparability import incomparable_groups
from vae_jax.comparison.families import Family, distant_groups, families
from vae_jax.comparison.results import ComparedRun, Comparison, Group, Number, Summary
from vae_jax.plots import palette
from vae_jax.plots.captions import format_fixed, format_short
from vae_jax.report import plotly_traces
from vae_jax.report.markup import four_digits
from vae_jax.report.plotly_traces import GREY, Figure, Point

PALE, FULL = 0.25, 0.95
LOG_RATIO = 8
"""How many times the smallest strength the largest is from which on the axis is logarithmic."""

Runs = dict[str, ComparedRun]


class Style(NamedTuple):
    """A family with its colour and its symbol, those of the pictures."""

    family: Family
    colour: str
    symbol: str


def figures(comparison: Comparison) -> dict[str, Figure]:
    """The plots that this comparison has numbers for, by name."""
    plots = {
        "rate_distortion": rate_distortion(comparison),
        "strength": score_by_strength(comparison),
        "correlation": correlation(comparison),
    }
    return {name: figure for name, figure in plots.items() if figure is not None}


def rate_distortion(comparison: Comparison) -> Figure | None:
    """Every run a dot, dominated ones pale, the means of a family's groups joined.

    At the right end those without a rate, or far out; those whose distortion is of other things are left out.
    """
    runs = _comparable_runs(comparison, "distortion")
    if not runs:
        return None
    rated = _near_runs({name: run for name, run in runs.items() if plotly_traces.is_finite(run.metrics.get("rate"))})
    points = [_rate_and_distortion(run) for run in rated.values()]
    x = plotly_traces.limits([rate for rate, _ in points] or [0.0])
    y = plotly_traces.limits([run.metrics["distortion"] for run in runs.values()])
    lines, names = _elbo_lines(x, y, [rate + distortion for rate, distortion in points])
    family_styles = styles(comparison, {run.group for run in runs.values()})
    means = [_mean_line(style, rated) for style in family_styles]
    dots = [trace for style in family_styles for trace in _rate_dots(style, runs, rated)]
    keys = [plotly_traces.legend_key(style.family.name, style.colour, style.symbol) for style in family_styles]
    axes = (
        plotly_traces.axis("rate, nats per image", range=x),
        plotly_traces.axis("distortion, nats per image", range=y),
    )
    names += [name for style in family_styles for name in _strength_notes(style, rated, x)]
    figure = plotly_traces.figure(lines + means + dots + keys, *axes, names=len(keys), annotations=names)
    if len(rated) < len(runs):
        _add_end_axis(figure, [run for name, run in runs.items() if name not in rated])
    return figure


def _rate_and_distortion(run: ComparedRun) -> Point:
    return run.metrics["rate"], run.metrics["distortion"]


def _rate_dots(style: Style, runs: Runs, rated: Runs) -> list[Figure]:
    """The dots of a family's groups: by rate on the first axis, at the end on the second."""
    points = np.array([_rate_and_distortion(run) for run in rated.values()]).reshape(-1, 2)
    dominated = dict(zip(rated, intervals.is_dominated(*points.T), strict=True))
    metrics = ("distortion", "rate")
    traces = []
    for group in style.family.groups:
        near = [runs[name] for name in group.runs if name in rated]
        end = [runs[name] for name in group.runs if name in runs and name not in rated]
        opacity = [PALE if dominated[run.name] else FULL for run in near]
        near_points = [_rate_and_distortion(run) for run in near]
        traces.append(_dots(style, group, near, near_points, metrics, opacity))
        if end:
            end_points = [(0.0, run.metrics["distortion"]) for run in end]
            traces.append(_dots(style, group, end, end_points, metrics) | {"xaxis": "x2"})
    return traces


def _dots(
    style: Style,
    group: Group,
    runs: Sequence[ComparedRun],
    points: Sequence[tuple[Number | None, Number | None]],
    metrics: Sequence[str],
    opacity: float | Sequence[float] | None = None,
) -> Figure:
    """The dots of a group, in the look of its family, which the legend shows and hides as one."""
    traces = plotly_traces.dots(group.name, runs, points, metrics, style.colour, style.symbol, opacity)
    return traces | {"legendgroup": plotly_traces.escaped(style.family.name)}


def _mean_line(style: Style, rated: Runs) -> Figure:
    """The means of a family's groups, joined."""
    groups = [[rated[name] for name in group.runs if name in rated] for group in style.family.groups]
    points = [_mean_point(runs) for runs in groups if runs]
    return plotly_traces.line(style.family.name, points, style.colour)


def _strength_notes(style: Style, rated: Runs, limits: Point) -> list[Figure]:
    """The strengths beside the means of a family's groups, the first with its name; at the right edge to their left."""
    notes: list[Figure] = []
    family, leaf = style.family, style.family.field.rpartition(".")[2]
    edge = limits[0] + 0.85 * (limits[1] - limits[0])
    for strength, group in zip(family.strengths, family.groups, strict=True):
        runs = [rated[name] for name in group.runs if name in rated]
        if not runs or not family.field:
            continue
        text = format_short(strength) if notes else f"{leaf}={format_short(strength)}"
        rate, distortion = _mean_point(runs)
        side: Figure = {"xanchor": "right", "xshift": -4} if rate > edge else {"xanchor": "left", "xshift": 4}
        look: Figure = {"yanchor": "bottom", "font": {"size": 10, "color": style.colour}} | side
        notes.append(plotly_traces.note(rate, distortion, plotly_traces.escaped(text), **look))
    return notes


def _mean_point(runs: Sequence[ComparedRun]) -> Point:
    rate = math.fsum(run.metrics["rate"] for run in runs) / len(runs)
    return rate, math.fsum(run.metrics["distortion"] for run in runs) / len(runs)


def _add_end_axis(figure: Figure, runs: Sequence[ComparedRun]) -> None:
    """A second axis to the right, for runs without a rate or with one far out."""
    distant = any(plotly_traces.is_finite(run.metrics.get("rate")) for run in runs)
    name = "no rate,<br>or far out" if distant else "no rate"
    figure["layout"]["xaxis"]["domain"] = (0, 0.86)
    figure["layout"]["xaxis2"] = plotly_traces.axis(
        "", domain=(0.9, 1), range=(-1, 1), tickvals=[0], ticktext=[name], tickangle=0
    )


def score_by_strength(comparison: Comparison) -> Figure | None:
    """The score of choice against the strength of each family with its band; by group where none has a strength."""
    score = comparison.metrics[0]
    runs = _comparable_runs(comparison, score)
    if not runs:
        return None
    scored = {run.group for run in runs.values()}
    family_styles = styles(comparison, scored)
    groups = [group for group in comparison.groups if group.name in scored]
    positions, axis = _strength_axis([style.family for style in family_styles], scored) or _name_axis(groups)
    traces = []
    for style in family_styles:
        summaries = [
            (positions.get(group.name), group.summaries[score])
            for group in style.family.groups
            if group.name in scored and score in group.summaries
        ]
        traces += _family_traces(style.family, summaries, axis["range"], style.colour)
    look = {group.name: style for style in family_styles for group in style.family.groups}
    for group in groups:
        group_runs = [runs[name] for name in group.runs if name in runs]
        points = [(positions.get(group.name, axis["range"][1]), run.metrics[score]) for run in group_runs]
        traces.append(_dots(look[group.name], group, group_runs, points, (score,), opacity=0.6))
    traces += [plotly_traces.legend_key(style.family.name, style.colour, style.symbol) for style in family_styles]
    return plotly_traces.figure(traces, axis, plotly_traces.axis(score), names=len(family_styles))


def _family_traces(
    family: Family, summaries: Sequence[tuple[Number | None, Summary]], limits: Point, colour: str
) -> list[Figure]:
    """The means of a family and their intervals: a band where it has a strength, bars or a level where it has none."""
    points = [(x, summary) for x, summary in summaries if x is not None and math.isfinite(summary.mean)]
    if family.field:
        line = plotly_traces.line(family.name, [(x, summary.mean) for x, summary in points], colour)
        band = plotly_traces.band(points, colour)
        return [band, line] if band else [line]
    if points:
        return [plotly_traces.bars(points, colour)]
    if summaries:
        level = summaries[0][1].mean
        return [plotly_traces.line(family.name, [(limits[0], level), (limits[1], level)], colour, dash="dash")]
    return []


def correlation(comparison: Comparison) -> Figure | None:
    """Spearman's correlation between the metrics as a heat map; what is not known is left empty."""
    names = [plotly_traces.escaped(name) for name in comparison.metrics]
    if len(names) < 2:
        return None
    z = [[value if plotly_traces.is_finite(value) else None for value in row] for row in comparison.correlation]
    heat = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": z,
        "text": [["" if value is None else format_fixed(value, 2) for value in row] for row in z],
        "zmin": -1,
        "zmax": 1,
        "colorscale": [[0, "#b2382f"], [0.5, "#f3f3f1"], [1, "#2c66b0"]],
        "hovertemplate": "%{y} and %{x}: %{text}<extra></extra>",
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"thickness": 10, "outlinewidth": 0},
    }
    if len(names) <= 8:
        heat["texttemplate"] = "%{text}"
    axes = (
        plotly_traces.axis("", type="category", showgrid=False),
        plotly_traces.axis("", type="category", showgrid=False, autorange="reversed"),
    )
    figure = plotly_traces.figure([heat], *axes, names=0)
    figure["layout"]["height"] = 320 + 16 * len(names)
    return figure


def styles(comparison: Comparison, names: Collection[str]) -> list[Style]:
    """The families that have a group among these `names`, with the colours and symbols that pictures give them."""
    return [
        Style(family, palette.colour(number), palette.symbol(number))
        for number, family in enumerate(families(comparison))
        if any(group.name in names for group in family.groups)
    ]


def _strength_axis(families: Sequence[Family], scored: Collection[str]) -> tuple[dict[str, Number], Figure] | None:
    """(position of each scored group by its strength, axis): a logarithm where they span much, 0 below."""
    strengths = {
        group.name: strength
        for family in families
        if family.field
        for group, strength in zip(family.groups, family.strengths, strict=True)
        if group.name in scored
    }
    if not strengths:
        return None
    positions = _positions(sorted(set(strengths.values())))
    values = _spaced_values(positions)
    names = [format_short(value, 4) for value in values]
    ticks = {"tickvals": [positions[value] for value in values], "ticktext": names}
    title = ", ".join(dict.fromkeys(family.field for family in families if family.field))
    axis = plotly_traces.axis(title, range=plotly_traces.limits(positions.values()), **ticks)
    return {name: positions[strength] for name, strength in strengths.items()}, axis


def _positions(values: Sequence[Number]) -> dict[Number, Number]:
    """The rising values as they are, or their logarithms where they span much, with 0 a step below the least."""
    positive = [value for value in values if value > 0]
    if values[0] < 0 or not positive or positive[-1] / positive[0] < LOG_RATIO:
        return {value: value for value in values}
    step = math.log(positive[-1] / positive[0]) / (len(positive) - 1)
    return {value: math.log(value) if value else math.log(positive[0]) - step for value in values}


def _spaced_values(positions: Mapping[Number, Number]) -> list[Number]:
    """The rising values whose ticks leave each other room, from the first."""
    values = list(positions)
    room, spaced = (positions[values[-1]] - positions[values[0]]) / 16, values[:1]
    for value in values[1:]:
        if positions[value] - positions[spaced[-1]] >= room:
            spaced.append(value)
    return spaced


def _name_axis(groups: Sequence[Group]) -> tuple[dict[str, Number], Figure]:
    """(position of each group, one after the other, axis)."""
    positions: dict[str, Number] = {group.name: i for i, group in enumerate(groups)}
    ticks = {"tickvals": list(positions.values()), "ticktext": [plotly_traces.escaped(name) for name in positions]}
    return positions, plotly_traces.axis("", range=(-0.6, len(positions) - 0.4), **ticks)


def _elbo_lines(x: Point, y: Point, sums: Sequence[Number]) -> tuple[list[Figure], list[Figure]]:
    """(lines of equal rate + distortion = -ELBO: the best run's, and round ones; their names).

    Args:
        x: the limits of the rate.
        y: the limits of the distortion.
        sums: rate + distortion of each run.
    """
    if not sums:
        return [], []
    best = min(sums)
    lines, names = [], []
    levels: list[Number] = []
    for level in dict.fromkeys([best, *_round_levels(best, max(sums))]):
        start, end = max(x[0], level - y[1]), min(x[1], level - y[0])
        if start >= end:
            continue
        lines.append(plotly_traces.line("", [(start, level - start), (end, level - end)], GREY, dash="dot", width=1))
        if all(abs(level - other) > 0.06 * (y[1] - y[0]) for other in levels):
            name = f"best ELBO {four_digits(-best)}" if level == best else four_digits(-level)
            names.append(
                plotly_traces.note(start, level - start, name, xanchor="left", yanchor="bottom", font={"size": 10})
            )
            levels.append(level)
    return lines, names


def _round_levels(low: Number, high: Number) -> list[Number]:
    """At most six round numbers from `low` to `high`, evenly spaced."""
    span = high - low or 1.0
    step = 10 ** math.floor(math.log10(span))
    step *= next(times for times in (0.2, 0.5, 1, 2, 5) if span / (times * step) <= 5)
    return [level * step for level in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _comparable_runs(comparison: Comparison, metric: str) -> Runs:
    """The finished runs, by name, for which the metric is a finite number, and of what the baseline's is."""
    excluded = incomparable_groups(comparison, metric)
    finished = [run for run in comparison.runs if run.status == "done" and run.group not in excluded]
    return {run.name: run for run in finished if plotly_traces.is_finite(run.metrics.get(metric))}


def _near_runs(rated: Runs) -> Runs:
    """The runs of groups whose rate leaves room for the others."""
    rates: dict[str, list[Number]] = {}
    for run in rated.values():
        rates.setdefault(run.group, []).append(run.metrics["rate"])
    distant = distant_groups({group: float(np.mean(values)) for group, values in rates.items()})
    return {name: run for name, run in rated.items() if run.group not in distant}
