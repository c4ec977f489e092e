"""Gaussian pixels, with a scale that is fixed or learned (the sigma-VAE, Rybkin et al. 2021).

log p(x | z) = sum over pixels of -(x - mean)^2 / (2 s^2) - log(s sqrt(2 pi))
"""

import jax
import jax.numpy as jnp

from vae_jax.models.distributions import LOG_2PI
from vae_jax.models.likelihoods import Likelihood, Values
from vae_jax.models.likelihoods._pixels import check_positive
from vae_jax.models.likelihoods._scale import location_scale


def make(*, sigma: float = 0.1, scale: str = "fixed", mean: str = "linear") -> Likelihood:
    """Pixels are N(mean, s^2), the decoder giving the mean: log p(x) = -(x - mean)^2 / (2 s^2) - log(s sqrt(2 pi)).

    The squared error of the textbooks, summed over pixels and halved, is a fixed sigma of 1 without the constant.

    Args:
        sigma: s, or where it starts, in grey levels of [0, 1].
        scale: what s is: "fixed" at sigma; "shared", one learned number for all pixels and images (Rybkin et al.
            2021, section 3.1), which weighs the two parts of the ELBO as their own units ask, so that beta has less
            to do; "pixel", from the decoder for each pixel.
        mean: how the decoder's number l of a pixel gives its mean: "sigmoid", 1 / (1 + e^-l), where grey levels are;
            "linear", l itself, which nothing keeps in [0, 1]. Linear is what runs did before there was a choice, and
            what a saved config without the field means; a new config says "sigmoid".

    Raises:
        UserError: unless sigma is positive and finite, and for an unknown scale or mean.
    """
    check_positive("sigma", sigma)
    return location_scale(_log_density, jax.random.normal, sigma, scale, mean)


def _log_density(u: Values, log_s: Values) -> Values:
    return -0.5 * jnp.square(u) - log_s - 0.5 * LOG_2PI
