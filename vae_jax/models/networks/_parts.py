"""Networks of a variant's own, beside its encoder and decoder."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from vae_jax.models.networks._convolution import ConvEncoder, name_convolutions
from vae_jax.models.networks._layers import Mlp, apply_module
from vae_jax.typing import Key, Params


class Autoregressive(nn.Module):
    """Dense layers on (z, context) whose output i sees all of the context and z_1 ... z_{i-1}, no other latent."""

    hidden: Sequence[int]
    outputs: int
    activation: Callable

    @nn.compact
    def __call__(self, z, context):
        # A unit of degree d sees the first d latents (Germain et al. 2015, eq. 8 and 9), one of degree 0 the context.
        latents = z.shape[-1]
        input_degrees, x = jnp.arange(1, latents + 1), z
        for i, width in enumerate((*self.hidden, latents * self.outputs)):
            last = i == len(self.hidden)
            degrees = jnp.repeat(jnp.arange(latents), self.outputs) if last else jnp.arange(width) % latents
            kernel = self.param(f"kernel_{i}", nn.initializers.lecun_normal(), (x.shape[-1], width), jnp.float32)
            mask = input_degrees[:, None] <= degrees[None, :]
            x = nn.Dense(width, name=f"context_{i}")(context) + x @ (kernel * mask)
            input_degrees, x = degrees, x if last else self.activation(x)
        return x.reshape(len(x), latents, self.outputs)


class Part(NamedTuple):
    """A network of a variant's own: `init(key, *inputs) -> params`, `apply(params, *inputs) -> outputs`."""

    init: Callable[..., Params]
    apply: Callable[..., Array]


def make_part(module: nn.Module, name_layers: Callable[[Params], Params] = dict) -> Part:
    """The pure functions of a flax module; `name_layers` as in `make_nets`."""

    def init(key: Key, *inputs: Array) -> Params:
        return name_layers(module.init(key, *inputs)["params"])

    def apply(params: Params, *inputs: Array) -> Array:
        return apply_module(module, params, *inputs)

    return Part(init, apply)


def dense(*widths: int, activation: Callable = nn.relu, zero_outputs: bool = False) -> Part:
    """Dense layers of the given widths, `activation` after each but the last: (batch, any) -> (batch, widths[-1]).

    With `zero_outputs` the last layer's kernel begins at 0, as its biases do, and so does what the network gives.
    """
    output_init = nn.initializers.zeros_init() if zero_outputs else None
    return make_part(Mlp(widths, activation, jnp.dtype("float32"), output_init=output_init))


def autoregressive(*hidden: int, outputs: int, activation: Callable = nn.relu) -> Part:
    """MADE (Germain et al. 2015) with a context: z (batch, latent), context (batch, any) -> (batch, latent, outputs).

    The outputs of latent i are functions of the context and of the latents before i.
    """
    return make_part(Autoregressive(hidden, outputs, activation))


def convolutions(*channels: int, hidden: int, outputs: int, activation: Callable = nn.relu) -> Part:
    """4x4 convolutions at stride 2, a dense layer, the outputs: (batch, height, width, any) -> (batch, outputs)."""
    layers = tuple((width, 4) for width in channels)
    encoder = ConvEncoder(layers, hidden, outputs, activation, jnp.dtype("float32"))
    return make_part(encoder, name_convolutions)
