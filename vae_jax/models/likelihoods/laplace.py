"""laplace."""

import math

import jax
import jax.numpy as jnp

from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.likelihoods._scale import (
    scaled,
)


def make(*, width: float = 0.1, scale: str = "fixed") -> Likelihood:
    """Pixels are Laplace(mean, b): log p(x) = -|x - mean| / b - log(2 b); the decoder gives the mean, the median too.

    b is `width`, "fixed", or learned from there as for the gaussian. Raises UserError unless width is
    positive and finite, and for an unknown scale.
    """
    return scaled(lambda u, log_b: -jnp.abs(u) - log_b - math.log(2), jax.random.laplace, "width", scale, width)
