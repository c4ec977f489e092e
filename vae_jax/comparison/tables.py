"""Every run of a comparison as a row, in CSV and Parquet."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae_jax.comparison.results import ComparedRun
from vae_jax.errors import UserError

SIDES = ("config", "metrics", "environment")
"""Their fields are columns under these names: config.variant.beta."""


def columns(runs: Sequence[ComparedRun]) -> dict[str, list[Any]]:
    """Each column by name, None where a run has nothing there; of one kind each, with lists as JSON."""
    plain = ("name", "group", "seed", "status", "error", "steps_per_second")
    found = {field: [getattr(run, field) for run in runs] for field in plain}
    for side in SIDES:
        for name in dict.fromkeys(name for run in runs for name in getattr(run, side)):
            found[f"{side}.{name}"] = _one_kind([getattr(run, side).get(name) for run in runs])
    return found | {"folder": [run.folder for run in runs]}


def _one_kind(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or kinds <= {str}:
        return values
    if kinds <= {int, float}:
        whole = kinds == {int} and all(value is None or abs(value) < 2**63 for value in values)
        return values if whole else [value if value is None else float(value) for value in values]
    return [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]


def write_csv(file: Path, runs: Sequence[ComparedRun]) -> None:
    """One row a run; empty where it has nothing, nan where a metric was not finite."""
    found = columns(runs)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(found)
        writer.writerows(zip(*found.values(), strict=True))


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
