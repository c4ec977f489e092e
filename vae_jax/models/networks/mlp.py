"""Dense networks: fully connected layers from the pixels to the code, and their mirror image back."""

from functools import partial

from flax import linen as nn

from vae_jax import registry
from vae_jax.models.networks import Nets
from vae_jax.models.networks._layers import (
    INITS,
    NORMS,
    Mlp,
    check_widths,
    find_activation,
    find_dtype,
    make_nets,
)


class Flat(nn.Module):
    """`body` of each image as one row of numbers."""

    body: nn.Module

    @nn.compact
    def __call__(self, x):
        return self.body(x.reshape(len(x), -1))


def make(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    channels: int,
    shared: int = 0,
    *,
    hidden: tuple[int, ...] = (400,),
    activation: str = "relu",
    dtype: str = "float32",
    norm: str = "none",
    gated: bool = False,
    init: str = "lecun",
) -> Nets:
    """Dense layers of widths `hidden` from pixels to the code, and their mirror back; 400 are Kingma & Welling's.

    Args:
        image_shape: (height, width, colours).
        latent_dim: how many means and log variances the encoder gives.
        channels: the likelihood's numbers for each channel of a pixel (`Likelihood.channels`).
        shared: its learned numbers that are the same for all pixels, which come as last channels.
        hidden: the widths between pixels and code; () for linear maps.
        activation: relu, tanh, gelu, silu, elu, leaky_relu or softplus, after each layer but the last.
        dtype: what the layers compute in, float32 or bfloat16; parameters are float32.
        norm: "layer" normalises each layer but the last before its activation (Ba et al. 2016); "none".
        gated: each layer but the last is (Wx + b) * sigmoid(Vx + c), and has no activation (Dauphin et al. 2017, eq. 1;
            Tomczak & Welling 2018); a norm is of Wx + b.
        init: how kernels begin: "lecun", normal of variance 1 / inputs, or "glorot", uniform of variance
            2 / (inputs + outputs) (Glorot & Bengio 2010, eq. 16).

    Raises:
        UserError: naming the argument that is not one of these.
    """
    check_widths(latent_dim=[latent_dim], hidden=hidden)
    function, compute = find_activation(activation), find_dtype(dtype)
    height, width, colours = image_shape
    kernel_init = registry.choose("init", init, INITS)
    layer_norm = registry.choose("norm", norm, NORMS)
    layers = partial(Mlp, layer_norm=layer_norm, gated=gated, kernel_init=kernel_init)
    encoder = Flat(layers((*hidden, 2 * latent_dim), function, compute))
    decoder = layers((*reversed(hidden), height * width * colours * channels), function, compute)
    return make_nets(encoder, decoder, latent_dim, (height, width, colours * channels), shared)
