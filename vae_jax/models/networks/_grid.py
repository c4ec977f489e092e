"""Convolutions that keep a grid of latents, on images with channels first and the batch last (_convolution.py)."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax.models.networks._convolution import Conv, TransposedConv, swap_batch
from vae_jax.models.networks._layers import Mlp
from vae_jax.models.networks._residual import Conv3x3
from vae_jax.typing import Codes


class Conv1x1(nn.Module):
    """The same dense layer at each position."""

    channels: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (len(x), self.channels), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return jnp.tensordot(kernel.T, x, 1) + bias.reshape(-1, 1, 1, 1)


class LocalBlock(nn.Module):
    """x + a 1x1 convolution of a 3x3 one, an activation before each and no norm: a position sees its neighbours."""

    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        h = Conv3x3(len(x), self.dtype)(self.activation(x))
        return x + Conv1x1(len(x), self.dtype)(self.activation(h))


def to_codes(x: Float[Array, "c h w b"]) -> Codes:
    """The numbers of each position side by side, positions row by row."""
    images = swap_batch(x)
    return images.reshape(len(images), -1)


class GridEncoder(nn.Module):
    """Stride-2 4x4 convolutions, blocks, and at each position the numbers of `latents` that fall to it.

    What is left of the latents, fewer than there are positions, describes the image as a whole: dense, of the mean over
    positions.
    """

    halvings: int
    width: int
    depth: int
    latents: int
    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        x = swap_batch(x)
        for i in range(self.halvings):
            x = Conv(self.width, 4, self.dtype)(self.activation(x) if i else x)
        for _ in range(self.depth):
            x = LocalBlock(self.activation, self.dtype)(x)
        x = self.activation(x)
        each, rest = divmod(self.latents, x.shape[1] * x.shape[2])
        mean, logvar = jnp.split(Conv1x1(2 * each, self.dtype)(x), 2)
        if not rest:
            return jnp.concatenate([to_codes(mean), to_codes(logvar)], axis=1)
        whole = Mlp((2 * rest,), self.activation, self.dtype)(jnp.mean(x, axis=(1, 2)).T)
        return jnp.concatenate([to_codes(mean), whole[:, :rest], to_codes(logvar), whole[:, rest:]], axis=1)


class GridDecoder(nn.Module):
    """The encoder's mirror image: numbers go to their positions, those of the image as a whole to all."""

    sizes: Sequence[tuple[int, int]]
    width: int
    depth: int
    latents: int
    channels: int
    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, z):
        height, breadth = self.sizes[-1]
        each = min(self.latents, z.shape[1]) // (height * breadth)
        local, whole = jnp.split(z, [each * height * breadth], axis=1)
        tiled = jnp.broadcast_to(whole[:, None, None], (len(z), height, breadth, whole.shape[1]))
        x = jnp.concatenate([local.reshape(len(z), height, breadth, each), tiled], axis=-1)
        x = Conv3x3(self.width, self.dtype)(swap_batch(x))
        for _ in range(self.depth):
            x = LocalBlock(self.activation, self.dtype)(x)
        for i, size in enumerate(self.sizes[-2::-1], start=2):
            channels = self.channels if i == len(self.sizes) else self.width
            x = TransposedConv(channels, size, self.dtype)(self.activation(x))
        return swap_batch(x)
