"""Encoders and decoders as pure functions: a file here is a config's name. The only folder that imports flax.

A file has `make(image_shape, latent_dim, channels, shared=0, **fields) -> Nets`; its fields are the keyword-only
parameters of `make`. Networks of the user's own are a module with such a `make`, chosen by its dotted name. What is
inside is theirs (flax, another library or plain jax.numpy); `from_linen` and `from_nnx` make networks from two flax
modules, of its older and its newer kind. An encoder ends in the mean and the log variance of q(z | x), a decoder in
likelihood parameters. Parameters are float32; `dtype` is what the layers compute in; what they return is float32.
"""

import sys
from collections.abc import Callable
from typing import Any

from vae_jax import registry
from vae_jax.models.networks._nets import Nets, refuse_collections

__all__ = ["Nets", "defaults", "from_linen", "from_nnx", "get", "refuse_collections", "suits_tables"]


def get(name: str) -> Callable[..., Nets]:
    """`make` of the network `name`; call it with shapes and its fields. Raises UserError for an unknown name."""
    return registry.find("name", name, __name__, "make")


def defaults(name: str) -> dict[str, Any]:
    """The config section of the network `name`: its name and its fields. Raises UserError for an unknown name."""
    return {"name": name, **registry.keyword_fields(get(name))}


def suits_tables(name: str) -> bool:
    """Whether the network `name` may be of a table's rows: not where its file says SUITS_TABLES = False.

    Raises UserError for an unknown name.
    """
    return getattr(sys.modules.get(get(name).__module__), "SUITS_TABLES", True)


def from_linen(
    encoder: Any,
    decoder: Any,
    image_shape: tuple[int, int, int],
    latent_dim: int,
    channels: int,
    shared: int = 0,
) -> Nets:
    """The networks of two flax linen modules: what a `make` of one's own returns (docs/networks.md has an example).

    Args:
        encoder: images (batch, height, width, colours) -> (batch, 2 * latent_dim), means and then log variances.
        decoder: codes (batch, latents) -> height * width * colours * channels numbers for each, in any shape.
        image_shape: (height, width, colours).
        latent_dim: how many means and log variances the encoder gives.
        channels: the likelihood's numbers for each channel of a pixel.
        shared: its learned numbers that are the same for all pixels.

    `init` of the networks raises UserError for a module that keeps more than parameters (BatchNorm), asks for random
    numbers (Dropout) or gives another number of outputs.
    """
    from vae_jax.models.networks import _linen  # brings flax, which whoever reads a config can do without

    return _linen.from_linen(encoder, decoder, image_shape, latent_dim, channels, shared)


def from_nnx(
    encoder: Callable[[Any], Any],
    decoder: Callable[[Any], Any],
    image_shape: tuple[int, int, int],
    latent_dim: int,
    channels: int,
    shared: int = 0,
) -> Nets:
    """The networks of two flax nnx modules: what a `make` of one's own returns (docs/networks.md has an example).

    They are given as functions that build them, so that their first parameters follow from the run's seed.

    Args:
        encoder: nnx.Rngs -> a module, of images (batch, height, width, colours) -> (batch, 2 * latent_dim), means and
            then log variances.
        decoder: nnx.Rngs -> a module, of codes (batch, latents) -> height * width * colours * channels numbers for
            each, in any shape.
        image_shape: (height, width, colours).
        latent_dim: how many means and log variances the encoder gives.
        channels: the likelihood's numbers for each channel of a pixel.
        shared: its learned numbers that are the same for all pixels.

    `init` of the networks raises UserError for a module that keeps more than nnx.Param (BatchNorm), or a stream of
    random numbers (Dropout), or gives another number of outputs.

    Raises:
        UserError: for a module that is already built, in place of a function.
    """
    from vae_jax.models.networks import _nnx  # brings flax, which whoever reads a config can do without

    return _nnx.from_nnx(encoder, decoder, image_shape, latent_dim, channels, shared)
