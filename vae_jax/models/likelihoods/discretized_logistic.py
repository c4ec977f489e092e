"""256 grey levels as bins of one logistic for each pixel (Kingma et al. 2016; Salimans et al. 2017).

log P(x | z) = sum over pixels of log(sigmoid((x + h - mean) / s) - sigmoid((x - h - mean) / s)),    h = 1/510
"""

import jax
import jax.numpy as jnp

from vae_jax.models.likelihoods import Likelihood
from vae_jax.models.likelihoods._levels import log_level, log_scale, nearest_level
from vae_jax.models.likelihoods._pixels import flatten_pixels, pixel_noise, split_parameters
from vae_jax.typing import Images, Indices, Key, PerExample, Pixels


def make() -> Likelihood:
    """256 grey levels, each the mass that a logistic of the decoder's mean and scale has in the level's bin.

    See `log_level`. The mean is sigmoid-free, around 1/2 at the decoder's 0; the expected image is the
    mean cut to [0, 1], of the logistic and not of its bins: off by less than the mass outside.
    """

    def log_prob(parameters: Pixels, x: Images) -> PerExample:
        mean, raw = map(flatten_pixels, split_parameters(parameters, 2))
        return jnp.sum(log_level(flatten_pixels(x), mean + 0.5, log_scale(raw)), axis=1)

    def mean(parameters: Pixels) -> Images:
        return jnp.clip(split_parameters(parameters, 2)[0] + 0.5, 0.0, 1.0)

    def sample(parameters: Pixels, key: Key, index: Indices) -> Images:
        mean, raw = split_parameters(parameters, 2)
        return nearest_level(mean + 0.5 + jnp.exp(log_scale(raw)) * pixel_noise(jax.random.logistic, key, index, mean))

    return Likelihood(log_prob, mean, sample, channels=2, levels=256, binarize=("none",))
