"""Dense layers, and what every pair of networks is made with."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from vae_jax import registry
from vae_jax.errors import UserError
from vae_jax.models.networks import Nets
from vae_jax.typing import Codes, Images, Key, Params, Pixels

ACTIVATIONS = {name: getattr(nn, name) for name in ("relu", "tanh", "gelu", "silu", "elu", "leaky_relu", "softplus")}


DTYPES = {name: jnp.dtype(name) for name in ("float32", "bfloat16")}


class Mlp(nn.Module):
    """Dense layers of the given widths, an activation after each but the last."""

    widths: Sequence[int]
    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        for width in self.widths[:-1]:
            x = self.activation(nn.Dense(width, dtype=self.dtype)(x))
        return nn.Dense(self.widths[-1], dtype=self.dtype)(x)


def check_fields(activation: str, dtype: str, latent_dim: int, **widths: Sequence[int]) -> tuple[Callable, jnp.dtype]:
    for name, values in {"latent_dim": [latent_dim], **widths}.items():
        if any(not isinstance(value, int) or value < 1 for value in values):
            field = "config.latent_dim" if name == "latent_dim" else f"config.net.{name}"
            raise UserError(f"{field}: {list(values)} is not allowed; give whole numbers of at least 1")
    return (
        registry.choose("config.net.activation", activation, ACTIVATIONS),
        registry.choose("config.net.dtype", dtype, DTYPES),
    )


def pair(
    encoder: nn.Module, decoder: nn.Module, latent_dim: int, image_parameters: tuple[int, int, int], shared: int
) -> Nets:
    def init(key: Key, image: Images, code: Codes) -> Params:
        encoder_key, decoder_key = jax.random.split(key)
        params = {
            "encoder": encoder.init(encoder_key, image)["params"],
            "decoder": decoder.init(decoder_key, code)["params"],
        }
        return {**params, "shared": jnp.zeros((shared,))} if shared else params

    def encode(params: Params, x: Images) -> tuple[Codes, Codes]:
        outputs = encoder.apply({"params": params["encoder"]}, x).astype(jnp.float32)
        return outputs[:, :latent_dim], outputs[:, latent_dim:]

    def decode(params: Params, z: Codes) -> Pixels:
        outputs = decoder.apply({"params": params["decoder"]}, z).astype(jnp.float32)
        outputs = outputs.reshape(len(z), *image_parameters)
        if not shared:
            return outputs
        everywhere = jnp.broadcast_to(params["shared"].reshape(1, 1, 1, -1), (*outputs.shape[:-1], shared))
        return jnp.concatenate([outputs, everywhere], axis=-1)

    return Nets(init, encode, decode)
