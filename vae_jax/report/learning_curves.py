"""How runs learned: the numbers of the validation split over the steps, by group and run by run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_jax.comparison.ranking import ranked_groups
from vae_jax.comparison.results import ComparedRun, Comparison, Number
from vae_jax.files import read_records
from vae_jax.metrics import unit
from vae_jax.plots import palette
from vae_jax.plots.captions import format_short
from vae_jax.report import plotly_traces
from vae_jax.report.plotly_figures import Style, styles
from vae_jax.report.plotly_traces import Figure

MOST_CURVES = 24
"""Groups whose learning curves are drawn, the best first."""

CURVES = ("elbo", "bound", "distortion", "rate", "loss", "active_units")
"""Metrics that have learning curves, where they were recorded."""

DASHES = ("solid", "dash", "dot", "dashdot")
"""They tell apart families that share a colour, as the symbols of their dots do."""

Curve = dict[int, list[Number]]
"""The values of a group's runs by step, as far as all of its runs have one."""


class Look(NamedTuple):
    """A group and how its curve is drawn: the colour of its family, darker from strength to strength."""

    group: str
    colour: str
    dash: str


def learning_curves(comparison: Comparison) -> dict[str, Figure]:
    """By metric: the validation split's numbers over the steps, a line a group, its seeds' range as a band."""
    ranked = ranked_groups(comparison)
    groups = [*ranked, *(group for group in comparison.groups if group not in ranked)][:MOST_CURVES]
    looks = group_looks(comparison)
    runs = {run.name: run for run in comparison.runs}
    curves = {looks[group.name]: _group_curves([runs[name] for name in group.runs]) for group in groups}
    figures = {}
    for metric in CURVES:
        with_metric = {look: group[metric] for look, group in curves.items() if len(group[metric]) > 1}
        if with_metric:
            figures[metric] = _curve_figure(metric, with_metric)
    return figures


def group_looks(comparison: Comparison) -> dict[str, Look]:
    """How the curve of each group is drawn, by its name."""
    families = styles(comparison, {group.name for group in comparison.groups})
    return {look.group: look for style in families for look in _family_looks(style)}


def _family_looks(style: Style) -> list[Look]:
    """From the lightest, of the least strength, to the darkest."""
    dash = DASHES[palette.SYMBOLS.index(style.symbol)]
    shades = palette.shades(style.colour, len(style.family.groups))
    return [Look(group.name, shade, dash) for group, shade in zip(style.family.groups, shades, strict=True)]


def _group_curves(runs: Sequence[ComparedRun]) -> dict[str, Curve]:
    """The recorded values of a group's runs by metric."""
    records = [run_records for run in runs if (run_records := validation_records(run))]
    return {metric: _curve(metric, records) for metric in CURVES}


def _curve(metric: str, records: Sequence[Sequence[dict]]) -> Curve:
    """The values of all runs at each step; a mean over those that are left would jump where one ends."""
    curve: Curve = {}
    for record in (record for run in records for record in run if plotly_traces.is_finite(record.get(metric))):
        curve.setdefault(record["step"], []).append(record[metric])
    return {step: values for step, values in curve.items() if len(values) == len(records)}


def validation_records(run: ComparedRun) -> list[dict]:
    """The records of a run on its validation split; none where the evaluation alone was kept."""
    try:
        records = read_records(Path(run.folder) / "metrics.jsonl")
    except OSError:
        return []
    return [record for record in records if record.get("split") == "validation"]


def _curve_figure(metric: str, curves: Mapping[Look, Curve]) -> Figure:
    """Lines with bands; the name of each group at its end, behind a mark in its colour."""
    traces: list[Figure] = []
    for look, curve in curves.items():
        steps = sorted(curve)
        means = [(step, float(np.mean(curve[step]))) for step in steps]
        edge = [(step, max(curve[step])) for step in steps] + [(step, min(curve[step])) for step in reversed(steps)]
        band = plotly_traces.line("", edge, look.colour, width=0) | {"fill": "toself", "fillcolor": f"{look.colour}26"}
        traces += [band, _mean_line(look, means)]
    title = ", ".join(filter(None, [metric, unit(metric)]))
    axes = plotly_traces.axis("step"), plotly_traces.axis(title, **_range(list(curves.values())))
    margin = {"l": 48, "r": 160, "t": 28, "b": 44}
    return plotly_traces.figure(traces, *axes, names=0, annotations=_end_names(curves), margin=margin)


def _mean_line(look: Look, means: Sequence[tuple[int, float]]) -> Figure:
    line = plotly_traces.line(look.group, means, look.colour, dash=look.dash, width=2) | {"hoverinfo": "text"}
    words = [f"{look.group}, step {step}: {format_short(mean, 4)}" for step, mean in means]
    return line | {"hovertext": list(map(plotly_traces.escaped, words))}


def _end_names(curves: Mapping[Look, Curve]) -> list[Figure]:
    """The names of groups at the ends of their curves, as far as they have room."""
    ends = {look: float(np.mean(curve[max(curve)])) for look, curve in curves.items()}
    room = (max(ends.values()) - min(ends.values())) / 18
    notes: list[Figure] = []
    places: list[float] = []
    for look, value in ends.items():
        if all(abs(value - other) >= room for other in places):
            places.append(value)
            words = f'<span style="color:{look.colour}">●</span> {plotly_traces.escaped(look.group)}'
            options: Figure = {"xanchor": "left", "xshift": 4, "font": {"size": 11}}
            notes.append(plotly_traces.note(max(curves[look]), value, words, **options))
    return notes


def _range(curves: Sequence[Curve]) -> dict[str, Any]:
    """Limits that leave out the first steps of a run, which would flatten all others."""
    values = [value for curve in curves for step in sorted(curve)[1:] for value in curve[step]]
    ends = [value for curve in curves for value in curve[max(curve)]]
    low, high = np.quantile(values, [0.02, 0.98])
    room = 0.08 * (high - low) or 0.5
    return {"range": [min(float(low), *ends) - room, max(float(high), *ends) + room]}
