"""What the decoder says of an image: log p(x | z), in nats per image, and the image it expects.

A file here is a name in a config; it has `make(**fields) -> Likelihood`, whose keyword-only parameters are its fields.
Nothing here reduces over examples. Densities are of grey levels in [0, 1]; discrete likelihoods give
probabilities, of 2 levels or of 256, and so bits/dim.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import Array, Float

from vae_jax import registry
from vae_jax.typing import Images, Indices, Key, PerExample, Pixels

Values = Float[Array, "..."]


class Likelihood(NamedTuple):
    """p(x | z) over pixels, given what the decoder returns.

    `log_prob(parameters, x)` is in nats per image, summed over pixels; `mean(parameters)` is the
    expected image; `sample(parameters, key, index)` draws an image for each example, a function of key and the
    example's index. Parameters are (batch, height, width, channels of an image * `channels` + `shared`):
    for each channel of each pixel its `channels` numbers side by side, then `shared` learned numbers
    that are the same everywhere. `levels` is how many values a pixel may take: 2, 256, or 0 for a density.
    `binarize` names the settings of config.data.binarize under which the likelihood makes sense.
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
    return registry.find("config.likelihood.name", name, __name__, "make")
