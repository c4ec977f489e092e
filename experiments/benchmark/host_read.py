"""How fast a config trains with its images read on the host, beside the same with its images on the device.

    python -m experiments.benchmark.host_read [--config=mnist_conv] [--images=60000] [--size=28] [--rounds=9]

Both are the loop's compiled calls, with what is read ahead, on one device, in turn, round after round. The images are
random grey levels in an .npy file, whatever the config's own are. Prints images a second, the median of the ratios
within rounds, and the machine's load.
"""

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np

from experiments.benchmark.timing import Workload, machine, measure_rates, median_ratio, run_benchmark
from vae_jax import data, randomness
from vae_jax.config.command_line import Parser, whole
from vae_jax.config.parse import load_config
from vae_jax.training import executors
from vae_jax.training.loop import CompiledProgram, compile_program
from vae_jax.training.setup import make_setup
from vae_jax.training.step import TrainState

PLACES = ("device", "host")


def main(argv: list[str]) -> int:
    """Times both; the exit status."""
    parser = Parser("experiments.benchmark.host_read", __doc__, launcher="python -m")
    parser.flag("config", str, "mnist_conv", "NAME", "the config")
    parser.flag("images", whole(1000), 60_000, "N", "images in the file")
    parser.flag("size", whole(8), 28, "N", "their height and width")
    parser.flag("rounds", whole(1), 9, "N", "times that each is timed")
    flags, _ = parser.parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npy"
        np.save(file, np.random.default_rng(0).integers(0, 256, (flags.images, flags.size, flags.size, 1), np.uint8))
        images = np.lib.format.open_memmap(file, mode="r")
        dataset = data.from_arrays(images, None, images[:100], None)
        rates = measure_rates({place: train_calls(flags.config, place, dataset) for place in PLACES}, flags.rounds)
    print(f"{machine(1)}, {flags.config}, {flags.size}x{flags.size} pixels, load {os.getloadavg()[0]:.1f}")
    for place in PLACES:
        print(f"{place:6}  {np.median(rates[place]):,.0f} images/s")
    print(f"host / device  {median_ratio(rates['host'], rates['device']):.3f}, the median of {flags.rounds} rounds")
    return 0


@dataclass
class Loop:
    """The compiled calls of a run that stands at `step`; each `run()` makes as many as `CALLS`."""

    program: CompiledProgram
    state: TrainState
    step: int = 0

    def run(self) -> None:
        """Makes the calls and waits for them."""
        dispatch = self.program.configs[0].train.dispatch
        spans = [(self.step + i * dispatch, self.step + (i + 1) * dispatch) for i in range(CALLS)]
        active = [SimpleNamespace(active=True)]
        with contextlib.closing(self.program.calls(spans)) as calls:
            for _, self.step, inputs in calls:
                self.state, _ = self.program.train_steps(active, self.state, inputs)  # type: ignore[arg-type]
        jax.block_until_ready(self.state)


CALLS = 3
"""Of the compiled program in a round: what is read before the first is not read ahead."""


def train_calls(name: str, place: str, dataset: data.Dataset) -> Workload:
    """The calls of a config whose images lie there."""
    config = load_config(name, **{"parallel.images": place})
    setup, executor = make_setup(config, dataset), executors.DataParallel(executors.local_devices(1))
    state = jax.device_get(setup.initial_state(randomness.root_key(config.seed)))
    loop = Loop(compile_program(setup, [config], executor), executor.to_devices([state]))
    loop.run()
    return Workload(loop.run, CALLS * config.train.dispatch * config.train.batch_size)


if __name__ == "__main__":
    run_benchmark(main)
