"""Training on codes: a held-out tenth says which step's parameters are kept."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from vae_jax.errors import UserError
from vae_jax.randomness import stream
from vae_jax.samplers import HostCodes
from vae_jax.typing import Codes, Key, Params, PerExample, Scalar

CHECKS = 50
"""How many times on the way the held-out loss is computed."""
BATCH = 256
SMALLEST_SPREAD = 1e-6
"""A latent that varies less, relative to the one that varies most, is rounding, and is not blown up to variance 1."""

HeldOut = Float[Array, "held_out latent"]

Loss = Callable[[Params, Codes, Key], PerExample]
"""(params, standardised codes, key) -> nats per example."""


def standardize(codes: HostCodes) -> tuple[Params, Codes]:
    """Mean and spread of each latent, and the codes (z - mean) / spread."""
    mean, spread = codes.mean(axis=0), codes.std(axis=0)
    spread = np.where(spread > SMALLEST_SPREAD * spread.max(), spread, np.float32(1))
    return {"mean": mean, "spread": spread}, jnp.asarray((codes - mean[None]) / spread[None])


def fit(loss: Loss, start: Params, codes: Codes, key: Key, steps: int, learning_rate: float) -> Params:
    """The parameters with the least loss on a held-out tenth, of CHECKS on the way of Adam, its rate along a cosine.

    Args:
        loss: a function of a module: it is compiled once.
        start: the parameters at first.
        codes: standardised; a random tenth is held out.
        key: of batches, the loss's noise and the tenth.
        steps: how many, at least CHECKS.
        learning_rate: at first.

    Raises:
        UserError: for less than two codes, or fewer steps.
    """
    if len(codes) < 2:
        raise UserError(f"codes: {len(codes)} is too few to fit a sampler to; give at least 2")
    if steps < CHECKS:
        raise UserError(f"steps: {steps} is not allowed; give at least {CHECKS}")
    order = np.asarray(jax.random.permutation(stream(key, "held_out"), len(codes)))
    held_out, training = np.split(order, [-(-len(codes) // 10)])
    return _train(loss, start, codes[training], codes[held_out], key, jnp.float32(learning_rate), steps // CHECKS)


@partial(jax.jit, static_argnames=("loss", "steps"))
def _train(
    loss: Loss, start: Params, codes: Codes, held_out: HeldOut, key: Key, learning_rate: Scalar, steps: int
) -> Params:
    """`fit` with `steps` between two checks."""
    adam = optax.adam(optax.cosine_decay_schedule(learning_rate, CHECKS * steps))

    def step(state, key):
        params, moments = state
        index = jax.random.randint(stream(key, "batch"), (BATCH,), 0, len(codes), jnp.int32)
        gradient = jax.grad(lambda params: jnp.mean(loss(params, codes[index], stream(key, "noise"))))(params)
        updates, moments = adam.update(gradient, moments)
        return (optax.apply_updates(params, updates), moments), None

    def check(state, key):
        best, least, state = state
        state, _ = jax.lax.scan(step, state, jax.random.split(key, steps))
        value = jnp.mean(loss(state[0], held_out, stream(check_key, "noise")))
        best = jax.tree.map(lambda new, old: jnp.where(value < least, new, old), state[0], best)
        return (best, jnp.fmin(value, least), state), None

    check_key, steps_key = stream(key, "check"), stream(key, "steps")
    start_state = start, jnp.float32(jnp.inf), (start, adam.init(start))
    return jax.lax.scan(check, start_state, jax.random.split(steps_key, CHECKS))[0][0]
