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


def patches(x: Float[Array, "b h w c"], kernel: int) -> Float[Array, "b h2 w2 p"]:
    """What a strided `kernel` x `kernel` window sees at stride 2 with SAME padding, flattened.

    Built from 2x2 blocks and shifts, so that a convolution is one matrix product: XLA's CPU
    convolution is slow, slower inside a scan, and becomes a grouped one when vmapped over weights.
    """
    reach = kernel // 2
    outs = [-(-size // 2) for size in x.shape[1:3]]
    pads = [2 * (out - 1) + kernel - size for out, size in zip(outs, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)))
    b, h, w, c = x.shape
    blocks = x.reshape(b, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(b, h // 2, w // 2, 4 * c)
    shifted = [blocks[:, i : i + outs[0], j : j + outs[1]] for i in range(reach) for j in range(reach)]
    return jnp.concatenate(shifted, axis=-1)


def overlap_add(y: Float[Array, "b h w p"], kernel: int, size: Sequence[int]) -> Float[Array, "b h2 w2 c"]:
    """The transpose of `patches`: windows at stride 2 summed where they overlap, cut to `size`."""
    reach = kernel // 2
    b, h, w, p = y.shape
    windows = y.reshape(b, h, w, reach, reach, p // reach**2)
    blocks = sum(
        jnp.pad(windows[:, :, :, i, j], ((0, 0), (i, reach - 1 - i), (j, reach - 1 - j), (0, 0)))
        for i in range(reach)
        for j in range(reach)
    )
    b, h, w, c = blocks.shape
    x = blocks.reshape(b, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, c // 4)
    start = reach - 1
    return x[:, start : start + size[0], start : start + size[1]]


def halvings(size: int, times: int) -> list[int]:
    """`size` and what is left of it after each stride-2 layer: 28 -> [28, 14, 7, 4, 2]."""
    sizes = [size]
    for _ in range(times):
        sizes.append(-(-sizes[-1] // 2))
    return sizes


class ConvEncoder(nn.Module):
    """Stride-2 convolutions of (channels, kernel), then a dense layer, then the outputs."""

    layers: Sequence[tuple[int, int]]
    hidden: int
    outputs: int
    activation: Callable
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        for channels, kernel in self.layers:
            x = self.activation(nn.Dense(channels, dtype=self.dtype)(patches(x, kernel)))
        return Mlp((self.hidden, self.outputs), self.activation, self.dtype)(x.reshape(len(x), -1))


class TransposedConv(nn.Module):
    """A transposed 4x4 convolution at stride 2, cut to `size`."""

    channels: int
    size: tuple[int, int]
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        # Four windows overlap at each output, which a dense layer's own scaling does not know.
        init = nn.initializers.variance_scaling(1 / 4, "fan_in", "truncated_normal")
        windows = nn.Dense(16 * self.channels, use_bias=False, dtype=self.dtype, kernel_init=init)(x)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return overlap_add(windows, 4, self.size) + bias.astype(self.dtype).reshape(1, 1, 1, -1)


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
        x = x.reshape(len(x), height, width, self.channels[0])
        for size, channels in zip(self.sizes[-2::-1], self.channels[1:], strict=True):
            x = TransposedConv(channels, size, self.dtype)(self.activation(x))
        return x


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
