"""Dense layers, and what every encoder and decoder is made with."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from vae_jax import registry
from vae_jax.errors import UserError
from vae_jax.models.networks._nets import Nets
from vae_jax.typing import Codes, Images, Key, Params, Pixels

ACTIVATIONS = {name: getattr(nn, name) for name in ("relu", "tanh", "gelu", "silu", "elu", "leaky_relu", "softplus")}
DTYPES = {name: jnp.dtype(name) for name in ("float32", "bfloat16")}
INITS = {"lecun": nn.initializers.lecun_normal(), "glorot": nn.initializers.glorot_uniform()}
NORMS = {"none": False, "layer": True}


@runtime_checkable
class Module(Protocol):
    """What networks are made of: a flax linen module, or another under the same two functions."""

    @property
    def init(self) -> Callable[..., Any]:
        """(key, *inputs) -> {"params": the parameters for inputs like these}."""

    @property
    def apply(self) -> Callable[..., Any]:
        """({"params": parameters}, *inputs) -> the outputs."""


class Mlp(nn.Module):
    """Dense layers of the given widths, an activation after each but the last.

    Attributes:
        widths: of the layers.
        activation: after each but the last.
        dtype: what the layers compute in.
        layer_norm: whether each but the last is normalised before its activation (Ba et al. 2016).
        gated: whether each but the last is (Wx + b) * sigmoid(Vx + c) in place of an activation.
        kernel_init: how kernels begin.
        output_init: how the last layer's begins; None as the others'.
    """

    widths: Sequence[int]
    activation: Callable
    dtype: jnp.dtype
    layer_norm: bool = False
    gated: bool = False
    kernel_init: Callable = INITS["lecun"]
    output_init: Callable | None = None

    @nn.compact
    def __call__(self, x):
        for i, width in enumerate(self.widths[:-1]):
            h = self.dense(width)(x)
            h = nn.LayerNorm(dtype=self.dtype)(h) if self.layer_norm else h
            x = h * nn.sigmoid(self.dense(width, f"Gate_{i}")(x)) if self.gated else self.activation(h)
        return self.dense(self.widths[-1], kernel_init=self.output_init)(x)

    def dense(self, width: int, name: str | None = None, kernel_init: Callable | None = None) -> nn.Dense:
        """A layer of `width`, its kernel as `kernel_init` or, without one, as all."""
        return nn.Dense(width, dtype=self.dtype, kernel_init=kernel_init or self.kernel_init, name=name)


def apply_module(module: Module, params: Params, *inputs: Array) -> Array:
    """What a module gives; without collections that change it is one array."""
    return cast(Array, module.apply({"params": params}, *inputs))


def find_activation(name: str) -> Callable:
    """The activation function `name`. Raises UserError for an unknown name."""
    return registry.choose("activation", name, ACTIVATIONS)


def find_dtype(name: str) -> jnp.dtype:
    """What layers compute in. Raises UserError for an unknown name."""
    return registry.choose("dtype", name, DTYPES)


def check_widths(**widths: Sequence[int]) -> None:
    """Raises UserError for an argument whose numbers are not all whole and at least 1."""
    for name, values in widths.items():
        if any(not isinstance(value, int) or value < 1 for value in values):
            raise UserError(f"{name}: {list(values)} is not allowed; give whole numbers of at least 1")


def make_nets(
    encoder: Module,
    decoder: Module,
    latent_dim: int,
    parameter_shape: tuple[int, int, int],
    shared: int,
    name_layers: Callable[[Params], Params] = dict,
) -> Nets:
    """The pure functions of two modules.

    Args:
        encoder: images -> (batch, 2 * latent_dim), means and then log variances.
        decoder: codes -> (batch, numbers), which are those of `parameter_shape`.
        latent_dim: how many means and log variances there are.
        parameter_shape: (height, width, numbers of a pixel) of what the likelihood reads, without the shared ones.
        shared: how many learned numbers are added as last channels, the same for all pixels, 0 at the start.
        name_layers: the tree of a module as it is initialised -> as it is kept and applied.
    """

    def init(key: Key, image: Images, code: Codes) -> Params:
        encoder_key, decoder_key = jax.random.split(key)
        params = {
            "encoder": name_layers(encoder.init(encoder_key, image)["params"]),
            "decoder": name_layers(decoder.init(decoder_key, code)["params"]),
        }
        return {**params, "shared": jnp.zeros((shared,), jnp.float32)} if shared else params

    def encode(params: Params, x: Images) -> tuple[Codes, Codes]:
        outputs = apply_module(encoder, params["encoder"], x).astype(jnp.float32)
        return outputs[:, :latent_dim], outputs[:, latent_dim:]

    def decode(params: Params, z: Codes) -> Pixels:
        outputs = apply_module(decoder, params["decoder"], z).astype(jnp.float32)
        outputs = outputs.reshape(len(z), *parameter_shape)
        if not shared:
            return outputs
        tiled = jnp.broadcast_to(params["shared"].reshape(1, 1, 1, -1), (*outputs.shape[:-1], shared))
        return jnp.concatenate([outputs, tiled], axis=-1)

    return Nets(init, encode, decode)
