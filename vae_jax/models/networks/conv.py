"""The convolutional networks of the disentanglement literature (Locatello et al. 2019, table 1)."""

from vae_jax.errors import UserError
from vae_jax.models.networks import Nets
from vae_jax.models.networks._convolution import ConvDecoder, ConvEncoder, halvings, name_convolutions
from vae_jax.models.networks._layers import check_widths, find_activation, find_dtype, make_nets

LAYERS = ((32, 4), (32, 4), (64, 2), (64, 2))
"""Of the encoder: channels, and the width of the window in pixels; all at stride 2."""


SUITS_TABLES = False
"""It goes by which pixels are neighbours."""


def make(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    channels: int,
    shared: int = 0,
    *,
    hidden: int = 256,
    activation: str = "relu",
    dtype: str = "float32",
) -> Nets:
    """The network of Locatello et al. 2019, table 1, for images of 16 pixels and more.

    Encoder: 32 (4x4), 32 (4x4), 64 (2x2), 64 (2x2), all at stride 2, dense 256. Decoder: dense 256,
    dense to the encoder's last grid (4x4x64 at 64 pixels, 2x2x64 at 28 and 32), transposed 4x4
    convolutions 64, 32, 32 and the image.

    Args:
        image_shape: (height, width, colours).
        latent_dim: how many means and log variances the encoder gives.
        channels: the likelihood's numbers for each channel of a pixel (`Likelihood.channels`).
        shared: its learned numbers that are the same for all pixels, which come as last channels.
        hidden: the width of the dense layer, in the encoder and in the decoder.
        activation: relu, tanh, gelu, silu, elu, leaky_relu or softplus, after each layer but the last.
        dtype: what the layers compute in, float32 or bfloat16; parameters are float32.

    Raises:
        UserError: naming the argument that is not one of these, and on smaller images.
    """
    check_widths(latent_dim=[latent_dim], hidden=[hidden])
    function, compute = find_activation(activation), find_dtype(dtype)
    height, width, colours = image_shape
    if min(height, width) < 16:
        raise UserError(f"name: 'conv' halves an image four times and {height}x{width} is too small; use 'mlp'")
    sizes = list(zip(halvings(height, len(LAYERS)), halvings(width, len(LAYERS)), strict=True))
    encoder = ConvEncoder(LAYERS, hidden, 2 * latent_dim, function, compute)
    decoder = ConvDecoder(sizes, (64, 64, 32, 32, colours * channels), hidden, function, compute)
    shape = (height, width, colours * channels)
    return make_nets(encoder, decoder, latent_dim, shape, shared, name_convolutions)
