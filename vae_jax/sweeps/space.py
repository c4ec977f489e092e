"""The space of a search: the fields that it chooses, and from what.

A config's file has it as `search()` beside `get_config()`, in the words of a random sweep:

    def search():
        return {"variant.beta": log_uniform(0.1, 10), "latent_dim": choice(4, 8, 16)}
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from vae_jax import model
from vae_jax.config.command_line import Overrides
from vae_jax.config.parse import checked_config, load_sweep, read_config
from vae_jax.errors import UserError, errors_of
from vae_jax.sweeps.algebra import Point
from vae_jax.sweeps.groups import plan_run
from vae_jax.sweeps.ranges import Choice, Integer, Range, Uniform

PRIMITIVE = (bool, int, float, str, type(None))
"""What Optuna keeps as an option as it is; of others it is given the text."""


@dataclass(frozen=True)
class Space:
    """What each field of a search is chosen from; `static` are those that are no arguments of a compiled program."""

    ranges: Mapping[str, Range]
    static: tuple[str, ...] = ()

    def distributions(self) -> dict[str, Any]:
        """The ranges as Optuna has them, in an order that is not that of the file."""
        return {field: _distribution(self.ranges[field]) for field in sorted(self.ranges)}

    def point(self, params: Mapping[str, Any]) -> Point:
        """The point of a trial's parameters: numbers to six digits, options as they were given."""
        return {field: _value(values, params[field]) for field, values in self.ranges.items()}

    def words(self) -> dict[str, str]:
        """Each range as one writes it."""
        return {field: str(values) for field, values in self.ranges.items()}

    def cost(self) -> str:
        """What the static fields cost, in a line; empty where there are none."""
        if not self.static:
            return ""
        counts = [_count(self.ranges[field]) for field in self.static]
        whole = [count for count in counts if count is not None]
        most = f", at most {math.prod(whole):,} in all" if len(whole) == len(counts) else ""
        names = ", ".join(f"{field} ({self.ranges[field]})" for field in self.static)
        return f"not traced, so that each value is compiled as a program of its own{most}: {names}"


def load_space(file: str, overrides: Overrides) -> tuple[ConfigDict, Space]:
    """The config NAME|FILE.py[:ARGUMENT] with `overrides`, and the space of its search(), checked at all its ends.

    Raises:
        UserError: naming what is wrong with the config, the space or a field of it.
    """
    config, ranges = checked_config(file, overrides), load_sweep(file, "search")
    if not isinstance(ranges, dict) or not all(isinstance(field, str) for field in ranges):
        raise UserError(f"--config: search() of {file!r} gives {type(ranges).__name__}; return a dict of fields")
    if not ranges:
        raise UserError(f"--config: search() of {file!r} has no fields; give some, as in variant.beta=uniform(1, 8)")
    for field, values in ranges.items():
        if not isinstance(values, Range):
            raise UserError(
                f"search: {field} is {values!r}; give uniform(a, b), log_uniform(a, b), integer(a, b) or choice(...)"
            )
    if "seed" in ranges:
        raise UserError("search: seed cannot be a field of the space; --seeds=3 scores each trial by the mean of three")
    _check_ends(file, overrides, ranges)
    traced = model.traced_fields(config)
    if "variant.name" in ranges:
        traced = traced - {field for field in traced if field.startswith("variant.")}
    return config, Space(ranges, tuple(field for field in ranges if field not in traced))


def _check_ends(file: str, overrides: Overrides, ranges: Mapping[str, Range]) -> None:
    """Raises UserError for a field that is unknown or set elsewhere, and for an end that is not allowed."""
    if shared := ranges.keys() & {field for field, _ in overrides}:
        raise UserError(f"--config.{min(shared)}: is chosen by the search; leave it out of the command line")
    template = read_config(file)
    for point in _ends(ranges):
        with errors_of("search: "):
            plan_run(template, [], overrides, point)


def _ends(ranges: Mapping[str, Range]) -> list[Point]:
    """The first values of all fields, and points that have another value of one of them: its end, each option."""
    first = {field: _listed(values)[0] for field, values in ranges.items()}
    others = [first | {field: value} for field, values in ranges.items() for value in _listed(values)[1:]]
    return [first, *others]


def _listed(values: Range) -> list[Any]:
    return list(values.options) if isinstance(values, Choice) else [values.low, values.high]


def _count(values: Range) -> int | None:
    """How many values there are; None of numbers that are not whole."""
    if isinstance(values, Choice):
        return len(values.options)
    return values.high - values.low + 1 if isinstance(values, Integer) else None


def _distribution(values: Range) -> Any:
    from optuna import distributions

    if isinstance(values, Uniform):
        return distributions.FloatDistribution(values.low, values.high, log=values.log)
    if isinstance(values, Integer):
        return distributions.IntDistribution(values.low, values.high)
    return distributions.CategoricalDistribution([_stored(option) for option in values.options])


def _stored(option: Any) -> Any:
    """An option as Optuna keeps it."""
    return option if isinstance(option, PRIMITIVE) else str(option)


def _value(values: Range, param: Any) -> Any:
    if isinstance(values, Uniform):
        return values.rounded(param)
    if isinstance(values, Choice):
        return next(option for option in values.options if _stored(option) == param)
    return param
