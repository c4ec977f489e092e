"""Encoders and decoders as pure functions; the only file that imports flax.

An encoder ends in the mean and the log variance of q(z | x), a decoder in likelihood parameters.
Parameters are float32; `dtype` is what the layers compute in; what they return is float32.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from vae_jax import registry
from vae_jax.typing import Codes, Images, Key, Params, Pixels

ACTIVATIONS = {name: getattr(nn, name) for name in ("relu", "tanh", "gelu", "silu", "elu", "leaky_relu", "softplus")}
DTYPES = {name: jnp.dtype(name) for name in ("float32", "bfloat16")}


class Nets(NamedTuple):
    """A pair of networks: `init(key, image, code) -> params`, `encode(params, x)`, `decode(params, z)`.

    Input widths are those of the image and the code given to `init`.
    """

    init: Callable[[Key, Images, Codes], Params]
    encode: Callable[[Params, Images], tuple[Codes, Codes]]
    decode: Callable[[Params, Codes], Pixels]


class Mlp(nn.Module):
    """Dense layers of the given widths, an activation after each but the last."""

    widths: Sequence[int]
    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        for width in self.widths[:-1]:
            x = self.activation(nn.Dense(width, dtype=self.dtype)(x))
        return nn.Dense(self.widths[-1], dtype=self.dtype)(x)


def _swap(x: Float[Array, "a h w d"]) -> Float[Array, "d h w a"]:
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


def _product(x: Float[Array, "p h w b"], kernel: Float[Array, "p n"]) -> Float[Array, "n h w b"]:
    """The matrix at each place."""
    return (kernel.T @ x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])


def convolve(x: Float[Array, "c h w b"], kernel: Float[Array, "p n"], width: int) -> Float[Array, "n h2 w2 b"]:
    """A convolution of windows of `width` x `width` (2 or 4) at stride 2 with SAME padding, as one matrix product.

    On 2x2 blocks of pixels it is one of stride 1 that reaches 1 or 2 blocks, and `kernel` has its rows in the order
    (block down, block right, pixel down, pixel right, channel). Blocks are shifted before the product or its results
    after it, whichever moves fewer numbers. The batch comes last, so that a CPU moves whole vectors and finds the rows
    of the kernel's gradient as they lie. docs/benchmarks.md holds it against XLA's own convolution, layer by layer, on
    a CPU; not measured on a GPU.
    """
    reach, outputs = width // 2, kernel.shape[1]
    blocks = _blocks(x, reach)
    inputs, (height, breadth) = len(blocks), [size - reach + 1 for size in blocks.shape[1:3]]
    shifts = [(i, j) for i in range(reach) for j in range(reach)]
    if len(shifts) * inputs < inputs + len(shifts) * outputs:
        windows = [blocks[:, i : i + height, j : j + breadth] for i, j in shifts]
        return _product(jnp.concatenate(windows), kernel)
    products = _product(blocks, kernel.reshape(len(shifts), inputs, outputs).swapaxes(0, 1).reshape(inputs, -1))
    parts = jnp.split(products, len(shifts))
    return sum(part[:, i : i + height, j : j + breadth] for part, (i, j) in zip(parts, shifts, strict=True))


def convolve_transposed(
    y: Float[Array, "n h w b"], kernel: Float[Array, "n p"], width: int, size: Sequence[int]
) -> Float[Array, "c h2 w2 b"]:
    """The transpose of `convolve`, whose results have the height and width `size`; `kernel` is transposed too."""
    image = jax.ShapeDtypeStruct((kernel.shape[1] // width**2, *size, y.shape[-1]), y.dtype)
    return jax.linear_transpose(lambda x: convolve(x, kernel.T, width), image)(y)[0]


def halvings(size: int, times: int) -> list[int]:
    """`size` and what is left of it after each stride-2 layer: 28 -> [28, 14, 7, 4, 2]."""
    sizes = [size]
    for _ in range(times):
        sizes.append(-(-sizes[-1] // 2))
    return sizes


class Conv(nn.Module):
    """A convolution of windows of `width` x `width` pixels at stride 2."""

    channels: int
    width: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (self.width**2 * len(x), self.channels))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
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
        x = _swap(x)
        # Checkpoints know them as the dense layers of windows that they are.
        for i, (channels, width) in enumerate(self.layers):
            x = self.activation(Conv(channels, width, self.dtype, name=f"Dense_{i}")(x))
        return Mlp((self.hidden, self.outputs), self.activation, self.dtype)(_swap(x).reshape(x.shape[-1], -1))


class Kernel(nn.Module):
    """The matrix of a layer, by itself."""

    shape: tuple[int, int]
    init: Callable

    @nn.compact
    def __call__(self):
        return self.param("kernel", self.init, self.shape)


class TransposedConv(nn.Module):
    """A transposed 4x4 convolution at stride 2, cut to `size`."""

    channels: int
    size: tuple[int, int]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        # Four windows overlap at each output, which a dense layer's own scaling does not know.
        init = nn.initializers.variance_scaling(1 / 4, "fan_in", "truncated_normal")
        kernel = Kernel((len(x), 16 * self.channels), init, name="Dense_0")()
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
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
        x = _swap(x.reshape(len(x), height, width, self.channels[0]))
        for size, channels in zip(self.sizes[-2::-1], self.channels[1:], strict=True):
            x = TransposedConv(channels, size, self.dtype)(self.activation(x))
        return _swap(x)


class Autoregressive(nn.Module):
    """Dense layers on (z, context) whose output i sees all of the context and z_1 ... z_{i-1}, no other latent."""

    hidden: Sequence[int]
    outputs: int
    activation: Callable

    @nn.compact
    def __call__(self, z, context):
        # A unit of degree d sees the first d latents (Germain et al. 2015, eq. 8 and 9), one of degree 0 the context.
        latents = z.shape[-1]
        seen, x = jnp.arange(1, latents + 1), z
        for i, width in enumerate((*self.hidden, latents * self.outputs)):
            last = i == len(self.hidden)
            degrees = jnp.repeat(jnp.arange(latents), self.outputs) if last else jnp.arange(width) % latents
            kernel = self.param(f"kernel_{i}", nn.initializers.lecun_normal(), (x.shape[-1], width))
            x = nn.Dense(width, name=f"context_{i}")(context) + x @ (kernel * (seen[:, None] <= degrees[None, :]))
            seen, x = degrees, x if last else self.activation(x)
        return x.reshape(len(x), latents, self.outputs)


def _check(activation: str, dtype: str, latent_dim: int, **widths: Sequence[int]) -> tuple[Callable, jnp.dtype]:
    for name, values in {"latent_dim": [latent_dim], **widths}.items():
        if any(not isinstance(value, int) or value < 1 for value in values):
            field = "config.latent_dim" if name == "latent_dim" else f"config.net.{name}"
            raise registry.UserError(f"{field}: {list(values)} is not allowed; give whole numbers of at least 1")
    return (
        registry.choose("config.net.activation", activation, ACTIVATIONS),
        registry.choose("config.net.dtype", dtype, DTYPES),
    )


def _pair(
    encoder: nn.Module, decoder: nn.Module, latent_dim: int, image_parameters: tuple[int, int, int], shared: int
) -> Nets:
    def init(key: Key, image: Images, code: Codes) -> Params:
        encoder_key, decoder_key = jax.random.split(key)
        params = {
            "encoder": encoder.init(encoder_key, image)["params"],
            "decoder": decoder.init(decoder_key, code)["params"],
        }
        return {**params, "shared": jnp.zeros((shared,))} if shared else params

    def encode(params: Params, x: Images) -> tuple[Codes, Codes]:
        outputs = encoder.apply({"params": params["encoder"]}, x).astype(jnp.float32)
        return outputs[:, :latent_dim], outputs[:, latent_dim:]

    def decode(params: Params, z: Codes) -> Pixels:
        outputs = decoder.apply({"params": params["decoder"]}, z).astype(jnp.float32)
        outputs = outputs.reshape(len(z), *image_parameters)
        if not shared:
            return outputs
        everywhere = jnp.broadcast_to(params["shared"].reshape(1, 1, 1, -1), (*outputs.shape[:-1], shared))
        return jnp.concatenate([outputs, everywhere], axis=-1)

    return Nets(init, encode, decode)


class _Flat(nn.Module):
    body: nn.Module

    @nn.compact
    def __call__(self, x):
        return self.body(x.reshape(len(x), -1))


def mlp(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    channels: int,
    shared: int = 0,
    *,
    hidden: tuple[int, ...] = (400,),
    activation: str = "relu",
    dtype: str = "float32",
) -> Nets:
    """Dense layers of widths `hidden` from pixels to the code, and their mirror back.

    `channels` is the likelihood's count of parameters for a channel, `shared` its count of learned
    numbers that are the same everywhere and come as last channels. Raises UserError on bad fields.
    """
    act, compute = _check(activation, dtype, latent_dim, hidden=hidden)
    height, width, colours = image_shape
    encoder = _Flat(Mlp((*hidden, 2 * latent_dim), act, compute))
    decoder = Mlp((*reversed(hidden), height * width * colours * channels), act, compute)
    return _pair(encoder, decoder, latent_dim, (height, width, colours * channels), shared)


def conv(
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
    act, compute = _check(activation, dtype, latent_dim, hidden=[hidden])
    height, width, colours = image_shape
    if min(height, width) < 16:
        raise registry.UserError(
            f"config.net.name: 'conv' halves an image four times and {height}x{width} is too small; use 'mlp'"
        )
    layers = ((32, 4), (32, 4), (64, 2), (64, 2))
    sizes = list(zip(halvings(height, len(layers)), halvings(width, len(layers)), strict=True))
    encoder = ConvEncoder(layers, hidden, 2 * latent_dim, act, compute)
    decoder = ConvDecoder(sizes, (64, 64, 32, 32, colours * channels), hidden, act, compute)
    return _pair(encoder, decoder, latent_dim, (height, width, colours * channels), shared)


class Part(NamedTuple):
    """A network of a variant's own: `init(key, *inputs) -> params`, `apply(params, *inputs) -> outputs`."""

    init: Callable[..., Params]
    apply: Callable[..., Array]


def _part(module: nn.Module) -> Part:
    return Part(
        lambda key, *inputs: module.init(key, *inputs)["params"],
        lambda params, *inputs: module.apply({"params": params}, *inputs),
    )


def dense(*widths: int, activation: Callable = nn.relu) -> Part:
    """Dense layers of the given widths, `activation` after each but the last: (batch, any) -> (batch, widths[-1])."""
    return _part(Mlp(widths, activation, jnp.dtype("float32")))


def autoregressive(*hidden: int, outputs: int, activation: Callable = nn.relu) -> Part:
    """MADE (Germain et al. 2015) with a context: z (batch, latent), context (batch, any) -> (batch, latent, outputs).

    The outputs of latent i are functions of the context and of the latents before i.
    """
    return _part(Autoregressive(hidden, outputs, activation))


def convolutions(*channels: int, hidden: int, outputs: int, activation: Callable = nn.relu) -> Part:
    """4x4 convolutions at stride 2, a dense layer, the outputs: (batch, height, width, any) -> (batch, outputs)."""
    layers = tuple((width, 4) for width in channels)
    return _part(ConvEncoder(layers, hidden, outputs, activation, jnp.dtype("float32")))


NETWORKS = {"mlp": mlp, "conv": conv}


def get(name: str) -> Callable[..., Nets]:
    """The network `name`; call it with shapes and its fields. Raises UserError for an unknown name."""
    return registry.choose("config.net.name", name, NETWORKS)
