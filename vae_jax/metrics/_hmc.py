"""Hamiltonian Monte Carlo (Duane et al. 1987; Neal 2011): moves of a chain that leave a density as it is.

    H(z, p) = -log pi(z) + |p|^2 / 2,    p ~ N(0, I) drawn anew for each move

    p <- p + eps/2 grad log pi(z),    z <- z + eps p,    p <- p + eps/2 grad log pi(z)        a leapfrog step

A leapfrog step is undone by one with -p and keeps volume, so that accepting the end of several with probability
min(1, e^(H - H')) leaves pi invariant, at any step size eps; H is kept to within eps^2, and small steps are nearly
always accepted. A move that diverges to where H is NaN is rejected. Chains are apart: each has its own key, step
size and acceptance. The masses are 1: one eps has to suit the narrowest latent. float32 knows log pi to 1e-7 of its
size, and H - H' no better.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vae_jax.typing import Codes, Keys, PerExample

LogDensity = Callable[[Codes], PerExample]


def leapfrog(
    log_density: LogDensity, z: Codes, momentum: Codes, step_size: PerExample, steps: int
) -> tuple[Codes, Codes]:
    """Position and momentum of each chain after `steps` leapfrog steps of its own `step_size` (Neal 2011, 2.3)."""
    slope_at = jax.grad(lambda z: jnp.sum(log_density(z)))
    size = step_size[:, None]

    def leapfrog_step(carry, _):
        z, momentum, slope = carry
        momentum = momentum + 0.5 * size * slope
        z = z + size * momentum
        slope = slope_at(z)
        return (z, momentum + 0.5 * size * slope, slope), None

    (z, momentum, _), _ = jax.lax.scan(leapfrog_step, (z, momentum, slope_at(z)), length=steps)
    return z, momentum


def transition(
    log_density: LogDensity, keys: Keys, z: Codes, step_size: PerExample, steps: int
) -> tuple[Codes, PerExample]:
    """One move of each chain, and the probability with which it was accepted (Neal 2011, 3.2).

    Args:
        log_density: log pi of each row, but for a constant; nats.
        keys: one for each chain.
        z: where the chains are.
        step_size: eps of each chain.
        steps: leapfrog steps in the move.
    """

    def noise(key):
        momentum, uniform = jax.random.split(key)
        return jax.random.normal(momentum, z.shape[1:], jnp.float32), jax.random.uniform(uniform, (), jnp.float32)

    momentum, uniform = jax.vmap(noise)(keys)
    proposal, end_momentum = leapfrog(log_density, z, momentum, step_size, steps)
    kinetic = 0.5 * jnp.sum(jnp.square(momentum) - jnp.square(end_momentum), axis=-1)
    log_ratio = log_density(proposal) - log_density(z) + kinetic
    probability = jnp.where(jnp.isnan(log_ratio), 0.0, jnp.exp(jnp.minimum(log_ratio, 0.0)))
    return jnp.where((uniform < probability)[:, None], proposal, z), probability
