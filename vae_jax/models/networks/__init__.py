"""Encoders and decoders as pure functions: a file here is a config's name. The only folder that imports flax.

A file has `make(image_shape, latent_dim, channels, shared=0, **fields) -> Nets`; its fields are the keyword-only
parameters of `make`. Networks of the user's own are a module with such a `make`, chosen by its dotted name; what is
inside is theirs (flax, another library or plain jax.numpy). An encoder ends in the mean and the log variance of
q(z | x), a decoder in likelihood parameters. Parameters are float32; `dtype` is what the layers compute in; what they
return is float32.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from vae_jax import registry
from vae_jax.typing import Codes, Images, Key, Params, Pixels


class Nets(NamedTuple):
    """An encoder and a decoder.

    Attributes:
        init: (key, image, code) -> params; input widths are those of this image and this code, batches of one.
        encode: (params, x) -> (mean, log variance) of q(z | x), (batch, latent) each.
        decode: (params, z) -> the likelihood's parameters, (batch, height, width, numbers of a pixel).
    """

    init: Callable[[Key, Images, Codes], Params]
    encode: Callable[[Params, Images], tuple[Codes, Codes]]
    decode: Callable[[Params, Codes], Pixels]


def get(name: str) -> Callable[..., Nets]:
    """`make` of the network `name`; call it with shapes and its fields. Raises UserError for an unknown name."""
    return registry.find("name", name, __name__, "make")


def defaults(name: str) -> dict[str, Any]:
    """The config section of the network `name`: its name and its fields. Raises UserError for an unknown name."""
    return {"name": name, **registry.keyword_fields(get(name))}
