"""The plots with which a report begins: every group against the baseline, and how their runs learned."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vae_jax.comparison.ranking import ranked_groups
from vae_jax.comparison.results import ComparedRun, Comparison, Difference, Group, Number
from vae_jax.metrics import unit
from vae_jax.plots import palette
from vae_jax.plots.captions import format_short
from vae_jax.report import plotly_traces, sentences
from vae_jax.report.plotly_traces import GREY, Figure
from vae_jax.training.writers import read_metrics

MOST_GROUPS = 40
"""Groups in the forest plot, the best first."""

MOST_CURVES = 24
"""Groups whose learning curves are drawn, the best first."""

CURVES = ("elbo", "bound", "distortion", "rate", "loss", "active_units")
"""Metrics that have learning curves, where they were recorded."""

VERDICT_COLOURS = {"better": palette.colour(2), "higher": palette.colour(2), "worse": palette.colour(1)}
VERDICT_COLOURS |= {"lower": palette.colour(1)}

ROW_HEIGHT = 26
"""Of a group in the forest plot, in pixels."""


def forest(comparison: Comparison) -> Figure | None:
    """Every group's difference from the baseline in the score of choice, with its interval; the best on top."""
    score = comparison.metrics[0]
    differences = {difference.group: difference for difference in comparison.differences if difference.metric == score}
    groups = [group for group in ranked_groups(comparison) if _has_place(group, comparison, differences)]
    if len(groups) < 2:
        return None
    shown = groups[:MOST_GROUPS]
    if all(group.name != comparison.baseline for group in shown):
        shown = [*shown[:-1], *(group for group in groups if group.name == comparison.baseline)]
    rows = list(enumerate(reversed(shown)))
    traces = [_forest_row(row, group, differences.get(group.name)) for row, group in rows]
    title = ", ".join(filter(None, [f"difference in {score}", unit(score)]))
    labels = [f"{group.name} (baseline)" if group.name == comparison.baseline else group.name for _, group in rows]
    ticks = {"tickvals": [row for row, _ in rows], "ticktext": list(map(plotly_traces.escaped, labels))}
    y = plotly_traces.axis("", range=[-0.6, len(rows) - 0.4], **ticks)
    x = plotly_traces.axis(title) | {"zeroline": True, "zerolinecolor": GREY}
    return plotly_traces.figure(traces, x, y, names=0, height=110 + ROW_HEIGHT * len(shown))


def _has_place(group: Group, comparison: Comparison, differences: Mapping[str, Difference]) -> bool:
    difference = differences.get(group.name)
    return group.name == comparison.baseline or (difference is not None and difference.pairs > 0)


def _forest_row(row: int, group: Group, difference: Difference | None) -> Figure:
    """A dot and its interval: filled where the verdict is sure, hollow where it is not; the baseline is a line at 0."""
    mean = 0.0 if difference is None else difference.mean
    verdict = "" if difference is None else difference.verdict
    colour = VERDICT_COLOURS.get(verdict, GREY)
    if difference is None:
        hover = f"{group.name}: the baseline"
    else:
        hover = f"{sentences.verdict(difference)} {sentences.evidence(difference)}"
    trace: Figure = {
        "type": "scatter",
        "mode": "markers",
        "x": [mean],
        "y": [row],
        "marker": {
            "color": colour,
            "symbol": "circle" if verdict in VERDICT_COLOURS else "circle-open",
            "size": 9 if difference is not None else 1,
        },
        "hovertext": [plotly_traces.escaped(hover)],
        "hoverinfo": "text",
        "showlegend": False,
    }
    if difference is not None and plotly_traces.is_finite(difference.low) and plotly_traces.is_finite(difference.high):
        reach = {"array": [difference.high - mean], "arrayminus": [mean - difference.low], "symmetric": False}
        trace["error_x"] = {**reach, "color": colour, "thickness": 1.6, "width": 4}
    return trace


Curve = dict[int, list[Number]]
"""The values of a group's runs by step, as far as all of its runs have one."""


def learning_curves(comparison: Comparison) -> dict[str, Figure]:
    """By metric: the validation split's numbers over the steps, a line a group, its seeds' range as a band."""
    ranked = ranked_groups(comparison)
    groups = [*ranked, *(group for group in comparison.groups if group not in ranked)][:MOST_CURVES]
    runs = {run.name: run for run in comparison.runs}
    curves = [_group_curves([runs[name] for name in group.runs]) for group in groups]
    figures = {}
    for metric in CURVES:
        drawn = {
            Look(number, group.name): own[metric]
            for number, (group, own) in enumerate(zip(groups, curves, strict=True))
            if len(own[metric]) > 1
        }
        if drawn:
            figures[metric] = _curve_figure(metric, drawn)
    return figures


class Look(NamedTuple):
    """A group and its number, by which its curves look alike whatever the metric."""

    number: int
    group: str

    @property
    def line(self) -> dict[str, Any]:
        """The colour of its line, and the dash that tells it from others of that colour."""
        return {"color": palette.colour(self.number), "dash": DASHES[self.number // len(palette.COLOURS) % len(DASHES)]}


DASHES = ("solid", "dash", "dot")


def most_of(groups: int, most: int) -> str:
    """What a caption says where not all groups are drawn."""
    return f" The best {most} of {groups:,} groups." if groups > most else ""


def _group_curves(runs: Sequence[ComparedRun]) -> dict[str, Curve]:
    """The recorded values of a group's runs by metric."""
    records = [_validation_records(run) for run in runs]
    return {metric: _curve(metric, [own for own in records if own]) for metric in CURVES}


def _curve(metric: str, records: Sequence[Sequence[dict]]) -> Curve:
    """The values of all runs at each step; a mean over those that are left would jump where one ends."""
    curve: Curve = {}
    for record in (record for own in records for record in own if plotly_traces.is_finite(record.get(metric))):
        curve.setdefault(record["step"], []).append(record[metric])
    return {step: values for step, values in curve.items() if len(values) == len(records)}


def _validation_records(run: ComparedRun) -> list[dict]:
    try:
        records = read_metrics(Path(run.folder) / "metrics.jsonl")
    except OSError:  # a run of which the evaluation alone was kept
        return []
    return [record for record in records if record.get("split") == "validation"]


def _curve_figure(metric: str, curves: Mapping[Look, Curve]) -> Figure:
    """Lines with bands; the name of each group at its end, in its colour."""
    traces: list[Figure] = []
    for look, curve in curves.items():
        colour, steps = look.line["color"], sorted(curve)
        means = [(step, float(np.mean(curve[step]))) for step in steps]
        edge = [(step, max(curve[step])) for step in steps] + [(step, min(curve[step])) for step in reversed(steps)]
        band = plotly_traces.line("", edge, colour, width=0) | {"fill": "toself", "fillcolor": f"{colour}26"}
        traces += [band, _mean_line(look, means)]
    title = ", ".join(filter(None, [metric, unit(metric)]))
    axes = plotly_traces.axis("step"), plotly_traces.axis(title, **_range(list(curves.values())))
    margin = {"l": 48, "r": 160, "t": 28, "b": 44}
    return plotly_traces.figure(traces, *axes, names=0, annotations=_end_names(curves), margin=margin)


def _mean_line(look: Look, means: Sequence[tuple[int, float]]) -> Figure:
    line = plotly_traces.line(look.group, means, look.line["color"], dash=look.line["dash"]) | {"hoverinfo": "text"}
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
            font = {"size": 11, "color": look.line["color"]}
            words = plotly_traces.escaped(look.group)
            notes.append(plotly_traces.note(max(curves[look]), value, words, xanchor="left", xshift=4, font=font))
    return notes


def _range(curves: Sequence[Curve]) -> dict[str, Any]:
    """Limits that leave out the first steps of a run, which would flatten all others."""
    values = [value for curve in curves for step in sorted(curve)[1:] for value in curve[step]]
    ends = [value for curve in curves for value in curve[max(curve)]]
    low, high = np.quantile(values, [0.02, 0.98])
    room = 0.08 * (high - low) or 0.5
    return {"range": [min(float(low), *ends) - room, max(float(high), *ends) + room]}
