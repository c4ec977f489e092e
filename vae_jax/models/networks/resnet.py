"""Residual networks with group norm (He et al. 2016, Wu & He 2018): the usual ones for CIFAR-10 and faces."""

from vae_jax.errors import UserError
from vae_jax.models.networks import Nets
from vae_jax.models.networks._convolution import halvings, name_convolutions
from vae_jax.models.networks._layers import check_widths, find_activation, find_dtype, make_nets
from vae_jax.models.networks._residual import ResidualDecoder, ResidualEncoder

SUITS_TABLES = False
"""It goes by which pixels are neighbours."""


def make(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    channels: int,
    shared: int = 0,
    *,
    widths: tuple[int, ...] = (64, 128, 256),
    depth: int = 2,
    activation: str = "silu",
    dtype: str = "float32",
) -> Nets:
    """Residual blocks at several scales, for images of 28 to 128 pixels, and smaller ones with fewer scales.

    Encoder: a 3x3 convolution to widths[0]; at each scale `depth` blocks x + conv(act(norm(conv(act(norm(x)))))) of
    3x3 convolutions; between scales a 4x4 convolution at stride 2; a norm, the activation, a dense layer. The decoder
    is its mirror image, with transposed 4x4 convolutions. Norms are over groups of channels within an image, so an
    image's code does not depend on the rest of its batch.

    Args:
        image_shape: (height, width, colours).
        latent_dim: how many means and log variances the encoder gives.
        channels: the likelihood's numbers for each channel of a pixel (`Likelihood.channels`).
        shared: its learned numbers that are the same for all pixels, which come as last channels.
        widths: the channels at each scale; each scale is half as high and wide as the one before.
        depth: how many blocks there are at each scale, in the encoder and in the decoder.
        activation: relu, tanh, gelu, silu, elu, leaky_relu or softplus, after each norm.
        dtype: what the layers compute in, float32 or bfloat16; parameters and norms are float32.

    Raises:
        UserError: naming the argument that is not one of these, and where there are more scales than the image has.
    """
    check_widths(latent_dim=[latent_dim], widths=widths, depth=[depth])
    function, compute = find_activation(activation), find_dtype(dtype)
    height, width, colours = image_shape
    times = len(widths) - 1
    if times < 0:
        raise UserError("widths: () is not allowed; give the channels of one scale at least, as in (64, 128, 256)")
    if min(height, width) < 2 ** (times + 1):
        raise UserError(
            f"widths: {tuple(widths)} halves an image {times} times and {height}x{width} is too small; give fewer"
        )
    sizes = list(zip(halvings(height, times), halvings(width, times), strict=True))
    encoder = ResidualEncoder(widths, depth, 2 * latent_dim, function, compute)
    decoder = ResidualDecoder(sizes, widths, depth, colours * channels, function, compute)
    return make_nets(encoder, decoder, latent_dim, (height, width, colours * channels), shared, name_convolutions)
