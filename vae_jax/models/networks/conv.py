"""Convolutional networks."""

from vae_jax.errors import UserError
from vae_jax.models.networks import Nets
from vae_jax.models.networks._convolution import ConvDecoder, ConvEncoder, halvings
from vae_jax.models.networks._layers import check_fields, pair


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
    convolutions 64, 32, 32 and the image. Raises UserError on bad fields and on smaller images.
    """
    act, compute = check_fields(activation, dtype, latent_dim, hidden=[hidden])
    height, width, colours = image_shape
    if min(height, width) < 16:
        raise UserError(
            f"config.net.name: 'conv' halves an image four times and {height}x{width} is too small; use 'mlp'"
        )
    layers = ((32, 4), (32, 4), (64, 2), (64, 2))
    sizes = list(zip(halvings(height, len(layers)), halvings(width, len(layers)), strict=True))
    encoder = ConvEncoder(layers, hidden, 2 * latent_dim, act, compute)
    decoder = ConvDecoder(sizes, (64, 64, 32, 32, colours * channels), hidden, act, compute)
    return pair(encoder, decoder, latent_dim, (height, width, colours * channels), shared)
