"""Encoders and decoders as pure functions: a file here is a name in a config. The only folder that imports flax.

A file has `make(image_shape, latent_dim, channels, shared=0, **fields) -> Nets`; its fields are the keyword-only
parameters of `make`. An encoder ends in the mean and the log variance of q(z | x), a decoder in likelihood parameters.
Parameters are float32; `dtype` is what the layers compute in; what they return is float32.
"""

from collections.abc import Callable
from typing import NamedTuple

from vae_jax import registry
from vae_jax.typing import Codes, Images, Key, Params, Pixels


class Nets(NamedTuple):
    """A pair of networks: `init(key, image, code) -> params`, `encode(params, x)`, `decode(params, z)`.

    Input widths are those of the image and the code given to `init`.
    """

    init: Callable[[Key, Images, Codes], Params]
    encode: Callable[[Params, Images], tuple[Codes, Codes]]
    decode: Callable[[Params, Codes], Pixels]


def get(name: str) -> Callable[..., Nets]:
    """`make` of the network `name`; call it with shapes and its fields. Raises UserError for an unknown name."""
    return registry.find("config.net.name", name, __name__, "make")
