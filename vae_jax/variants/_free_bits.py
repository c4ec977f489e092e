"""Nats that each latent has free of the rate."""

import jax.numpy as jnp

from vae_jax.models.collectives import all_gather
from vae_jax.typing import Codes, Scalar


def rate_with_free_bits(kl: Codes, floor: Scalar | float = 0.0) -> Scalar:
    """The rate with `floor` nats free in each latent: sum_j max(floor, E_x KL_j) (Kingma et al. 2016, eq. 15).

    `kl` is nats per example and latent; the mean is over the whole batch. Zero leaves the mean rate.
    """
    return jnp.sum(jnp.maximum(floor, jnp.mean(all_gather(kl), axis=0)))
