"""What is reported of a run that has ended: its test numbers, beside them those of the validation split."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from vae_jax import metrics
from vae_jax.plots.captions import format_fixed

VALIDATION = "validation."
"""What the names of the validation split's numbers begin with, where they stand beside those of the test split."""

ERROR = "standard_error"
"""The detail of a number that stands behind a ± beside it."""
TABLE_INDENT = " " * 15
"""Of what a row of the table has no room for, on the next line."""

ROWS = ("elbo", "bound", "distortion", "rate", "loss", "active_units", "bits_per_dim")


class Results(NamedTuple):
    """What is reported of a run that has ended: numbers of the test split, those of the validation split beside them.

    Attributes:
        latest: of the last step's checkpoint, as evaluation.json holds them.
        best: of the best checkpoint by the validation split; None where a run has no such split.
    """

    latest: dict[str, Any]
    best: dict[str, Any] | None


def merge_splits(test: Mapping[str, Any], validation: Mapping[str, Any] | None, step: int) -> dict[str, Any]:
    """The numbers of a checkpoint as they are written: those of the test split by their names."""
    beside = {f"{VALIDATION}{name}": value for name, value in (validation or {}).items()}
    return {**test, **beside, "step": step}


def results_table(results: Results) -> str:
    """The test numbers of the last and of the best checkpoint as a few aligned lines."""
    columns = {f"step {results.latest['step']} (last)": results.latest}
    if results.best is not None and results.best["step"] != results.latest["step"]:
        columns[f"step {results.best['step']} (best by validation)"] = results.best
    elif results.best is not None:
        columns = {f"step {results.latest['step']} (last, best by validation)": results.latest}
    return numbers_table(columns)


def numbers_table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Test numbers, by the name of each column, as a few aligned lines."""
    rows = [name for name in ROWS if any(name in numbers for numbers in columns.values())]
    has_errors = any(f"{name}.{ERROR}" in numbers for name in rows for numbers in columns.values())
    widths = {title: max(10 + 9 * has_errors, len(title)) for title in columns}
    head = "test split".ljust(15) + "  ".join(f"{title:>{width}}" for title, width in widths.items())
    lines = [head.rstrip()]
    for name in rows:
        cells = [f"{_cell(columns[title], name, has_errors):>{width}}" for title, width in widths.items()]
        lines.append(f"  {name:<13}{'  '.join(cells)}  {metrics.reading(name)}")
    return "\n".join(lines)


def _cell(numbers: Mapping[str, Any], name: str, has_errors: bool) -> str:
    """A number, with its standard error over images where it has one, or room for it where others have."""
    error = numbers.get(f"{name}.{ERROR}")
    beside = "" if error is None else f" ± {format_fixed(error, 3)}"
    return f"{_number(numbers.get(name, math.nan))}{beside:<{9 * has_errors}}"


def _number(value: float | int) -> str:
    return str(value) if isinstance(value, int) else format_fixed(value, 3)
