"""The convolutions of a network one by one: ours, XLA's own and PyTorch's, in turn.

python -m experiments.benchmark --config=configs/dsprites.py --config.data.path=FILE --layers [--torch]
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.benchmark.__main__ import Work, in_turn, square_matmul
from experiments.benchmark.pytorch import require
from vae_jax import model
from vae_jax.errors import UserError
from vae_jax.models.networks import _convolution
from vae_jax.models.networks._convolution import convolve_transposed, halvings
from vae_jax.training import executors
from vae_jax.training.step import initial_state

REPEATS = 5
"""Times in one measurement."""


class Layer(NamedTuple):
    """A convolution at stride 2, or its transpose: from `inputs` channels on `size` to `outputs` on `result`."""

    transposed: bool
    inputs: int
    outputs: int
    width: int
    size: tuple[int, int]
    result: tuple[int, int]

    def describe(self) -> str:
        """Its row's name in the table."""
        name = "transposed" if self.transposed else "conv"
        return f"{name} {self.width}x{self.width} {self.inputs}->{self.outputs} at {self.size[0]}x{self.size[1]}"

    def flops(self, batch: int) -> float:
        """Of the layer and both its gradients, by the definition of a convolution."""
        places = math.prod(self.size if self.transposed else self.result)
        return 3 * 2 * batch * places * self.width**2 * self.inputs * self.outputs


def layers(config: ConfigDict, built: model.Model, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The convolutions of the config's network, in the order of the data. Raises UserError where it has none."""
    if config.net.name != "conv":
        raise UserError(f"--layers: config.net.name {config.net.name!r} has no convolutions; it is for 'conv'")
    params = jax.eval_shape(lambda: initial_state(built, config, image_shape)).params["nets"]
    down = [leaf["kernel"].shape for name, leaf in sorted(params["encoder"].items()) if name.startswith("Dense")]
    up = [leaf for name, leaf in sorted(params["decoder"].items()) if name.startswith("Transposed")]
    sizes = list(zip(*(halvings(size, len(down)) for size in image_shape[:2]), strict=True))
    found, inputs = [], image_shape[2]
    for (rows, outputs), size, result in zip(down, sizes[:-1], sizes[1:], strict=True):
        found.append(Layer(False, inputs, outputs, math.isqrt(rows // inputs), size, result))
        inputs = outputs
    for part, size, result in zip(up, sizes[:0:-1], sizes[-2::-1], strict=True):
        (inputs, columns), (outputs,) = part["Dense_0"]["kernel"].shape, part["bias"].shape
        found.append(Layer(True, inputs, outputs, math.isqrt(columns // outputs), size, result))
    return found


def ours(layer: Layer, batch: int, dtype: str) -> Callable[[], None]:
    """Our layer and both its gradients, inside a scan as in training."""
    if layer.transposed:
        kernel = (layer.inputs, layer.outputs * layer.width**2)
        apply = lambda x, k: convolve_transposed(x, k, layer.width, layer.result)  # noqa: E731
    else:
        kernel = (layer.inputs * layer.width**2, layer.outputs)
        apply = lambda x, k: _convolution.convolve(x, k, layer.width)  # noqa: E731
    x, kernel = _operands(dtype, (layer.inputs, *layer.size, batch), kernel)
    scan = lambda *operands: jax.lax.scan(_descend(apply), operands, None, length=REPEATS)[0]  # noqa: E731
    return _called(jax.jit(scan), x, kernel, 1)


def of_xla(layer: Layer, batch: int, dtype: str) -> Callable[[], None]:
    """The same by lax's convolutions, dispatched one by one."""
    common = {"padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    convolve = jax.lax.conv_transpose if layer.transposed else jax.lax.conv_general_dilated
    shape = (layer.width, layer.width, layer.inputs, layer.outputs)
    x, kernel = _operands(dtype, (batch, *layer.size, layer.inputs), shape)
    step = _descend(lambda x, k: convolve(x, k, (2, 2), **common))
    return _called(jax.jit(lambda *operands: step(operands, None)[0]), x, kernel, REPEATS)


def _operands(dtype: str, *shapes: tuple[int, ...]) -> list[jax.Array]:
    draw = np.random.default_rng(0).standard_normal
    return [jnp.asarray(draw(shape), dtype) for shape in shapes]


def _descend(apply: Callable) -> Callable:
    """A small step down the gradients of half the squared results, which uses all that is computed."""

    def step(operands, _):
        out, back = jax.vjp(apply, *operands)
        return jax.tree.map(lambda a, b: a - 1e-9 * b, operands, back(out)), None

    return step


def _called(compiled: Callable, x: jax.Array, kernel: jax.Array, times: int) -> Callable[[], None]:
    def call():
        for _ in range(times):
            jax.block_until_ready(compiled(x, kernel))

    call()
    return call


def of_torch(layer: Layer, batch: int, dtype: str) -> Callable[[], None]:
    """The same by PyTorch, in the layout of its own."""
    import torch

    kind = getattr(torch, dtype)
    build, border = torch.nn.ConvTranspose2d if layer.transposed else torch.nn.Conv2d, layer.width // 2 - 1
    module = build(layer.inputs, layer.outputs, layer.width, 2, border, dtype=kind)
    x = torch.randn(batch, layer.inputs, *layer.size, dtype=kind, requires_grad=True)
    cotangent = torch.randn(batch, layer.outputs, *layer.result, dtype=kind)

    def call():
        for _ in range(REPEATS):
            module(x).backward(cotangent)

    call()
    return call


def table(config: ConfigDict, built: model.Model, image_shape: tuple[int, int, int], rounds: int, torch: bool) -> None:
    """Prints milliseconds of each layer with both its gradients, and ours as a share of the float32 matmul rate."""
    batch, found = config.train.batch_size, layers(config, built, image_shape)
    if torch:
        require()
    if torch and any(size % 16 for size in image_shape[:2]):
        raise UserError(f"--torch: its layers are compared at multiples of 16 pixels, not {image_shape[:2]}")
    columns = {"ours": ours, "lax": of_xla} | ({"PyTorch": of_torch} if torch else {})
    print(
        f"| layer, batch {batch} | {' | '.join(f'{name}, ms' for name in columns)} | ours, share of the matmul rate |"
    )
    print("|---|" + "---|" * (len(columns) + 1))
    matmul = square_matmul(executors.local_devices()[:1])
    for layer in found:
        timed = {name: Work(build(layer, batch, config.net.dtype), REPEATS, "calls") for name, build in columns.items()}
        rates = in_turn(timed | {"matmul": matmul}, rounds)
        share = np.median(np.asarray(rates["ours"]) / np.asarray(rates["matmul"])) * layer.flops(batch)
        cells = [f"{1000 / np.median(rates[name]):.1f}" for name in columns]
        print(f"| {layer.describe()} | {' | '.join(cells)} | {share:.0%} |", flush=True)
