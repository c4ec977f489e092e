"""docs/reproductions.md, a function of the numbers that stand beside it as JSON."""

import math
import statistics
from collections.abc import Mapping
from typing import Any

from experiments.reproduce.rows import ROWS, Row

DIGITS = {"nats": 2, "dB": 2, "FD": 1, "": 3}
"""Decimals of a number by its unit."""

FEWEST_SEEDS = 3
"""Of two, an interval is so wide that it has everything in it."""

HEAD = """# Published numbers, measured again

    python -m experiments.reproduce --mnist=FOLDER --binarized_mnist=FOLDER

Each row is a config in `configs/papers`. Its docstring has the paper's protocol and where ours deviates, most of all in
steps: a worse row may only need more of them. A paper's number counts as reproduced if ours is within the row's
tolerance (half a nat, a tenth of a decibel), or if the 95% interval of our mean over three or more seeds contains it.
Intervals are over training seeds; "images" is the standard error over test images, the median of the seeds' own.

| | paper | published | here | 95% interval | seeds | images | verdict |
|---|---|---|---|---|---|---|---|
"""


def render(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of these results, by the names of their rows."""
    cells = [_cells(row, results.get(row.name)) for row in ROWS]
    table = "".join(f"| {' | '.join(line)} |\n" for line in cells)
    details = "".join(_detail(row, results[row.name]) for row in ROWS if row.name in results)
    return f"{HEAD}{table}\n## How each was measured\n\n{details}"


def _cells(row: Row, measured: Mapping[str, Any] | None) -> list[str]:
    published = "" if row.published is None else _number(row, row.published)
    if measured is None:
        return [row.title, row.paper, published, "", "", "", "", f"not run: {row.cost} on two cores"]
    error = measured.get("error_over_images")
    images = "" if error is None or math.isnan(error) else f"± {_number(row, error)}"
    mean = f"**{_number(row, measured['mean'])}**"
    seeds = str(len(measured["values"]))
    return [row.title, row.paper, published, mean, _interval(row, measured), seeds, images, verdict(row, measured)]


def _interval(row: Row, measured: Mapping[str, Any]) -> str:
    """The 95% interval over seeds, which one seed has not."""
    return f"{_number(row, measured['low'])} to {_number(row, measured['high'])}" if len(measured["values"]) > 1 else ""


def _detail(row: Row, measured: Mapping[str, Any]) -> str:
    values = ", ".join(_number(row, value) for value in measured["values"])
    steps = sorted(set(measured["steps"]))
    lines = [
        f"**{row.title}** (`{row.config}`): {values} {row.unit}".rstrip() + " by seeds 0, 1, ...",
        *([f"median {_number(row, statistics.median(measured['values']))}"] if row.median else []),
        *([f"by `{row.metric}`"] if row.metric else []),
        f"{steps[0]:,} steps" + (f" to {steps[-1]:,}" if len(steps) > 1 else ""),
        f"{measured['seconds'] / 60:.0f} min for all seeds on {measured['devices']} of a shared machine",
        f"jax {measured['jax']}, commit {measured['commit']}, {measured['date']}",
    ]
    if measured["active_units"] is not None:
        lines.append(f"{measured['active_units']} active units (seed 0)")
    if "change_with_5000_draws" in measured:
        change = _number(row, measured["change_with_5000_draws"])
        lines.append(f"5,000 draws in place of fewer change it by {change} (seed 0, 500 images)")
    return f"- {'; '.join(lines)}.\n  `{measured['command']}`\n"


def verdict(row: Row, measured: Mapping[str, Any]) -> str:
    """Whether ours is the paper's number, or by how much it is better or worse."""
    if row.bar is not None:
        whose, number = row.bar
        return f"{_difference(row, measured['mean'] - number)} than {whose}'s {_number(row, number)}"
    if row.published is None:
        return "no published number"
    difference = measured["mean"] - row.published
    inside = len(measured["values"]) >= FEWEST_SEEDS and measured["low"] <= row.published <= measured["high"]
    return "reproduced" if inside or abs(difference) <= row.tolerance else _difference(row, difference)


def _difference(row: Row, difference: float) -> str:
    word = "better" if (difference > 0) == row.higher_is_better else "worse"
    return f"{word} by {_number(row, abs(difference))} {row.unit}".rstrip()


def row_line(row: Row, measured: Mapping[str, Any]) -> str:
    """What was measured of a row, in a line, as the docstring of its config has it."""
    count = len(measured["values"])
    seeds = f"{count} seeds, {_interval(row, measured)}" if count > 1 else "1 seed"
    mean = f"{_number(row, measured['mean'])} {row.unit}".rstrip()
    return f"{row.name}: {mean} ({seeds}): {verdict(row, measured)}"


def _number(row: Row, value: float) -> str:
    text = f"{value:.{DIGITS[row.unit]}f}"
    return text.removeprefix("-") if not float(text) else text
