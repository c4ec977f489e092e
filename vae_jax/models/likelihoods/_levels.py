"""The 256 grey levels as bins of a logistic distribution (Salimans et al. 2017)."""

import math

import jax
import jax.numpy as jnp

from vae_jax.models.likelihoods import Values
from vae_jax.models.likelihoods._pixels import soft_floor

HALF_LEVEL = 1 / 510
"""Half the distance of two of the 256 grey levels on [0, 1]."""


def log_level(x: Values, mean: Values, log_scale: Values) -> Values:
    """log P of the grey level at x in {0, 1/255, ..., 1}: a logistic's mass in the bin around x, nats.

        P(x) = sigmoid((x + h - mean) / s) - sigmoid((x - h - mean) / s),    h = 1/510

    The bin of level 0 reaches to -inf and that of 255 to inf, so the 256 sum to 1 (Salimans et al. 2017,
    eq. 2). As log sigmoid(b) + log sigmoid(-a) + log(1 - e^(a - b)) with a, b the bin's edges: exact far in either
    tail, where the difference of two sigmoids is 0 and libraries fall back on the density.
    """
    inverse = jnp.exp(-log_scale)
    upper, lower = (x + HALF_LEVEL - mean) * inverse, (x - HALF_LEVEL - mean) * inverse
    width = 2 * HALF_LEVEL * inverse
    narrow = width < 1e-3
    log_width = math.log(2 * HALF_LEVEL) - log_scale - 0.5 * width
    log_gap = jnp.where(narrow, log_width, jnp.log(-jnp.expm1(-jnp.where(narrow, 1.0, width))))
    inside = jax.nn.log_sigmoid(upper) + jax.nn.log_sigmoid(-lower) + log_gap
    outer = jnp.where(x > 0.5, jax.nn.log_sigmoid(-lower), jax.nn.log_sigmoid(upper))
    return jnp.where((x < HALF_LEVEL) | (x > 1 - HALF_LEVEL), outer, inside)


def log_scale(raw: Values) -> Values:
    """The log of a logistic's scale: 0.1 at the decoder's 0, and never below a fiftieth of a level."""
    return soft_floor(math.log(HALF_LEVEL / 25), raw + math.log(0.1))


def nearest_level(x: Values) -> Values:
    """The grey level in whose bin x is."""
    return jnp.clip(jnp.round(255 * x), 0, 255) / 255
