"""The total correlation of Gaussian codes."""

import math

import jax
import jax.numpy as jnp

from vae_jax.models.distributions import Gaussian
from vae_jax.variants import tcvae


def exact_total_correlation(nets, params, images):
    """TC of the aggregate posterior of all `images`, nats: the batch is the dataset, where mws is off by constants."""
    size = len(images)

    def total_correlation(images):
        posterior = Gaussian(*nets.encode(params["nets"], images))
        z = posterior.sample(jax.random.key(5), jnp.arange(size))
        parts = tcvae.decompose(z, jnp.arange(size), posterior, posterior, "mws", size)
        return jnp.mean(parts.total_correlation) - (z.shape[-1] - 1) * math.log(size)

    return float(jax.jit(total_correlation)(images))
