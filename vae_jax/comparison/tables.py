"""A comparison as tables: every run as a row, in CSV and Parquet, and every group and metric, for W&B."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_jax.comparison.results import ComparedRun, Comparison, Difference, Summary
from vae_jax.comparison.wording import verdict
from vae_jax.errors import UserError

PLAIN_FIELDS = ("name", "group", "seed", "status", "error", "steps_per_second")
SECTIONS = ("config", "metrics", "environment")
"""Their fields are columns under these names: config.variant.beta."""

DIFFERENCE_FIELDS = ("pairs", "mean", "low", "high", "p")


def columns(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """Each column by name, None where a run has nothing there; of one kind each, with lists as JSON."""
    table = {field: [getattr(run, field) for run in runs] for field in PLAIN_FIELDS}
    for section in SECTIONS:
        for name in dict.fromkeys(name for run in runs for name in getattr(run, section)):
            table[f"{section}.{name}"] = _uniform([getattr(run, section).get(name) for run in runs])
    return table | {"folder": [run.folder for run in runs]}


def _uniform(values: list[Any]) -> list[Any]:
    """The values as one kind: all truths, whole numbers, floats or texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {str}:
        return values
    if kinds <= {int, float}:
        whole = kinds == {int} and all(value is None or abs(value) < 2**63 for value in values)
        return values if whole else [value if value is None else float(value) for value in values]
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]


def write_csv(file: Path, runs: Sequence[ComparedRun]) -> None:
    """One row a run; empty where it has nothing, nan where a metric was not finite."""
    table = columns(runs)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def write_parquet(file: Path, runs: Sequence[ComparedRun]) -> None:
    """The same with types. Raises UserError where pyarrow is not installed."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        command = "pip install -c constraints.txt -e '.[compare]'"
        raise UserError(f"runs.parquet needs pyarrow, which the extra 'compare' brings: {command}") from None

    arrays = {name: pyarrow.array(values, from_pandas=False) for name, values in columns(runs).items()}
    parquet.write_table(pyarrow.table(arrays), file)


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
