"""A comparison as tables: every run as a row, in CSV and Parquet, and every group and metric, for W&B."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_jax.comparison.results import ComparedRun, Comparison, Difference, Summary
from vae_jax.comparison.wording import verdict
from vae_jax.errors import UserError
from vae_jax.files import replacement

PLAIN_FIELDS = ("name", "group", "seed", "status", "error", "steps_per_second", "data")
SECTIONS = ("config", "metrics", "environment")
"""Their fields are columns under these names: config.variant.beta."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a cell begins that a spreadsheet would compute."""

DIFFERENCE_FIELDS = ("pairs", "mean", "low", "high", "p")


def columns(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """Each column by name, None where a run has nothing there; of one kind each, with lists as JSON."""
    table = {field: [getattr(run, field) for run in runs] for field in PLAIN_FIELDS}
    for section in SECTIONS:
        for name in dict.fromkeys(name for run in runs for name in getattr(run, section)):
            table[f"{section}.{name}"] = [getattr(run, section).get(name) for run in runs]
    table["folder"] = [run.folder for run in runs]
    return {_writable(name): _uniform(values) for name, values in table.items()}


def _uniform(values: list[Any]) -> list[Any]:
    """The values as one kind: all truths, whole numbers, floats (zero without its sign) or texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return values
    if kinds <= {int, float}:
        whole = kinds == {int} and all(value is None or abs(value) < 2**63 for value in values)
        return values if whole else [value if value is None else float(value) + 0.0 for value in values]
    return [None if value is None else _writable(value) for value in values]


def _writable(value: Any) -> str:
    """A value as text that every file can hold: what in a name is no character stands as its escape."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode(errors="backslashreplace").decode()


def write_csv(file: Path, runs: Sequence[ComparedRun]) -> None:
    """One row a run; empty where it has nothing, nan where a metric was not finite.

    A spreadsheet takes a text that begins like a formula (= + - @, a tab, a line break) for one: such a cell has an
    apostrophe before it, numbers never.
    """
    table = columns(runs)
    with replacement(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(table)
        writer.writerows(map(_plain_cell, row) for row in zip(*table.values(), strict=True))


def _plain_cell(value: Any) -> Any:
    return (
        f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) and not _is_number(value) else value
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def write_parquet(file: Path, runs: Sequence[ComparedRun]) -> None:
    """The same with types. Raises UserError where pyarrow is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        command = "pip install -c constraints.txt -e '.[compare]'"
        raise UserError(f"runs.parquet needs pyarrow, which the extra 'compare' brings: {command}") from None

    arrays = {name: pyarrow.array(values, from_pandas=False) for name, values in columns(runs).items()}
    with replacement(file) as temporary:
        parquet.write_table(pyarrow.table(arrays), temporary)


def group_table(comparison: Comparison) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows): a row for each group and metric, with its difference from the baseline."""
    differences = {(difference.group, difference.metric): difference for difference in comparison.differences}
    names = [*(f"difference.{field}" for field in DIFFERENCE_FIELDS), "verdict"]
    rows = []
    for group in comparison.groups:
        for metric, summary in group.summaries.items():
            cells = _difference_cells(differences.get((group.name, metric)))
            rows.append([group.name, metric, group.failed, *summary, *cells])
    return ["group", "metric", "failed", *Summary._fields, *names], rows


def _difference_cells(difference: Difference | None) -> list[Any]:
    if difference is None:
        return [None] * (len(DIFFERENCE_FIELDS) + 1)
    return [*(getattr(difference, field) for field in DIFFERENCE_FIELDS), verdict(difference)]
