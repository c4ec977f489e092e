"""Convolutions whose latents stay on a grid: the encoder and the decoder of the VQ-VAE (van den Oord et al. 2017)."""

from vae_jax.errors import UserError
from vae_jax.models.networks import Nets
from vae_jax.models.networks._convolution import halvings as sizes_after
from vae_jax.models.networks._convolution import name_convolutions
from vae_jax.models.networks._grid import GridDecoder, GridEncoder
from vae_jax.models.networks._layers import check_widths, find_activation, find_dtype, make_nets

SUITS_TABLES = False
"""It goes by which pixels are neighbours."""


def make(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    channels: int,
    shared: int = 0,
    *,
    halvings: int = 2,
    width: int = 128,
    depth: int = 2,
    activation: str = "relu",
    dtype: str = "float32",
) -> Nets:
    """Latents on a grid, for images of any size: 8x8 places for 32 pixels, 7x7 for 28 (van den Oord et al. 2017, 4.1).

    Encoder: 4x4 convolutions at stride 2; `depth` blocks x + conv1x1(act(conv3x3(act(x)))); at each place a dense
    layer. The decoder is its mirror image, with transposed 4x4 convolutions; its first layer is a 3x3 convolution.
    No layer sees the whole image: a code depends on the pixels around its place, and changes only pixels around it.

    Latents lie place by place, row by row, the numbers of a place side by side: with the variant `vq`, `latent_dim`
    = height * breadth * `variant.dim` of the grid gives a code to each place. Latents that are left over after dividing
    among the places, and what a variant gives the decoder beside them (a label), describe the whole image.

    Args:
        image_shape: (height, width, colours).
        latent_dim: how many means and log variances the encoder gives; at least one for each place.
        channels: the likelihood's numbers for each channel of a pixel (`Likelihood.channels`).
        shared: its learned numbers that are the same for all pixels, which come as last channels.
        halvings: how many times the image is halved; the grid is as large as what is left.
        width: the channels of each convolution; the paper's 256.
        depth: how many blocks there are in the encoder and in the decoder.
        activation: relu, tanh, gelu, silu, elu, leaky_relu or softplus, before each layer but the first.
        dtype: what the layers compute in, float32 or bfloat16; parameters are float32.

    Raises:
        UserError: naming the argument that is not one of these, and where there are fewer latents than places.
    """
    check_widths(latent_dim=[latent_dim], halvings=[halvings], width=[width], depth=[depth])
    function, compute = find_activation(activation), find_dtype(dtype)
    height, breadth, colours = image_shape
    if min(height, breadth) < 2**halvings:
        raise UserError(f"halvings: {halvings} is not allowed, {height}x{breadth} is too small; give fewer")
    sizes = list(zip(sizes_after(height, halvings), sizes_after(breadth, halvings), strict=True))
    places = sizes[-1][0] * sizes[-1][1]
    if latent_dim < places:
        raise UserError(
            f"name: 'grid' has {sizes[-1][0]}x{sizes[-1][1]} places for {height}x{breadth} images and {latent_dim} "
            f"latents are too few; give a latent_dim of {places} times the numbers of a place, or more halvings"
        )
    encoder = GridEncoder(halvings, width, depth, latent_dim, function, compute)
    decoder = GridDecoder(sizes, width, depth, latent_dim, colours * channels, function, compute)
    shape = (height, breadth, colours * channels)
    return make_nets(encoder, decoder, latent_dim, shape, shared, name_convolutions)
