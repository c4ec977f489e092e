"""Operations on the numbers of pixels that all likelihoods share."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vae_jax.errors import UserError
from vae_jax.models.likelihoods import Values
from vae_jax.randomness import example_keys
from vae_jax.typing import Images, Indices, Key, Pixels


def flatten_pixels(x: Images) -> Float[Array, "batch pixels"]:
    """Each image as one row: vectorised loops run along the last axis, which for grey images has one channel."""
    return x.reshape(len(x), -1)


def split_parameters(parameters: Pixels, parts: int) -> tuple[Images, ...]:
    """The `parts` numbers of each channel of each pixel, as that many images."""
    shape = parameters.shape
    grouped = parameters.reshape(*shape[:-1], shape[-1] // parts, parts)
    return tuple(grouped[..., i] for i in range(parts))


def pixel_noise(draw: Callable[..., Values], key: Key, index: Indices, like: Values) -> Values:
    """`draw(key, shape, dtype)` in float32 for each example, in the shape of `like`."""
    return jax.vmap(lambda key: draw(key, like.shape[1:], jnp.float32))(example_keys(key, index))


def soft_floor(minimum: float, value: Values) -> Values:
    """minimum + softplus(value - minimum): the identity well above it, and below it a gradient that leads back up."""
    return minimum + jax.nn.softplus(value - minimum)


def check_positive(name: str, value: float) -> None:
    """Raises UserError unless the argument `name` is positive and finite."""
    if not (value > 0 and math.isfinite(value)):
        raise UserError(f"{name}: {value} is not allowed; give a positive number")
