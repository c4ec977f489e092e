"""The network of `conv` as one would write it with flax: what its convolutions are held against on a TPU."""

from typing import Any

from flax import linen as nn

from vae_jax.models.networks import from_linen

HIDDEN = 8
"""As the tests have it of `conv`."""


class Encoder(nn.Module):
    """Four convolutions at stride 2 and two dense layers."""

    outputs: int

    @nn.compact
    def __call__(self, x) -> Any:
        for channels, width in ((32, 4), (32, 4), (64, 2), (64, 2)):
            x = nn.relu(nn.Conv(channels, (width, width), (2, 2))(x))
        return nn.Dense(self.outputs)(nn.relu(nn.Dense(HIDDEN)(x.reshape(len(x), -1))))


class Decoder(nn.Module):
    """Two dense layers and four transposed convolutions at stride 2."""

    @nn.compact
    def __call__(self, z) -> Any:
        x = nn.relu(nn.Dense(64)(nn.relu(nn.Dense(HIDDEN)(z)))).reshape(len(z), 1, 1, 64)
        for channels in (64, 32, 32):
            x = nn.relu(nn.ConvTranspose(channels, (4, 4), (2, 2))(x))
        return nn.ConvTranspose(1, (4, 4), (2, 2))(x)


def make(image_shape, latent_dim, channels, shared=0):
    """The networks for images of 16x16x1."""
    return from_linen(Encoder(2 * latent_dim), Decoder(), image_shape, latent_dim, channels, shared)
