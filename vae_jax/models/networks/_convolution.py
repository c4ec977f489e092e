"""Convolutions, on a CPU matrix products on blocks of pixels and elsewhere XLA's own, and networks of them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax.models.networks._layers import Mlp
from vae_jax.typing import Params


def swap_batch(x: Float[Array, "a h w d"]) -> Float[Array, "d h w a"]:
    """From the batch first and channels last, as images are, to channels first and the batch last, or back."""
    return x.transpose(3, 1, 2, 0)


def _blocks(x: Float[Array, "c h w b"], reach: int) -> Float[Array, "p h2 w2 b"]:
    """2x2 blocks of pixels, flattened to channels, with the border that SAME padding of a stride-2 window asks for.

    Pixels are split and joined, not transposed: on a CPU, XLA computes a transposition anew in all that uses it,
    number by number, and writes a concatenation out once, in whole vectors; so too for the gradients.
    """
    x = jnp.pad(x, ((0, 0), *((0, size % 2) for size in x.shape[1:3]), (0, 0)))
    c, h, w, b = x.shape
    rows = jnp.split(x.reshape(c, h // 2, 2, w // 2, 2, b), 2, axis=2)
    quarters = [part.reshape(c, h // 2, w // 2, b) for row in rows for part in jnp.split(row, 2, axis=4)]
    if reach == 1:
        return jnp.concatenate(quarters)
    # Windows begin one pixel further up and left, so that what was last in a block is first in the next.
    shifted = [((1 - i, i), (1 - j, j)) for i in range(2) for j in range(2)]
    return jnp.concatenate(
        [jnp.pad(part, ((0, 0), *pads, (0, 0))) for part, pads in zip(quarters[::-1], shifted, strict=True)]
    )


def _multiply(x: Float[Array, "p h w b"], kernel: Float[Array, "p n"]) -> Float[Array, "n h w b"]:
    """The matrix at each position."""
    return (kernel.T @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])


def convolve(x: Float[Array, "c h w b"], kernel: Float[Array, "p n"], width: int) -> Float[Array, "n h2 w2 b"]:
    """A convolution of windows of `width` x `width` (2 or 4) at stride 2 with SAME padding.

    On 2x2 blocks of pixels it is one of stride 1 that reaches 1 or 2 blocks, and `kernel` has its rows in the order
    (block down, block right, pixel down, pixel right, channel). A CPU takes the matrix product of blocks, which
    docs/benchmarks.md holds against XLA's own convolution, layer by layer; a TPU and a GPU take XLA's own. By a v5e's
    compiler a step of dSprites' net then moves a fifth of the bytes (docs/accelerators.md); a GPU was not measured.
    The choice is made when a program is lowered.
    """
    blocks, windows = partial(multiply_blocks, width=width), partial(convolve_windows, width=width)
    return jax.lax.platform_dependent(x, kernel, cpu=blocks, default=windows)


def convolve_windows(x: Float[Array, "c h w b"], kernel: Float[Array, "p n"], width: int) -> Float[Array, "n h2 w2 b"]:
    """`convolve` as XLA's own convolution."""
    reach, channels = width // 2, len(x)
    windows = kernel.reshape(reach, reach, 2, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    windows = windows.reshape(width, width, channels, -1)
    return jax.lax.conv_general_dilated(x, windows, (2, 2), "SAME", dimension_numbers=("CHWN", "HWIO", "CHWN"))


def multiply_blocks(x: Float[Array, "c h w b"], kernel: Float[Array, "p n"], width: int) -> Float[Array, "n h2 w2 b"]:
    """`convolve` as one matrix product.

    Blocks are shifted before the product or its results after it, whichever moves fewer numbers. The batch comes last,
    so that a CPU moves whole vectors and finds the rows of the kernel's gradient as they lie.
    """
    reach, outputs = width // 2, kernel.shape[1]
    blocks = _blocks(x, reach)
    inputs, (height, breadth) = len(blocks), [size - reach + 1 for size in blocks.shape[1:3]]
    shifts = [(i, j) for i in range(reach) for j in range(reach)]
    if len(shifts) * inputs < inputs + len(shifts) * outputs:
        windows = [blocks[:, i : i + height, j : j + breadth] for i, j in shifts]
        return _multiply(jnp.concatenate(windows), kernel)
    products = _multiply(blocks, kernel.reshape(len(shifts), inputs, outputs).swapaxes(0, 1).reshape(inputs, -1))
    parts = jnp.split(products, len(shifts))
    shifted = (part[:, i : i + height, j : j + breadth] for part, (i, j) in zip(parts, shifts, strict=True))
    return cast(Array, sum(shifted))


def convolve_transposed(
    y: Float[Array, "n h w b"], kernel: Float[Array, "n p"], width: int, size: Sequence[int]
) -> Float[Array, "c h2 w2 b"]:
    """The transpose of `convolve`, whose results have the height and width `size`; `kernel` is transposed too."""
    image = jax.ShapeDtypeStruct((kernel.shape[1] // width**2, *size, y.shape[-1]), y.dtype)
    return jax.linear_transpose(lambda x: convolve(x, kernel.T, width), image)(y)[0]


def convolve_3x3(x: Float[Array, "c h w b"], kernel: Float[Array, "p n"]) -> Float[Array, "n h w b"]:
    """A 3x3 convolution at stride 1 with SAME padding, on a CPU as one matrix product, elsewhere as XLA's own.

    `kernel` has its rows in the order (row of the window, column, channel).
    """
    return jax.lax.platform_dependent(x, kernel, cpu=multiply_3x3, default=convolve_3x3_windows)


def convolve_3x3_windows(x: Float[Array, "c h w b"], kernel: Float[Array, "p n"]) -> Float[Array, "n h w b"]:
    """`convolve_3x3` as XLA's own convolution."""
    windows = kernel.reshape(3, 3, len(x), -1)
    return jax.lax.conv_general_dilated(x, windows, (1, 1), "SAME", dimension_numbers=("CHWN", "HWIO", "CHWN"))


@jax.checkpoint
def multiply_3x3(x: Float[Array, "c h w b"], kernel: Float[Array, "p n"]) -> Float[Array, "n h w b"]:
    """`convolve_3x3` as one matrix product.

    The nine shifted images are made again for the gradient: kept, they would be nine times what the layer is given.
    """
    height, breadth = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = [padded[:, i : i + height, j : j + breadth] for i in range(3) for j in range(3)]
    return _multiply(jnp.concatenate(windows), kernel)


def halvings(size: int, times: int) -> list[int]:
    """`size`, and the size after each stride-2 layer: 28 -> [28, 14, 7, 4, 2]."""
    sizes = [size]
    for _ in range(times):
        sizes.append(-(-sizes[-1] // 2))
    return sizes


def _layer_name(module: nn.Module, index: int) -> str:
    """The name of a convolution's parameters: `name_convolutions` gives the second to what is drawn under the first."""
    return f"Dense_{index}" if module.is_initializing() else f"Conv_{index}"


def name_convolutions(params: Params) -> Params:
    """The parameters of a `ConvEncoder` or `ConvDecoder` as initialised, with their convolutions called so.

    flax draws a layer's numbers from its name, and these layers were called dense when that was settled: to draw the
    same numbers they are initialised under the old name. Whatever stands in an `Mlp` is dense.
    """
    if not isinstance(params, dict):
        return params
    return {
        name.replace("Dense", "Conv"): layer if name.startswith("Mlp") else name_convolutions(layer)
        for name, layer in params.items()
    }


class Conv(nn.Module):
    """A convolution of windows of `width` x `width` pixels at stride 2."""

    channels: int
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        kernel = self.param(
            "kernel", nn.initializers.lecun_normal(), (self.width**2 * len(x), self.channels), jnp.float32
        )
        bias = self.param("bias", nn.initializers.zeros, (self.channels,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return convolve(x, kernel, self.width) + bias.reshape(-1, 1, 1, 1)


class ConvEncoder(nn.Module):
    """Stride-2 convolutions of (channels, width), then a dense layer, then the outputs."""

    layers: Sequence[tuple[int, int]]
    hidden: int
    outputs: int
    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        x = swap_batch(x)
        for i, (channels, width) in enumerate(self.layers):
            x = self.activation(Conv(channels, width, self.dtype, name=_layer_name(self, i))(x))
        return Mlp((self.hidden, self.outputs), self.activation, self.dtype)(swap_batch(x).reshape(x.shape[-1], -1))


class Kernel(nn.Module):
    """The matrix of a layer, by itself."""

    shape: tuple[int, int]
    init: Callable

    @nn.compact
    def __call__(self):
        return self.param("kernel", self.init, self.shape, jnp.float32)


class TransposedConv(nn.Module):
    """A transposed 4x4 convolution at stride 2, cut to `size`."""

    channels: int
    size: tuple[int, int]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        # Four windows overlap at each output, which a dense layer's own scaling does not know.
        init = nn.initializers.variance_scaling(1 / 4, "fan_in", "truncated_normal")
        kernel = Kernel((len(x), 16 * self.channels), init, name=_layer_name(self, 0))()
        bias = self.param("bias", nn.initializers.zeros, (self.channels,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return convolve_transposed(x, kernel, 4, self.size) + bias.reshape(-1, 1, 1, 1)


class ConvDecoder(nn.Module):
    """Two dense layers, then stride-2 transposed 4x4 convolutions back up to `sizes[0]`."""

    sizes: Sequence[tuple[int, int]]
    channels: Sequence[int]
    hidden: int
    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, z):
        height, width = self.sizes[-1]
        x = Mlp((self.hidden, height * width * self.channels[0]), self.activation, self.dtype)(z)
        x = swap_batch(x.reshape(len(x), height, width, self.channels[0]))
        for size, channels in zip(self.sizes[-2::-1], self.channels[1:], strict=True):
            x = TransposedConv(channels, size, self.dtype)(self.activation(x))
        return swap_batch(x)
