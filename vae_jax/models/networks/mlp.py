"""Dense networks: fully connected layers from the pixels to the code, and their mirror image back."""

from flax import linen as nn

from vae_jax.models.networks import Nets
from vae_jax.models.networks._layers import Mlp, check_widths, find_activation, find_dtype, make_nets


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

    Raises:
        UserError: naming the argument that is not one of these.
    """
    check_widths(latent_dim=[latent_dim], hidden=hidden)
    function, compute = find_activation(activation), find_dtype(dtype)
    height, width, colours = image_shape
    encoder = Flat(Mlp((*hidden, 2 * latent_dim), function, compute))
    decoder = Mlp((*reversed(hidden), height * width * colours * channels), function, compute)
    return make_nets(encoder, decoder, latent_dim, (height, width, colours * channels), shared)
