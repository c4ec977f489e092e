"""The convolutions of a network one by one: ours, XLA's own and PyTorch's, in turn.

    python -m experiments.benchmark.layers --config=configs/dsprites.py --config.data.path=FILE [--torch] [--rounds=7]

Each with both its gradients. Our share of the machine's limit is that of a product of 1024 x 1024 matrices.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmark.pytorch import require_torch
from experiments.benchmark.timing import Workload, measure_rates, median_ratio, run_benchmark
from experiments.benchmark.workloads import square_product
from vae_jax.config.command_line import Parser, whole
from vae_jax.config.parse import checked_config
from vae_jax.errors import UserError
from vae_jax.models.networks import _convolution
from vae_jax.models.networks._convolution import convolve_transposed, halvings
from vae_jax.training import executors
from vae_jax.training.setup import Setup, prepare

REPEATS = 5
"""Times in one measurement."""

Operands = tuple[jax.Array, jax.Array]
"""Images (or what a layer above made of them) and a kernel."""


def main(argv: list[str]) -> int:
    """Times each layer of the config of the command line and prints a table; the exit status."""
    parser = Parser("experiments.benchmark.layers", __doc__, config=True, launcher="python -m")
    parser.flag("rounds", whole(1), 7, "N", "times that everything is measured")
    parser.switch("torch", "adds PyTorch's layers")
    flags, overrides = parser.parse(argv)
    config = checked_config(flags.config, overrides)
    if flags.torch:
        require_torch()
    setup = prepare(config)
    image_shape = setup.dataset.image_shape
    if flags.torch and any(size % 16 for size in image_shape[:2]):
        raise UserError(f"--torch: its layers are compared at multiples of 16 pixels, not {image_shape[:2]}")
    builders = {"ours": own_layer, "lax": lax_layer} | ({"PyTorch": torch_layer} if flags.torch else {})
    batch = config.train.batch_size
    names = " | ".join(f"{name}, ms" for name in builders)
    print(f"| layer, batch {batch} | {names} | ours, share of the matmul rate |")
    print("|---|" + "---|" * (len(builders) + 1))
    product = square_product(executors.local_devices()[:1])
    for layer in layers(setup):
        workloads = {name: build(layer, batch, config.net.dtype) for name, build in builders.items()}
        rates = measure_rates(workloads | {"matmul": product}, flags.rounds)
        share = median_ratio(rates["ours"], rates["matmul"]) * layer.flops(batch)
        cells = [f"{1000 / np.median(rates[name]):.1f}" for name in builders]
        print(f"| {layer.describe()} | {' | '.join(cells)} | {share:.0%} |", flush=True)
    return 0


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
        pixels = math.prod(self.size if self.transposed else self.result)
        return 3 * 2 * batch * pixels * self.width**2 * self.inputs * self.outputs


def layers(setup: Setup) -> list[Layer]:
    """The convolutions of the config's network, in the order of the data. Raises UserError where it has none."""
    if setup.config.net.name != "conv":
        raise UserError(f"config.net.name: {setup.config.net.name!r} has no convolutions; give 'conv'")
    params, image_shape = setup.state_shape.params["nets"], setup.dataset.image_shape
    kernels = [leaf["kernel"].shape for name, leaf in sorted(params["encoder"].items()) if name.startswith("Conv")]
    transposed = [leaf for name, leaf in sorted(params["decoder"].items()) if name.startswith("Transposed")]
    sizes = list(zip(*(halvings(size, len(kernels)) for size in image_shape[:2]), strict=True))
    layers, inputs = [], image_shape[2]
    for (rows, outputs), size, result in zip(kernels, sizes[:-1], sizes[1:], strict=True):
        layers.append(Layer(False, inputs, outputs, math.isqrt(rows // inputs), size, result))
        inputs = outputs
    for part, size, result in zip(transposed, sizes[:0:-1], sizes[-2::-1], strict=True):
        (inputs, columns), (outputs,) = part["Conv_0"]["kernel"].shape, part["bias"].shape
        layers.append(Layer(True, inputs, outputs, math.isqrt(columns // outputs), size, result))
    return layers


def own_layer(layer: Layer, batch: int, dtype: str) -> Workload:
    """Our layer and both its gradients, inside a scan as in training."""
    shape = (layer.inputs * layer.width**2, layer.outputs)
    if layer.transposed:
        shape = (layer.inputs, layer.outputs * layer.width**2)

    def apply(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if layer.transposed:
            return convolve_transposed(x, kernel, layer.width, layer.result)
        return _convolution.convolve(x, kernel, layer.width)

    def scan(x: jax.Array, kernel: jax.Array) -> Operands:
        return jax.lax.scan(lambda operands, _: (_descend(apply, *operands), None), (x, kernel), None, REPEATS)[0]

    return _workload(jax.jit(scan), _operands(dtype, (layer.inputs, *layer.size, batch), shape), calls=1)


def lax_layer(layer: Layer, batch: int, dtype: str) -> Workload:
    """The same by lax's convolutions, dispatched one by one."""
    convolution = jax.lax.conv_transpose if layer.transposed else jax.lax.conv_general_dilated

    def apply(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convolution(x, kernel, (2, 2), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    shape = (layer.width, layer.width, layer.inputs, layer.outputs)
    operands = _operands(dtype, (batch, *layer.size, layer.inputs), shape)
    return _workload(jax.jit(partial(_descend, apply)), operands, calls=REPEATS)


def _operands(dtype: str, image: tuple[int, ...], kernel: tuple[int, ...]) -> Operands:
    draw = np.random.default_rng(0).standard_normal
    return jnp.asarray(draw(image), dtype), jnp.asarray(draw(kernel), dtype)


def _descend(apply: Callable, x: jax.Array, kernel: jax.Array) -> Operands:
    """A small step down the gradients of half the squared results, which uses all that is computed."""
    out, pullback = jax.vjp(apply, x, kernel)
    x_gradient, kernel_gradient = pullback(out)
    return x - 1e-9 * x_gradient, kernel - 1e-9 * kernel_gradient


def _workload(compiled: Callable, operands: Operands, calls: int) -> Workload:
    def run() -> None:
        for _ in range(calls):
            jax.block_until_ready(compiled(*operands))

    run()
    return Workload(run, REPEATS)


def torch_layer(layer: Layer, batch: int, dtype: str) -> Workload:
    """The same by PyTorch, in the layout of its own."""
    import torch

    kind = getattr(torch, dtype)
    build, border = torch.nn.ConvTranspose2d if layer.transposed else torch.nn.Conv2d, layer.width // 2 - 1
    module = build(layer.inputs, layer.outputs, layer.width, 2, border, dtype=kind)
    x = torch.randn(batch, layer.inputs, *layer.size, dtype=kind, requires_grad=True)
    cotangent = torch.randn(batch, layer.outputs, *layer.result, dtype=kind)

    def run() -> None:
        for _ in range(REPEATS):
            module(x).backward(cotangent)

    run()
    return Workload(run, REPEATS)


if __name__ == "__main__":
    run_benchmark(main)
