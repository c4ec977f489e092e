"""What a train step takes on a TPU that is not here: bytes and operations of the program that its compiler makes.

    python -m experiments.benchmark.compiled --config=configs/dsprites.py --config.data.path=FILE [--chip=v5e:2x2]
        [--members=0,8]

libtpu compiles without a TPU (`pip install "jax[tpu]"`, in an environment of its own). 0 members are one run, whose
batches one chip takes whole; others are a population on one chip, all at once. Convolutions are XLA's own ("windows")
and, beside them, what a CPU takes ("blocks"); a config without convolutions has the same numbers twice. Bytes and
operations are the compiler's own counts of one step, which its own estimate of seconds does not follow.
"""

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import jax
import numpy as np

from experiments.benchmark.timing import run_benchmark
from vae_jax.config.command_line import Parser, whole, words
from vae_jax.config.parse import checked_config
from vae_jax.errors import UserError
from vae_jax.models.networks import _convolution
from vae_jax.randomness import root_key
from vae_jax.training.executors import DataParallel, MemberParallel
from vae_jax.training.setup import Setup, prepare
from vae_jax.training.step import make_hyper

ENVIRONMENT = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"}
"""Or libtpu asks a metadata server, which is not there, what it runs on."""

CONVOLUTIONS: dict[str, dict[str, Callable]] = {
    "windows": {},
    "blocks": {
        "convolve_windows": _convolution.multiply_blocks,
        "convolve_3x3_windows": _convolution.multiply_3x3,
    },
}
"""What takes the place of a function of vae_jax/models/networks/_convolution.py."""


def main(argv: list[str]) -> int:
    """Compiles a step for each number of members, with both convolutions, and prints a table; the exit status."""
    parser = Parser("experiments.benchmark.compiled", __doc__, config=True, launcher="python -m")
    parser.flag("chip", str, "v5e:2x2", "NAME", "a topology that libtpu knows; one chip of it is taken")
    parser.flag("members", counts, (0, 8), "COUNTS", "members of populations, with commas between; 0 is one run")
    flags, overrides = parser.parse(argv)
    config = checked_config(flags.config, overrides)
    chip = find_chip(flags.chip)
    setup = prepare(config)
    print("| members | convolutions | MB a step | Mflop a step | temporary MB | compiled in, s |")
    print("|---|---|---|---|---|---|")
    for count in flags.members:
        for name, replaced in CONVOLUTIONS.items():
            cells = [f"{value:,.0f}" for value in measure(setup, chip, count, replaced)]
            print(f"| {count or 'one run'} | {name} | {' | '.join(cells)} |", flush=True)
    return 0


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between."""
    return tuple(map(whole(0), words(text)))


def find_chip(name: str) -> jax.Device:
    """A device to compile for. Raises UserError where libtpu is missing or does not know the topology."""
    from jax.experimental import topologies

    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    try:
        return topologies.get_topology_desc(name, "tpu").devices[0]
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--chip: {name!r} cannot be compiled for ({reason}); is jax[tpu] installed?") from None


def measure(
    setup: Setup, chip: jax.Device, count: int, replaced: Mapping[str, Callable]
) -> tuple[float, float, float, float]:
    """Megabytes and millions of operations of a step, megabytes that it keeps for a while, seconds of compiling."""
    jax.clear_caches()  # what was traced with other convolutions
    with mock.patch.multiple(_convolution, **replaced) if replaced else contextlib.nullcontext():
        lowered = lower(setup, chip, count)
    begun = time.monotonic()
    program: Any = lowered.compile()
    seconds = time.monotonic() - begun
    costs, memory = program.cost_analysis(), program.memory_analysis()
    return costs["bytes accessed"] / 1e6, costs["flops"] / 1e6, memory.temp_size_in_bytes / 1e6, seconds


def lower(setup: Setup, chip: jax.Device, count: int) -> jax.stages.Lowered:
    """The train steps of one run, or of `count` members, lowered for shapes: nothing is placed."""
    config = setup.config
    executor = MemberParallel([chip]) if count else DataParallel([chip])
    lead = (1, count) if count else ()

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype)

    state, key, hyper = jax.tree.map(shape, (setup.state_shape, root_key(0), make_hyper(config, setup.model)))
    split = jax.eval_shape(lambda split: split, setup.dataset.train)
    steps = executor.train_steps(setup.train_step, config.train.dispatch)
    indices = np.zeros((count or 1, config.train.dispatch, config.train.batch_size), np.int32)
    return steps.lower(split, state, indices, key, hyper, np.ones(count or 1, bool))


if __name__ == "__main__":
    run_benchmark(main)
