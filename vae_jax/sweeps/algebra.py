"""Sweeps: points, how they combine, the runs they make, and which runs share one compiled program.

A sweep is a list of points, a point the fields that it sets: {"variant.beta": 4.0, "seed": 1}. A config's file has one
as `sweep()` beside `get_config()`:

    def sweep():
        return product(grid(**{"variant.beta": [1, 2, 4, 8]}), seeds(8))    # 32 runs, one program

Sweeps are plain lists, so a comprehension makes one too. product distributes over chain, and grid(a=..., b=...) is the
product of grid(a=...) and grid(b=...). A point that comes twice is one.
"""

import itertools
import math
import random as python_random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vae_jax import model
from vae_jax.config.parse import apply_overrides, check_config, read_config, static_fields
from vae_jax.errors import UserError
from vae_jax.sweeps import study

Point = dict[str, Any]
Sweep = list[Point]


def grid(**lists: Iterable) -> Sweep:
    """Every combination of the values, the last field fastest."""
    columns = [_column("grid", field, values) for field, values in lists.items()]
    return merged([dict(zip(lists, values, strict=True)) for values in itertools.product(*columns)])


def zipped(**lists: Iterable) -> Sweep:
    """The first value of each field together, then the second of each. Raises UserError for unequal lengths."""
    columns = {field: _column("zipped", field, values) for field, values in lists.items()}
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{field} has {len(column)}" for field, column in columns.items())
        raise UserError(f"zipped: the lists differ in length: {lengths}")
    return merged([dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)])


def chain(*sweeps: Sweep) -> Sweep:
    """The points of one sweep after the other."""
    return merged([point for sweep in sweeps for point in sweep])


def product(*sweeps: Sweep) -> Sweep:
    """Every combination of a point of each, the last sweep fastest. Raises UserError where two set the same field."""
    points = []
    for parts in itertools.product(*sweeps):
        point: Point = {}
        for part in parts:
            for field in sorted(point.keys() & part.keys()):
                raise UserError(f"product: {field} is set by two of its sweeps; leave it to one")
            point |= part
        points.append(point)
    return merged(points)


def seeds(n: int) -> Sweep:
    """Seeds 0 to n - 1."""
    _at_least_1("seeds", n)
    return grid(seed=range(n))


Range = Callable[[python_random.Random], Any]
"""What a field of a random sweep is drawn from."""


def random(n: int, key: int, **ranges: Range) -> Sweep:
    """n draws of every field from its range, fewer where draws coincide: a function of the key alone.

    Each field has a stream of its own: more draws, or more fields, leave the earlier ones as they are.
    """
    _at_least_1("random", n)
    for field, draw in ranges.items():
        if not callable(draw):
            raise UserError(f"random: {field} is {draw!r}; give uniform(a, b), log_uniform(a, b) or choice(...)")
    streams = {field: python_random.Random(f"{key}/{field}") for field in ranges}
    return merged([{field: draw(streams[field]) for field, draw in ranges.items()} for _ in range(n)])


def uniform(low: float, high: float) -> Range:
    """Uniform on [low, high], to six digits."""
    _rises("uniform", low, high)
    return lambda stream: _six_digits(low + (high - low) * stream.random(), low, high)


def log_uniform(low: float, high: float) -> Range:
    """Uniform in the logarithm on [low, high], to six digits."""
    _rises("log_uniform", low, high)
    if low <= 0:
        raise UserError(f"log_uniform: {low!r} has no logarithm; give positive bounds")
    return lambda stream: _six_digits(low * math.exp(math.log(high / low) * stream.random()), low, high)


def choice(*options: Any) -> Range:
    """One of the options, each as likely."""
    if not options:
        raise UserError("choice: has no options")
    return lambda stream: options[int(stream.random() * len(options))]


def _six_digits(value: float, low: float, high: float) -> float:
    # The last bits of exp and log differ between machines; the id of a run must not.
    return min(max(float(f"{value:.6g}"), float(low)), float(high))


def _rises(name: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{name}: ({low!r}, {high!r}) is no range; give two numbers that rise")


def _at_least_1(name: str, n: int) -> None:
    if not isinstance(n, int) or n < 1:
        raise UserError(f"{name}: {n!r} is not allowed; give a whole number of at least 1")


def _column(name: str, field: str, values: Iterable) -> list:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"{name}: {field} is {values!r}; give a list of values")
    # NumPy's numbers as Python's: np.linspace(0, 1, 5) is a list too.
    column = [value.item() if hasattr(value, "item") else value for value in values]
    if not column:
        raise UserError(f"{name}: {field} has no values")
    return column


def merged(points: Sweep) -> Sweep:
    """The points, each once, in their order."""
    found: dict[str, Point] = {}
    for point in points:
        found.setdefault(study.digest(point), point)
    return list(found.values())


class Run(NamedTuple):
    """A run of a sweep: its id, its command line for experiments.train but for the workdir, and its whole config."""

    id: str
    words: list[str]
    config: ConfigDict


class Program(NamedTuple):
    """Runs that train as one compiled program; `swept` are the traced fields in which they differ, with the values."""

    id: str
    runs: list[Run]
    swept: dict[str, list]


def runs(file: str, overrides: Sequence[tuple[str, str]], points: Sweep) -> list[Run]:
    """The runs of a sweep over the config FILE[:ARGUMENT] with `overrides`, every one checked.

    Raises UserError that tells of all points that are wrong. Points that give the same config are one run.
    """
    loaded, given = read_config(file), {field for field, _ in overrides}
    _check_points(file, points)
    base = [f"--config={file}", *(f"--config.{field}={value}" for field, value in overrides)]
    found: dict[str, Run] = {}
    wrong: dict[str, list[Point]] = {}
    for point in points:
        texts = [(field, str(value)) for field, value in point.items()]
        config = loaded.copy_and_resolve_references()
        try:
            for field in sorted(point.keys() & given):
                raise UserError(f"config.{field}: is set by the sweep; leave it out of the command line")
            apply_overrides(config, [*overrides, *texts])
            check_config(config)
        except UserError as error:
            wrong.setdefault(str(error), []).append(point)
            continue
        run = Run(study.identity(config.to_dict()), base + [f"--config.{f}={value}" for f, value in texts], config)
        found.setdefault(run.id, run)
    if wrong:
        raise _all_of(wrong, len(points))
    return list(found.values())


def _check_points(file: str, points: Any) -> None:
    if not isinstance(points, (list, tuple)) or not all(isinstance(point, dict) for point in points):
        raise UserError(f"--config: sweep() of {file!r} gives {type(points).__name__}; give a list of dicts of fields")
    if not points:
        raise UserError(f"--config: sweep() of {file!r} has no points")


def _all_of(wrong: dict[str, list[Point]], count: int) -> UserError:
    total = sum(map(len, wrong.values()))
    lines = [f"{total:,} of {count:,} points of the sweep are wrong; nothing is launched"]
    for message, points in list(wrong.items())[:10]:
        more = f" and {len(points) - 1:,} more" if len(points) > 1 else ""
        lines.append(f"  {message}   (at {points[0]}{more})")
    if len(wrong) > 10:
        lines.append(f"  and {len(wrong) - 10:,} errors more")
    return UserError("\n".join(lines))


def programs(runs: Sequence[Run]) -> list[Program]:
    """The runs by program: those that differ in nothing but traced fields (model.traced) share one."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        name = f"{run.config.variant.name}_{run.config.data.name}_{study.digest(static_fields(run.config))}"
        groups.setdefault(name, []).append(run)
    return [Program(name, members, _swept(members)) for name, members in groups.items()]


def _swept(members: Sequence[Run]) -> dict[str, list]:
    swept = {}
    for field in sorted(model.traced(members[0].config)):
        section, _, leaf = field.rpartition(".")
        values = [(run.config[section] if section else run.config)[leaf] for run in members]
        if len(set(values)) > 1:
            swept[field] = list(dict.fromkeys(values))
    return swept
