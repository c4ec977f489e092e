"""Residual blocks with group norm, on images with channels first and the batch last (_convolution.py)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax.models.networks._convolution import Conv, TransposedConv, convolve_3x3, swap_batch
from vae_jax.models.networks._layers import Mlp

EPSILON = 1e-6
LARGEST_GROUPS, SMALLEST_GROUP = 32, 4


def group_count(channels: int) -> int:
    """Into how many equal groups channels go: a power of 2, 32 at most (Wu & He 2018), of 4 channels each at least."""
    count = LARGEST_GROUPS
    while count > 1 and (channels % count or channels // count < SMALLEST_GROUP):
        count //= 2
    return count


def normalize_groups(x: Float[Array, "c h w b"], groups: int) -> Float[Array, "c h w b"]:
    """Mean 0 and variance 1 over the pixels and the channels of each group of each image, in float32."""
    channels, height, width, batch = x.shape
    grouped = x.astype(jnp.float32).reshape(groups, channels // groups, height, width, batch)
    mean = jnp.mean(grouped, axis=(1, 2, 3), keepdims=True)
    variance = jnp.mean(jnp.square(grouped - mean), axis=(1, 2, 3), keepdims=True)
    return ((grouped - mean) * jax.lax.rsqrt(variance + EPSILON)).reshape(x.shape)


class GroupNorm(nn.Module):
    """`normalize_groups`, then a scale and a bias for each channel."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (len(x),), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (len(x),), jnp.float32)
        x = normalize_groups(x, group_count(len(x)))
        return (x * scale.reshape(-1, 1, 1, 1) + bias.reshape(-1, 1, 1, 1)).astype(self.dtype)


class Conv3x3(nn.Module):
    """A 3x3 convolution at stride 1."""

    channels: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (9 * len(x), self.channels), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return convolve_3x3(x, kernel) + bias.reshape(-1, 1, 1, 1)


class Block(nn.Module):
    """x + two 3x3 convolutions of it, each after a norm and an activation (He et al. 2016b, figure 1b)."""

    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        h = x
        for _ in range(2):
            h = Conv3x3(len(x), self.dtype)(self.activation(GroupNorm(self.dtype)(h)))
        return x + h


class ResidualEncoder(nn.Module):
    """A 3x3 convolution; `depth` blocks at each of `widths`, stride-2 4x4 convolutions between; norm, dense layer."""

    widths: Sequence[int]
    depth: int
    outputs: int
    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        x = Conv3x3(self.widths[0], self.dtype)(swap_batch(x))
        for i, width in enumerate(self.widths):
            x = Conv(width, 4, self.dtype)(x) if i else x
            for _ in range(self.depth):
                x = Block(self.activation, self.dtype)(x)
        x = self.activation(GroupNorm(self.dtype)(x))
        return Mlp((self.outputs,), self.activation, self.dtype)(swap_batch(x).reshape(x.shape[-1], -1))


class ResidualDecoder(nn.Module):
    """The encoder's mirror image: from a dense layer at `sizes[-1]` and `widths[-1]` back up to `sizes[0]`."""

    sizes: Sequence[tuple[int, int]]
    widths: Sequence[int]
    depth: int
    channels: int
    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, z):
        (height, breadth), width = self.sizes[-1], self.widths[-1]
        x = Mlp((height * breadth * width,), self.activation, self.dtype)(z)
        x = swap_batch(x.reshape(len(x), height, breadth, width))
        for i in reversed(range(len(self.widths))):
            for _ in range(self.depth):
                x = Block(self.activation, self.dtype)(x)
            x = TransposedConv(self.widths[i - 1], self.sizes[i - 1], self.dtype)(x) if i else x
        x = self.activation(GroupNorm(self.dtype)(x))
        return swap_batch(Conv3x3(self.channels, self.dtype)(x))
