"""The table of every run: filters, columns to choose, and what a click on a run opens."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_jax.comparison.ranking import group_places
from vae_jax.comparison.results import ComparedRun, Comparison
from vae_jax.metrics import unit
from vae_jax.report.learning_curves import validation_records
from vae_jax.report.markup import Html, compressed, join, number_cell, number_text, table, tag
from vae_jax.report.plotly_traces import is_finite
from vae_jax.sweeps.group_names import format_value

MOST_CHOICES = 100
"""Values of a field that a filter lists; a field of more has none, as the words find them."""

MOST_POINTS = 40
"""Of a run's curve."""

CURVES = ("elbo", "distortion", "rate")
"""Metrics whose curves a run opens with, on the validation split."""


def section(comparison: Comparison) -> Html:
    """The controls and the table; a row is a place that dots and tables link to."""
    return join(_controls(comparison), tag("div", _table(comparison), id="runs-table"))


def _table(comparison: Comparison) -> Html:
    counts, places = Counter(run.name for run in comparison.runs), group_places(comparison)
    rows = [
        tag(
            "tr",
            _name_cell(run, position),
            tag("td", run.group, data_value=places.get(run.group)),
            tag("td", run.status),
            number_cell(run.seed),
            *(number_cell(run.metrics.get(name)) for name in comparison.metrics),
            id=f"run-{run.name}" if counts[run.name] == 1 else None,
            data_text=f"{run.name} {run.group} {run.status}".lower(),
            data_run=position,
        )
        for position, run in enumerate(comparison.runs)
    ]
    return table("runs", ["run", "group", "status"], ["seed", *comparison.metrics], rows)


def _name_cell(run: ComparedRun, position: int) -> Html:
    """The name of a run, which opens it; by name means in the order of the comparison."""
    name = tag("button", run.name, type="button", aria_expanded="false")
    return tag("td", name, class_="name", title=run.folder, data_value=position)


def _controls(comparison: Comparison) -> Html:
    """Words, a filter for each field that varies, and a choice of columns."""
    search = tag("input", type="search", id="runs-words", placeholder="name, group or status", autocomplete="off")
    filters = [_filter(field, values) for field, values in _filter_values(comparison).items()]
    columns = tag(
        "details",
        tag("summary", "Columns"),
        tag("div", *(_column(name) for name in optional_columns(comparison)), class_="choices"),
        class_="columns",
    )
    return tag(
        "div",
        tag("label", "search ", search),
        *filters,
        tag("button", "Show all", type="button", id="runs-reset"),
        tag("span", id="runs-count", role="status"),
        columns,
        class_="controls",
    )


def _filter(field: str, values: Sequence[str]) -> Html:
    options = [tag("option", "any", value=""), *(tag("option", value, value=value) for value in values)]
    return tag("label", f"{field} ", tag("select", *options, data_field=field, autocomplete="off"))


def _filter_values(comparison: Comparison) -> dict[str, list[str]]:
    """The values of the fields by which runs can be filtered, in their order among the runs."""
    values = {"status": list(dict.fromkeys(run.status for run in comparison.runs))}
    for field in dict.fromkeys([*comparison.by, *_varying_fields(comparison)]):
        values[field] = list(dict.fromkeys(_text(run, field) for run in comparison.runs))
    values["seed"] = list(map(str, sorted({run.seed for run in comparison.runs})))
    most = min(MOST_CHOICES, len(comparison.runs) - 1)  # a value of each run's own filters nothing
    return {field: texts for field, texts in values.items() if 1 < len(texts) <= most}


def _column(name: str) -> Html:
    return tag("label", tag("input", type="checkbox", value=name, autocomplete="off"), f" {name}")


def _text(run: ComparedRun, field: str) -> str:
    return format_value(run.config[field]) if field in run.config else "none"


def optional_columns(comparison: Comparison) -> list[str]:
    """Fields that vary among the runs, then metrics that the table does not show at first."""
    names = sorted({name for run in comparison.runs for name in run.metrics} - {*comparison.metrics})
    return [*_varying_fields(comparison), *names]


def _varying_fields(comparison: Comparison) -> list[str]:
    return [field for field in _config_fields(comparison) if field != "seed" and _varies(comparison, field)]


def _config_fields(comparison: Comparison) -> list[str]:
    return sorted({field for run in comparison.runs for field in run.config})


def _varies(comparison: Comparison, field: str) -> bool:
    return len({_text(run, field) for run in comparison.runs}) > 1


def records(comparison: Comparison) -> Html:
    """What the page's script knows of every run, compressed: config, metrics, curves, and which line its command is."""
    fields = _config_fields(comparison)
    varying = [field for field in fields if _varies(comparison, field)]
    lines = {name: line for line, name in enumerate(dict.fromkeys(run.name for run in comparison.runs))}
    first = comparison.runs[0]
    content = {
        "by": [field for field in comparison.by if field in varying],
        "common": {field: _text(first, field) for field in fields if field not in varying},
        "curves": {name: ", ".join(filter(None, [name, unit(name)])) for name in CURVES},
        "runs": [
            {
                "name": run.name,
                "folder": run.folder,
                "group": run.group,
                "status": run.status,
                "error": run.error,
                "seed": str(run.seed),
                "config": {field: _text(run, field) for field in varying},
                "metrics": {name: number_text(value) for name, value in run.metrics.items()},
                "curves": _curves(run),
                "pictures": (Path(run.folder) / "pictures").is_dir(),
                "command": lines[run.name],
            }
            for run in comparison.runs
        ],
    }
    return compressed("runs-records", json.dumps(content, allow_nan=False, separators=(",", ":")))


def _curves(run: ComparedRun) -> dict[str, list[list[Any]]]:
    """[steps, values] of each metric, thinned evenly, the last kept."""
    recorded = validation_records(run)
    curves = {}
    for name in CURVES:
        points = [(record["step"], record[name]) for record in recorded if is_finite(record.get(name))]
        stride = -(-len(points) // MOST_POINTS) or 1
        kept = points[::-1][::stride][::-1]
        if len(kept) > 1:
            curves[name] = [[step for step, _ in kept], [float(f"{value:.6g}") for _, value in kept]]
    return curves
