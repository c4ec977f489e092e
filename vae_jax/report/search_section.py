"""The section of a report on the search whose runs are compared: its trials as a table and as plots, linked to runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from vae_jax.comparison.results import Comparison
from vae_jax.comparison.search_results import read_search
from vae_jax.phrases import plural
from vae_jax.plots import palette
from vae_jax.plots.captions import format_short
from vae_jax.plots.search_plots import WIDE, ordered_options
from vae_jax.report import plotly_traces
from vae_jax.report.markup import Html, join, number_cell, plot_place, table, tag
from vae_jax.report.plotly_traces import GREY, Figure
from vae_jax.sweeps.trial_records import SearchTrials, as_written

MAX_TRIALS = 50
"""Trials in the table, the best first."""

COLUMNS = 3
"""Plots of fields side by side."""

PANEL_HEIGHT = 230
"""Of a row of plots of fields, in pixels."""


def figures(comparison: Comparison) -> dict[str, Figure]:
    """The plots of the search, by name; none where there is no search."""
    search = read_search(comparison)
    return {} if search is None else _figures(search)


def _figures(search: SearchTrials) -> dict[str, Figure]:
    plots = {}
    for number, name in enumerate(search.objectives):
        plots[f"search_history_{number}"] = _history(search, name)
        plots[f"search_slices_{number}"] = _slices(search, name)
    if len(search.objectives) > 1:
        plots["search_pareto"] = _pareto(search)
    return plots


def section(comparison: Comparison) -> Html | None:
    """What was searched, the importances, the plots and the best trials; None where there is no search."""
    search = read_search(comparison)
    if search is None:
        return None
    elements = [plot_place(name, _caption(search, name)) for name in _figures(search)]
    fields = ", ".join(f"{field} in {words}" for field, words in search.space.items())
    goals = " and ".join(
        f"{name} of {search.sources[name]} ({'higher' if maximize else 'lower'} is better)"
        for name, maximize in search.objectives.items()
    )
    summary = f"{plural(len(search.trials), 'complete trial')}, by {goals}. Space: {fields}."
    return join(tag("p", summary), *_importances(search), tag("div", *elements, class_="plots"), _trial_table(search))


def _importances(search: SearchTrials) -> list[Html]:
    """In a sentence an objective, which fields its variance comes from."""
    sentences = []
    for name, shares in search.importances.items():
        words = ", ".join(f"{field} {share:.0%}" for field, share in sorted(shares.items(), key=lambda pair: -pair[1]))
        sentences.append(tag("p", f"What {name} varies with, by fANOVA over the trials: {words}."))
    return sentences


def _caption(search: SearchTrials, name: str) -> str:
    if name == "search_pareto":
        return "Two objectives of each trial; the line joins the trials that no other beats in both."
    objective = list(search.objectives)[int(name.rpartition("_")[2])]
    if name.startswith("search_history"):
        return f"{objective} of each trial in its order, and the best so far. A click on a dot leads to its run."
    return f"{objective} over each field, the most important first. A click on a dot leads to its run."


def _history(search: SearchTrials, name: str) -> Figure:
    best_so_far = list(zip(search.numbers, search.best_so_far(name), strict=True))
    best = plotly_traces.line("best so far", best_so_far, palette.colour(1), shape="hv")
    points = _dots(search, search.numbers, search.values(name))
    axes = plotly_traces.axis("trial"), plotly_traces.axis(name)
    return plotly_traces.figure([best, points], *axes, names=0)


def _slices(search: SearchTrials, name: str) -> Figure:
    """A plot over each field, on one y."""
    fields, values = search.fields(name), search.values(name)
    rows = -(-len(fields) // COLUMNS)
    layout: dict[str, Any] = {"grid": {"rows": rows, "columns": min(COLUMNS, len(fields)), "pattern": "independent"}}
    traces = []
    for i, field in enumerate(fields, start=1):
        suffix = "" if i == 1 else str(i)
        traces.append(_dots(search, _places(search, field), values) | {"xaxis": f"x{suffix}", "yaxis": f"y{suffix}"})
        layout[f"xaxis{suffix}"] = _field_axis(search, field)
        layout[f"yaxis{suffix}"] = plotly_traces.axis(name if i % COLUMNS == 1 else "", matches="y")
    first = layout.pop("xaxis"), layout.pop("yaxis")
    return plotly_traces.figure(traces, *first, names=0, **layout, height=PANEL_HEIGHT * rows)


def _places(search: SearchTrials, field: str) -> list[Any]:
    """Where the trials lie on the axis of a field: numbers, or the names of its options."""
    params = search.params(field)
    return [plotly_traces.escaped(str(value)) for value in params] if search.is_choice(field) else params


def _field_axis(search: SearchTrials, field: str) -> Figure:
    if search.is_choice(field):
        options = [plotly_traces.escaped(str(value)) for value in ordered_options(search.params(field))]
        return plotly_traces.axis(field, type="category", categoryorder="array", categoryarray=options)
    if not search.is_log(field):
        return plotly_traces.axis(field)
    params = search.params(field)
    step = 1 if max(params) > WIDE * min(params) else "D2"  # powers of ten, or 1, 2, 5
    return plotly_traces.axis(field, type="log", dtick=step, tickformat="~g")


def _pareto(search: SearchTrials) -> Figure:
    first, second = list(search.objectives)[:2]
    points = zip(search.values(first), search.values(second), search.pareto_front([first, second]), strict=True)
    front = sorted((x, y) for x, y, best in points if best)
    dots = _dots(search, search.values(first), search.values(second))
    traces = [plotly_traces.line("", front, palette.colour(1)), dots]
    return plotly_traces.figure(traces, plotly_traces.axis(first), plotly_traces.axis(second), names=0)


def _dots(search: SearchTrials, x: Sequence[Any], y: Sequence[float]) -> Figure:
    """A dot for each trial, which knows its first run."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(x),
        "y": list(y),
        "marker": {"color": palette.colour(0), "size": 7, "line": {"width": 0.5, "color": GREY}},
        "customdata": [next(iter(trial["runs"]), "") for trial in search.trials],
        "hovertext": [_hover_text(trial) for trial in search.trials],
        "hoverinfo": "text",
        "showlegend": False,
    }


def _hover_text(trial: Mapping[str, Any]) -> str:
    words = [f"trial {trial['number']}"]
    words += [f"{name} {format_short(value, 4)}" for name, value in trial["values"].items()]
    words += [f"{field}={value}" for field, value in trial["params"].items()]
    return "<br>".join(map(plotly_traces.escaped, words))


def _trial_table(search: SearchTrials) -> Html:
    """The best trials: their values, what they set, and links to their runs."""
    trials = search.ranked()
    rows = [
        tag(
            "tr",
            tag("td", *_links(trial["runs"])),
            number_cell(trial["number"]),
            *(number_cell(trial["values"][name]) for name in search.objectives),
            *(_param_cell(trial["params"][field]) for field in search.space),
        )
        for trial in trials[:MAX_TRIALS]
    ]
    note = f"The best {MAX_TRIALS} of {plural(len(trials), 'trial')}." if len(trials) > MAX_TRIALS else ""
    numbers = ["trial", *search.objectives, *search.space]
    return join(table("trials", ["runs"], numbers, rows), tag("p", note, class_="quiet"))


def _links(runs: Sequence[str]) -> list[Html]:
    """Links to the rows of a trial's runs."""
    return [join(tag("a", f"run {i}", href=f"#run-{run}"), " ") for i, run in enumerate(runs, start=1)]


def _param_cell(value: Any) -> Html:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number_cell(value) if is_number else tag("td", str(as_written(value)))
