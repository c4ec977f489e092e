"""Sweeps: points, and how they combine.

A sweep is a list of points; a point is the fields that it sets: {"variant.beta": 4.0, "seed": 1}. A config's file has
one as `sweep()` beside `get_config()`:

    def sweep():
        return product(grid(**{"variant.beta": [1, 2, 4, 8]}), seeds(8))    # 32 runs, one program

Sweeps are plain lists, so a list comprehension will do too. product distributes over chain, and grid(a=..., b=...) is
the product of grid(a=...) and grid(b=...). A point that comes twice is one.
"""

import itertools
import random as python_random
from collections.abc import Iterable
from typing import Any

from vae_jax.errors import UserError
from vae_jax.sweeps import study
from vae_jax.sweeps.ranges import choice, integer, log_uniform, uniform

__all__ = [
    "Point",
    "Sweep",
    "chain",
    "choice",
    "grid",
    "integer",
    "log_uniform",
    "product",
    "random",
    "seeds",
    "uniform",
    "unique_points",
    "zipped",
]

Point = dict[str, Any]
Sweep = list[Point]


def grid(**lists: Any) -> Sweep:
    """Every combination of the values in a list for each field, the last field fastest."""
    columns = [_column("grid", field, values) for field, values in lists.items()]
    return unique_points([dict(zip(lists, values, strict=True)) for values in itertools.product(*columns)])


def zipped(**lists: Any) -> Sweep:
    """The first value of each field together, then the second of each. Raises UserError for unequal lengths."""
    columns = {field: _column("zipped", field, values) for field, values in lists.items()}
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{field} has {len(column)}" for field, column in columns.items())
        raise UserError(f"zipped: the lists differ in length: {lengths}")
    return unique_points([dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)])


def chain(*sweeps: Sweep) -> Sweep:
    """The points of one sweep after the other."""
    return unique_points([point for sweep in sweeps for point in sweep])


def product(*sweeps: Sweep) -> Sweep:
    """Every combination of a point of each, the last sweep fastest. Raises UserError where two set the same field."""
    return unique_points([_combined(points) for points in itertools.product(*sweeps)])


def seeds(n: int) -> Sweep:
    """Seeds 0 to n - 1."""
    _check_count("seeds", n)
    return grid(seed=range(n))


def random(n: int, key: int, **ranges: Any) -> Sweep:
    """n draws of every field from its range, fewer where draws coincide: a function of the key alone.

    Each field has a stream of its own: more draws, or more fields, leave the earlier ones as they are.
    """
    _check_count("random", n)
    for field, draw in ranges.items():
        if not callable(draw):
            raise UserError(
                f"random: {field} is {draw!r}; give uniform(a, b), log_uniform(a, b), integer(a, b) or choice(...)"
            )
    streams = {field: python_random.Random(f"{key}/{field}") for field in ranges}
    return unique_points([{field: draw(streams[field]) for field, draw in ranges.items()} for _ in range(n)])


def _combined(points: Iterable[Point]) -> Point:
    combined: Point = {}
    for point in points:
        if shared := combined.keys() & point.keys():
            raise UserError(f"product: {min(shared)} is set by two of its sweeps; leave it to one")
        combined |= point
    return combined


def _check_count(name: str, n: int) -> None:
    if not isinstance(n, int) or n < 1:
        raise UserError(f"{name}: {n!r} is not allowed; give a whole number of at least 1")


def _column(name: str, field: str, values: Any) -> list:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"{name}: {field} is {values!r}; give a list of values")
    # NumPy's numbers as Python's: np.linspace(0, 1, 5) is a list too.
    column = [value.item() if hasattr(value, "item") else value for value in values]
    if not column:
        raise UserError(f"{name}: {field} has no values")
    return column


def unique_points(points: Sweep) -> Sweep:
    """The points in their order, each where it first comes."""
    unique: dict[str, Point] = {}
    for point in points:
        unique.setdefault(study.digest(point), point)
    return list(unique.values())
