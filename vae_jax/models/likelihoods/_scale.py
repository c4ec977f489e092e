"""Where the scale of a location-scale likelihood comes from."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import registry
from vae_jax.models.likelihoods import Likelihood, Values
from vae_jax.models.likelihoods._pixels import check_positive, flat_pixels, pixel_noise, split_parameters
from vae_jax.typing import Images, Indices, Key, PerExample, Pixels


def at_least(least: float, value: Values) -> Values:
    # A softplus: the identity well above the least, and below it a gradient that leads back up.
    return least + jax.nn.softplus(value - least)


LEAST_LOG_SCALE = math.log(1e-3)
"""A quarter of a grey level of 256: a learned scale below it would fit the grid of levels, not the image."""


class Scale(NamedTuple):
    """Where a scale comes from: (decoder's numbers, log of the start) -> (mean, log scale); how many numbers.

    `binarize` as in Likelihood: on two levels a learned scale would go to its least, the density of what is none.
    """

    read: Callable[[Pixels, float], tuple[Images, Values]]
    channels: int
    shared: int
    binarize: tuple[str, ...] = ("none",)


def _fixed(parameters: Pixels, start: float) -> tuple[Images, Values]:
    return parameters, jnp.float32(start)


def _shared(parameters: Pixels, start: float) -> tuple[Images, Values]:
    return parameters[..., :-1], at_least(LEAST_LOG_SCALE, start + parameters[..., -1:])


def _per_pixel(parameters: Pixels, start: float) -> tuple[Images, Values]:
    mean, relative = split_parameters(parameters, 2)
    return mean, at_least(LEAST_LOG_SCALE, start + relative)


SCALES = {
    "fixed": Scale(_fixed, 1, 0, ("none", "static", "dynamic")),
    "shared": Scale(_shared, 1, 1),
    "pixel": Scale(_per_pixel, 2, 0),
}


def scaled(
    density: Callable[[Values, Values], Values], draw: Callable[..., Values], field: str, scale: str, start: float
) -> Likelihood:
    """The likelihood of a location-scale family: density((x - mean) / s, log s) with s as `scale` says.

    `draw(key, shape)` are draws of mean 0 and scale 1.
    """
    check_positive(field, start)
    read, channels, shared, binarize = registry.choose("config.likelihood.scale", scale, SCALES)
    start = math.log(start)

    def log_prob(parameters: Pixels, x: Images) -> PerExample:
        mean, log_scale = read(parameters, start)
        mean, log_scale, x = flat_pixels(mean), flat_pixels(jnp.broadcast_to(log_scale, mean.shape)), flat_pixels(x)
        return jnp.sum(density((x - mean) * jnp.exp(-log_scale), log_scale), axis=1)

    def sample(parameters: Pixels, key: Key, index: Indices) -> Images:
        mean, log_scale = read(parameters, start)
        return mean + jnp.exp(log_scale) * pixel_noise(draw, key, index, mean)

    mean = lambda parameters: read(parameters, start)[0]  # noqa: E731
    return Likelihood(log_prob, mean, sample, channels=channels, levels=0, binarize=binarize, shared=shared)
