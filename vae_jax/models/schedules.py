"""How the weight of the rate grows with the step: a factor from 0 to 1 on a variant's `beta`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Int

from vae_jax import registry
from vae_jax.errors import UserError
from vae_jax.typing import Scalar

Schedule = Callable[[Int[jax.Array, ""]], Scalar]


def ramp(step: Int[jax.Array, ""], start: Scalar | float, end: Scalar | float, steps: Scalar | float) -> Scalar:
    """From `start` at step 0 to `end` at `steps`, in a straight line, and `end` from there on."""
    return start + (end - start) * jnp.clip(step / jnp.maximum(steps, 1), 0.0, 1.0)


def constant() -> Schedule:
    """1 at every step."""
    return lambda step: jnp.float32(1.0)


def linear(*, steps: int = 10_000) -> Schedule:
    """Warm-up: 0 to 1 in a straight line over `steps` (Bowman et al. 2016; Sonderby et al. 2016).

    Raises UserError unless steps is at least 1.
    """
    _check_steps(steps)
    return lambda step: ramp(step, 0.0, 1.0, float(steps))


def sigmoid(*, steps: int = 10_000, steepness: float = 10.0) -> Schedule:
    """Warm-up along sigmoid(steepness * (step / steps - 1/2)), one half at steps / 2 (Bowman et al. 2016).

    Raises UserError unless steps is at least 1.
    """
    _check_steps(steps)
    return lambda step: jax.nn.sigmoid(steepness * (step / steps - 0.5))


def cyclical(*, steps: int = 10_000, ratio: float = 0.5) -> Schedule:
    """Every `steps` steps anew: 0 to 1 over `ratio` of them, then 1 (Fu et al. 2019, eq. 6 and 7).

    Raises UserError unless steps is at least 1 and 0 < ratio <= 1.
    """
    _check_steps(steps)
    if not 0 < ratio <= 1:
        raise UserError(f"ratio: {ratio} is not allowed; give a number above 0, at most 1")
    return lambda step: ramp(step % steps, 0.0, 1.0, steps * ratio)


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise UserError(f"steps: {steps} is not allowed; give a whole number of at least 1")


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "linear": linear,
    "sigmoid": sigmoid,
    "cyclical": cyclical,
}


def get(name: str) -> Callable[..., Schedule]:
    """The schedule `name`; call it with its fields. Raises UserError for an unknown name."""
    return registry.choose("name", name, SCHEDULES)


def defaults(name: str) -> dict[str, Any]:
    """The config section of the schedule `name`: its name and its fields. Raises UserError for an unknown name."""
    return {"name": name, **registry.keyword_fields(get(name))}
