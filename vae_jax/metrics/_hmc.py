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
    """Position and momentum of each chain after `steps` leapfrog steps of its own `step_size`."""
    slope_at = jax.grad(lambda z: jnp.sum(log_density(z)))
    size = step_size[:, None]

    def one(carry, _):
        z, momentum, slope = carry
        momentum = momentum + 0.5 * size * slope
        z = z + size * momentum
        slope = slope_at(z)
        return (z, momentum + 0.5 * size * slope, slope), None

    (z, momentum, _), _ = jax.lax.scan(one, (z, momentum, slope_at(z)), length=steps)
    return z, momentum


def transition(
    log_density: LogDensity, keys: Keys, z: Codes, step_size: PerExample, steps: int
) -> tuple[Codes, PerExample]:
    """One move of each chain, and the probability with which it was accepted."""

    def noise(key):
        momentum, uniform = jax.random.split(key)
        return jax.random.normal(momentum, z.shape[1:]), jax.random.uniform(uniform)

    momentum, uniform = jax.vmap(noise)(keys)
    there, after = leapfrog(log_density, z, momentum, step_size, steps)
    kinetic = 0.5 * jnp.sum(jnp.square(momentum) - jnp.square(after), axis=-1)
    log_ratio = log_density(there) - log_density(z) + kinetic
    probability = jnp.where(jnp.isnan(log_ratio), 0.0, jnp.exp(jnp.minimum(log_ratio, 0.0)))
    return jnp.where((uniform < probability)[:, None], there, z), probability
