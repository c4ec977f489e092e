"""What is timed: dispatches of compiled train steps, and matrix products that bound them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.benchmark.timing import Workload, seconds
from vae_jax import data, randomness
from vae_jax.models.networks import _convolution
from vae_jax.training.executors import Executor
from vae_jax.training.loop import CompiledProgram, compile_program
from vae_jax.training.setup import Setup
from vae_jax.training.step import TrainState

CONVOLUTIONS: dict[str, dict[str, Callable]] = {
    "windows": {
        "multiply_blocks": _convolution.convolve_windows,
        "multiply_3x3": _convolution.convolve_3x3_windows,
    },
    "blocks": {
        "convolve_windows": _convolution.multiply_blocks,
        "convolve_3x3_windows": _convolution.multiply_3x3,
    },
}
"""What takes the place of a function of vae_jax/models/networks/_convolution.py: every device then takes that kind."""


@dataclass
class Training:
    """Compiled train steps and the state that they take on; `arguments` are what every call has beside it."""

    program: CompiledProgram
    state: TrainState
    arguments: tuple

    def compile(self) -> None:
        """Lowers and compiles one call."""
        self.program.steps.lower(self.program.split, self.state, *self.arguments).compile()

    def dispatch(self) -> None:
        """Makes the steps of one call and waits for them."""
        self.state, _ = self.program.steps(self.program.split, self.state, *self.arguments)
        jax.block_until_ready(self.state)


def make_training(setup: Setup, configs: Sequence[ConfigDict], executor: Executor) -> Training:
    """The train steps of these runs, not compiled yet, their first states and the arguments of one dispatch."""
    program = compile_program(setup, configs, executor)
    states = [jax.device_get(setup.initial_state(randomness.root_key(config.seed))) for config in configs]
    steps, batch, size = setup.config.train.dispatch, setup.config.train.batch_size, setup.dataset.train.size
    streams = np.stack([data.index_stream(config.seed, 0, steps, size, batch) for config in configs])
    arguments = (streams, program.key, program.hyper, np.ones(len(configs), bool))
    return Training(program, executor.to_devices(states), arguments)


def train_steps(setup: Setup, configs: Sequence[ConfigDict], executor: Executor) -> tuple[Workload, float]:
    """One dispatch of the train steps of these runs, in images of all together, and the seconds of compiling it."""
    training = make_training(setup, configs, executor)
    compile_seconds = seconds(training.compile)
    training.dispatch()
    images = len(configs) * setup.config.train.dispatch * setup.config.train.batch_size
    return Workload(training.dispatch, images), compile_seconds


def widest_layer(setup: Setup, devices: list[jax.Device]) -> Workload:
    """The batch through the widest dense layer and back, in FLOPs: this network's own limit."""
    config, params = setup.config, setup.state_shape.params
    rows, columns = max((leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim == 2), key=np.prod)
    batch, dtype = config.train.batch_size // len(devices), jnp.dtype(config.net.dtype)
    weights, x = jnp.full((rows, columns), 1 / rows, dtype), jnp.ones((len(devices), batch, rows), dtype)

    def forward_and_back(x: jax.Array, weights: jax.Array) -> jax.Array:
        return (x @ weights) @ weights.T

    return _repeated(forward_and_back, x, weights, devices, 50, 4 * batch * rows * columns)


def square_product(devices: list[jax.Device]) -> Workload:
    """A product of two 1024 x 1024 float32 matrices, in FLOPs: the usual yardstick of a machine."""
    size = 1024
    x, weights = jnp.ones((len(devices), size, size)), jnp.full((size, size), 1 / size)
    return _repeated(jnp.matmul, x, weights, devices, 5, 2 * size**3)


def _repeated(
    product: Callable, x: jax.Array, weights: jax.Array, devices: list[jax.Device], repeats: int, flops: float
) -> Workload:
    """`product` over and over on each device; `flops` are those of one."""

    def chain(x: jax.Array, weights: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, _: (product(x, weights), None), x, None, length=repeats)[0]

    compiled = jax.pmap(chain, in_axes=(0, None), devices=devices)

    def run() -> None:
        jax.block_until_ready(compiled(x, weights))

    run()
    return Workload(run, repeats * len(devices) * flops)
