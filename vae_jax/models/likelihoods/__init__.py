"""Likelihoods: log p(x | z) of an image given the decoder's numbers, in nats per image. A file here is a config's name.

A file has `make(**fields) -> Likelihood`; its fields are the keyword-only parameters of `make`. A likelihood of the
user's own is a module with such a `make`, chosen by its dotted name. Nothing here reduces over examples.
Densities are of grey levels in [0, 1]; discrete likelihoods give probabilities, of 2 levels or of 256, and so bits/dim.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from vae_jax import registry
from vae_jax.typing import Images, Indices, Key, PerExample, Pixels

Values = Float[Array, "..."]


class Likelihood(NamedTuple):
    """p(x | z) over pixels, given what the decoder returns.

    The decoder's parameters are (batch, height, width, channels of an image * `channels` + `shared`): for each
    channel of each pixel its `channels` numbers side by side, then `shared` learned numbers, the same for all pixels.

    Attributes:
        log_prob: (parameters, images) -> nats per image, summed over pixels.
        mean: parameters -> the expected images.
        sample: (parameters, key, index) -> one drawn image for each example, a function of key and its index.
        channels: the decoder's numbers for each channel of a pixel.
        levels: how many values a pixel may take: 2, 256, or 0 for a density.
        binarize: the settings of config.data.binarize that fit the likelihood.
        shared: how many learned numbers are the same for all pixels and images.
    """

    log_prob: Callable[[Pixels, Images], PerExample]
    mean: Callable[[Pixels], Images]
    sample: Callable[[Pixels, Key, Indices], Images]
    channels: int
    levels: int
    binarize: tuple[str, ...] = ("none", "static", "dynamic")
    shared: int = 0


def get(name: str) -> Callable[..., Likelihood]:
    """`make` of the likelihood `name`; call it with its fields. Raises UserError for an unknown name."""
    return registry.find("name", name, __name__, "make")


NEW = {"gaussian": {"mean": "sigmoid"}, "laplace": {"mean": "sigmoid"}}
"""What a new config says where that is not what a config without the field means, which is the default of `make`."""


def defaults(name: str) -> dict[str, Any]:
    """The config section of the likelihood `name`: its name and its fields. Raises UserError for an unknown name."""
    return {"name": name, **absent_fields(name), **NEW.get(name, {})}


def absent_fields(name: str) -> dict[str, Any]:
    """What each field of the likelihood `name` was to a run whose config, of an earlier version, has none."""
    return registry.keyword_fields(get(name))
