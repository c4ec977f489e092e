"""Annealing of Hamiltonian Monte Carlo chains between a prior and a posterior (Neal 2001; Wu et al. 2017).

    pi_beta(z) = p(z) p(x|z)^beta,    log w = sum_t (beta_t+1 - beta_t) log p(x|z_t),    z_t+1 by HMC on pi_beta_t+1

All is of a function `joint` of the chains' positions, which says log p(z) and log p(x|z).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from jaxtyping import Key as KeyArray

from vae_jax.metrics import _hmc

SHARPNESS = 4.0
WARM_UP = 50
FIRST_STEP, RATE, ACCEPTANCE = 0.5, 0.2, 0.65

ChainKeys = KeyArray[Array, " chain"]
Positions = Float[Array, "chain latent"]
"""The code of each chain; the chains of an image are in a row."""
PerChain = Float[Array, " chain"]
PerImage = Float[Array, " image"]
Joint = Callable[[Positions], tuple[PerChain, PerChain]]
"""z -> log p(z) and log p(x|z), nats."""
Betas = Float[Array, " temperature"]
StepSizes = Float[Array, "temperature image"]


def schedule(temperatures: int) -> Betas:
    """beta_0 = 0 to beta_T = 1: T steps, short at both ends; on digits at T = 100 equal ones leave twice the gap."""
    rise = 1 / (1 + np.exp(-SHARPNESS * np.linspace(-1, 1, temperatures + 1)))
    return jnp.asarray((rise - rise[0]) / (rise[-1] - rise[0]), jnp.float32)


def tempered(joint: Joint, beta: Float[Array, ""]) -> _hmc.LogDensity:
    """log p(z) + beta log p(x|z)."""

    def log_density(z):
        log_prior, log_likelihood = joint(z)
        return log_prior + beta * log_likelihood

    return log_density


def move(
    joint: Joint,
    beta: Float[Array, ""],
    keys: ChainKeys,
    number: Array,
    z: Positions,
    step_size: PerImage,
    leapfrog: int,
) -> tuple[Positions, PerChain]:
    """Move `number` of each chain, at `beta`, with the step size of its image, and how it was accepted."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, number)
    rows = jnp.repeat(step_size, len(z) // len(step_size))
    return _hmc.transition(tempered(joint, beta), keys, z, rows, leapfrog)


def adapt_step_sizes(
    joint: Joint, keys: ChainKeys, z: Positions, betas: Betas, leapfrog: int, images: int
) -> StepSizes:
    """Step sizes towards ACCEPTANCE of each image and each of `betas`.

        log eps <- log eps + RATE (acceptance - ACCEPTANCE)    with each move, acceptance over the chains of an image

    Args:
        joint: log p(z) and log p(x|z).
        keys: of the chains, as many for each image.
        z: draws from the prior, where they start.
        betas: the temperatures, visited in order after WARM_UP moves at 0.
        leapfrog: steps in a move.
        images: how many images there are.
    """

    def visit(carry, inputs):
        z, log_step = carry
        number, beta = inputs
        z, acceptance = move(joint, beta, keys, number, z, jnp.exp(log_step), leapfrog)
        log_step = log_step + RATE * (jnp.mean(acceptance.reshape(images, -1), axis=1) - ACCEPTANCE)
        return (z, log_step), log_step

    betas = jnp.concatenate([jnp.zeros(WARM_UP), betas])
    start = (z, jnp.full(images, math.log(FIRST_STEP)))
    _, log_steps = jax.lax.scan(visit, start, (jnp.arange(len(betas)), betas))
    return jnp.exp(log_steps[WARM_UP:])


def resample(step_sizes: StepSizes, temperatures: int) -> Float[Array, "resampled image"]:
    """The step sizes of a schedule of other length: log eps linear in t/T."""
    wanted, known = (jnp.linspace(0, 1, temperatures + 1), jnp.linspace(0, 1, len(step_sizes)))
    return jnp.exp(jax.vmap(lambda log_steps: jnp.interp(wanted, known, log_steps), 1, 1)(jnp.log(step_sizes)))


def anneal(
    joint: Joint, keys: ChainKeys, z: Positions, betas: Betas, step_sizes: StepSizes, leapfrog: int
) -> tuple[PerChain, PerChain]:
    """log w of each chain that starts at z, a draw of the target at betas[0], and its mean acceptance.

    `betas` may rise or fall. The last move counts for nothing, and makes all visits alike.
    """

    def visit(carry, inputs):
        z, log_w = carry
        number, beta, next_beta, step_size = inputs
        log_w = log_w + (next_beta - beta) * joint(z)[1]
        z, acceptance = move(joint, next_beta, keys, number, z, step_size, leapfrog)
        return (z, log_w), acceptance

    inputs = (jnp.arange(len(betas) - 1), betas[:-1], betas[1:], step_sizes[1:])
    (_, log_w), acceptance = jax.lax.scan(visit, (z, jnp.zeros(len(z))), inputs)
    return log_w, jnp.mean(acceptance, axis=0)
