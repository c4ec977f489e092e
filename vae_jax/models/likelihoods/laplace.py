"""Laplace pixels: the absolute error, which weighs outliers less than the square.

log p(x | z) = sum over pixels of -|x - mean| / b - log(2 b)
"""

import math

import jax
import jax.numpy as jnp

from vae_jax.models.likelihoods import Likelihood, Values
from vae_jax.models.likelihoods._pixels import check_positive
from vae_jax.models.likelihoods._scale import location_scale


def make(*, width: float = 0.1, scale: str = "fixed", mean: str = "linear") -> Likelihood:
    """Pixels are Laplace(mean, b): log p(x) = -|x - mean| / b - log(2 b); the decoder gives the mean, the median too.

    Args:
        width: b, or where it starts, in grey levels of [0, 1].
        scale: what b is: "fixed" at width; "shared", one learned number for all pixels and images; "pixel", from
            the decoder for each pixel.
        mean: how the decoder's number l of a pixel gives its mean: "sigmoid", 1 / (1 + e^-l), where grey levels are;
            "linear", l itself, which nothing keeps in [0, 1]. Linear is what runs did before there was a choice, and
            what a saved config without the field means; a new config says "sigmoid".

    Raises:
        UserError: unless width is positive and finite, and for an unknown scale or mean.
    """
    check_positive("width", width)
    return location_scale(_log_density, jax.random.laplace, width, scale, mean)


def _log_density(u: Values, log_b: Values) -> Values:
    return -jnp.abs(u) - log_b - math.log(2)
