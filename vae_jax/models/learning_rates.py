"""How the learning rate rises and falls: a factor on it for each step t, by name (`train.schedule`).

    w(t) = min(1, (t + 1) / (W + 1)),    W = warmup_steps, 1 throughout where that is 0; T = train.steps

    constant        w(t)
    cosine          w(t) (1 + cos(pi t / T)) / 2                                (Loshchilov & Hutter 2017, eq. 5)
    warmup_cosine   w(t) until W, then (1 + cos(pi (t - W) / (T - W))) / 2
    steps           w(t) f^n,    n = how many of `schedule_steps` are at most t;  f = schedule_factor
    exponential     w(t) f^(t / s),    s = the one number in `schedule_steps`
    ""              cosine where `train.cosine` is true, constant where not

Under cosine and warmup_cosine a longer run is another run from its first step; under the others it is not.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import optax

from vae_jax import registry
from vae_jax.errors import UserError


class Fields(NamedTuple):
    """What shapes read: `total` is how many steps the run has, `warmup` over how many it rises."""

    total: int
    warmup: int
    table: tuple[int, ...]
    factor: float


def _rise(warmup: int) -> optax.Schedule:
    return optax.linear_schedule(1 / (warmup + 1), 1.0, warmup) if warmup else optax.constant_schedule(1.0)


def _after_rise(fall: Callable[[Fields], optax.Schedule]) -> Callable[[Fields], optax.Schedule]:
    """The product of the warm-up and a fall that counts from the first step too."""

    def shape(fields: Fields) -> optax.Schedule:
        rising, falling = _rise(fields.warmup), fall(fields)
        return lambda step: rising(step) * falling(step)

    return shape


def _warmup_cosine(fields: Fields) -> optax.Schedule:
    if not 0 < fields.warmup < fields.total:
        raise UserError(
            f"warmup_steps: {fields.warmup} is not allowed with schedule='warmup_cosine'; give a whole number "
            f"from 1 to below steps, {fields.total}"
        )
    fall = optax.cosine_decay_schedule(1.0, fields.total - fields.warmup)
    return optax.join_schedules([_rise(fields.warmup), fall], [fields.warmup])


def _step_table(fields: Fields) -> optax.Schedule:
    if not fields.table:
        raise UserError("schedule_steps: () is not allowed with schedule='steps'; give some, as in (500, 2000)")
    return optax.piecewise_constant_schedule(1.0, dict.fromkeys(fields.table, fields.factor))


def _exponential(fields: Fields) -> optax.Schedule:
    if len(fields.table) != 1:
        raise UserError(
            f"schedule_steps: {fields.table} is not allowed with schedule='exponential'; give one number of steps, "
            "over which the learning rate falls by schedule_factor, as in (1000,)"
        )
    return optax.exponential_decay(1.0, fields.table[0], fields.factor)


SHAPES: dict[str, Callable[[Fields], optax.Schedule]] = {
    "constant": _after_rise(lambda fields: optax.constant_schedule(1.0)),
    "cosine": _after_rise(lambda fields: optax.cosine_decay_schedule(1.0, fields.total)),
    "warmup_cosine": _warmup_cosine,
    "steps": _after_rise(_step_table),
    "exponential": _after_rise(_exponential),
}
"""name -> the factor on the learning rate at each step."""

READS_TABLE = ("steps", "exponential")
"""Those that read `schedule_steps` and `schedule_factor`."""


def make_schedule(
    *,
    steps: int,
    schedule: str = "",
    warmup_steps: int = 0,
    cosine: bool = False,
    schedule_steps: tuple[int, ...] = (),
    schedule_factor: float = 0.1,
    **others: Any,
) -> optax.Schedule:
    """The factor on the learning rate at each step, of the fields of config.train; those of other use are let be.

    Args:
        steps: of the whole run.
        schedule: a name in SHAPES, or "" for what `cosine` says.
        warmup_steps: the factor rises linearly over these; 0 for none.
        cosine: of a schedule that is "", whether it falls as a half cosine to 0 at the last step.
        schedule_steps: of "steps", where the factor falls; of "exponential", over how many steps it does.
        schedule_factor: what it is multiplied by there.
        others: the fields of config.train that say nothing of this.

    Raises:
        UserError: for an unknown name, with the nearest, and for a field that another contradicts or leaves unread.
    """
    name = schedule or ("cosine" if cosine else "constant")
    shape = registry.choose("schedule", name, SHAPES)
    if cosine and schedule not in ("", "cosine"):
        raise UserError(f"cosine: True is not allowed with schedule={schedule!r}; leave it false")
    if schedule_steps and name not in READS_TABLE:
        raise UserError(
            f"schedule_steps: {schedule_steps} is not read by schedule={schedule!r}; take 'steps' or 'exponential'"
        )
    _check_table(schedule_steps, schedule_factor)
    return shape(Fields(steps, warmup_steps, tuple(schedule_steps), schedule_factor))


def _check_table(steps: tuple[int, ...], factor: float) -> None:
    whole = all(type(step) is int and step > 0 for step in steps)
    if not whole or list(steps) != sorted(set(steps)):
        raise UserError(f"schedule_steps: {steps} is not allowed; give steps that rise, as in (500, 2000)")
    if not (factor > 0 and math.isfinite(factor)):
        raise UserError(f"schedule_factor: {factor} is not allowed; give a positive number")
