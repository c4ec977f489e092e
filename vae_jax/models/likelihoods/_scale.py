"""Location-scale likelihoods, and where their mean and their scale come from."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import registry
from vae_jax.models.likelihoods import Likelihood, Values
from vae_jax.models.likelihoods._pixels import flatten_pixels, pixel_noise, soft_floor, split_parameters
from vae_jax.typing import Images, Indices, Key, PerExample, Pixels

MIN_LOG_SCALE = math.log(1e-3)
"""A quarter of a grey level of 256: a learned scale below it would fit the grid of levels, not the image."""


class Scale(NamedTuple):
    """Where a scale comes from.

    Attributes:
        read: (the decoder's numbers, log of the scale at its 0) -> (the numbers of the mean, log scale).
        channels, shared: how many numbers `read` needs, as in `Likelihood`.
        binarize: as in `Likelihood`. On two levels a learned scale would fall to its minimum: they have no density.
    """

    read: Callable[[Pixels, float], tuple[Images, Values]]
    channels: int
    shared: int
    binarize: tuple[str, ...] = ("none", "real")


def _read_fixed(parameters: Pixels, start: float) -> tuple[Images, Values]:
    return parameters, jnp.float32(start)


def _read_shared(parameters: Pixels, start: float) -> tuple[Images, Values]:
    return parameters[..., :-1], soft_floor(MIN_LOG_SCALE, start + parameters[..., -1:])


def _read_pixel(parameters: Pixels, start: float) -> tuple[Images, Values]:
    mean, relative = split_parameters(parameters, 2)
    return mean, soft_floor(MIN_LOG_SCALE, start + relative)


SCALES = {
    "fixed": Scale(_read_fixed, 1, 0, ("none", "static", "dynamic", "real")),
    "shared": Scale(_read_shared, 1, 1),
    "pixel": Scale(_read_pixel, 2, 0),
}

MEANS: dict[str, Callable[[Images], Images]] = {"linear": lambda numbers: numbers, "sigmoid": jax.nn.sigmoid}
"""name -> the decoder's numbers to the mean; a sigmoid keeps it where grey levels are, in [0, 1]."""


def location_scale(
    log_density: Callable[[Values, Values], Values], draw: Callable[..., Values], width: float, scale: str, mean: str
) -> Likelihood:
    """The likelihood of a location-scale family, log p(x) = sum over pixels of log_density((x - mean) / s, log s).

    A pixel that is missing (NaN) adds nothing: log p(x) is that of the others, which are independent given z.

    Args:
        log_density: of one pixel, nats.
        draw: `draw(key, shape, dtype)` are draws of mean 0 and scale 1.
        width: s where `scale` is "fixed", and where a learned one starts; in units of x.
        scale: a name in SCALES.
        mean: a name in MEANS.

    Raises:
        UserError: for an unknown `scale` or `mean`.
    """
    read_numbers, channels, shared, binarize = registry.choose("scale", scale, SCALES)
    to_mean = registry.choose("mean", mean, MEANS)
    if mean == "sigmoid":
        binarize = tuple(name for name in binarize if name != "real")
    start = math.log(width)

    def read(parameters: Pixels) -> tuple[Images, Values]:
        numbers, log_scale = read_numbers(parameters, start)
        return to_mean(numbers), log_scale

    def log_prob(parameters: Pixels, x: Images) -> PerExample:
        mean, log_scale = read(parameters)
        log_scale = flatten_pixels(jnp.broadcast_to(log_scale, mean.shape))
        mean, x = flatten_pixels(mean), flatten_pixels(x)
        missing = jnp.isnan(x)
        # Filled before the density: the gradient of what is not taken would be 0 times NaN.
        density = log_density((jnp.where(missing, mean, x) - mean) * jnp.exp(-log_scale), log_scale)
        return jnp.sum(jnp.where(missing, 0, density), axis=1)

    def expected_image(parameters: Pixels) -> Images:
        return read(parameters)[0]

    def sample(parameters: Pixels, key: Key, index: Indices) -> Images:
        mean, log_scale = read(parameters)
        return mean + jnp.exp(log_scale) * pixel_noise(draw, key, index, mean)

    return Likelihood(log_prob, expected_image, sample, channels, levels=0, binarize=binarize, shared=shared)
