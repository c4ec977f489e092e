"""gaussian."""

import jax
import jax.numpy as jnp

from vae_jax.models.distributions import LOG_2PI
from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.likelihoods._scale import scaled


def make(*, sigma: float = 0.1, scale: str = "fixed") -> Likelihood:
    """Pixels are N(mean, s^2), the decoder giving the mean: log p(x) = -(x - mean)^2 / (2 s^2) - log(s sqrt(2 pi)).

    `scale` says what s is: "fixed" at sigma; "shared", one learned number for all pixels and images that
    starts at sigma (the sigma-VAE, Rybkin et al. 2021, section 3.1, which weighs the two parts of the
    ELBO as their own units ask, so that beta has less to do); "pixel", from the decoder for each pixel.
    The squared error of the textbooks, summed over pixels and halved, is a fixed sigma of 1 without the
    constant. Raises UserError unless sigma is positive and finite, and for an unknown scale.
    """
    density = lambda u, log_s: -0.5 * jnp.square(u) - log_s - 0.5 * LOG_2PI  # noqa: E731
    return scaled(density, jax.random.normal, "sigma", scale, sigma)
