"""What a train step takes on a TPU that is not here: bytes and operations of the program that its compiler makes.

    python -m experiments.benchmark.compiled --config=configs/dsprites.py --config.data.path=FILE [--chip=tpu:v5e]
        [--members=0,2,8,32]

libtpu compiles without a TPU (`make .venv/libtpu`). 0 members are one run, whose
batches one chip takes whole; others are a population on one chip: all at once, or in turn, of which the counts are one
member's step. Convolutions are XLA's own ("windows") and, beside them, what a CPU takes ("blocks"); a config without
convolutions has windows alone. Bytes and operations are the compiler's own counts of one step.
"""

import itertools
from collections.abc import Callable, Mapping
from unittest import mock

import jax

from experiments.benchmark.timing import run_benchmark
from experiments.benchmark.workloads import CONVOLUTIONS
from vae_jax.config.command_line import Parser, whole, words
from vae_jax.config.parse import checked_config
from vae_jax.errors import UserError, unknown_name
from vae_jax.models.networks import _convolution
from vae_jax.sweeps.chips import CHIPS, compile_devices
from vae_jax.training.executors import DataParallel, MemberParallel
from vae_jax.training.scan import AT_ONCE, IN_TURN, MemberMap
from vae_jax.training.setup import Setup, prepare
from vae_jax.training.step_cost import StepCost, lower_steps, step_cost

MAPS = {"at once": AT_ONCE, "in turn": IN_TURN}


def main(argv: list[str]) -> int:
    """Compiles a step for each number of members, in every way, and prints a table; the exit status."""
    parser = Parser("experiments.benchmark.compiled", __doc__, config=True, launcher="python -m")
    parser.flag("chip", str, "tpu:v5e", "NAME", "a TPU of vae_jax/sweeps/chips.py, of which one chip is taken")
    parser.flag("members", counts, (0, 2, 8, 32), "COUNTS", "members of populations, with commas between; 0 is one run")
    flags, overrides = parser.parse(argv)
    config = checked_config(flags.config, overrides)
    chip = find_device(flags.chip)
    setup = prepare(config)
    print("| members | convolutions | MB a step | Mflop a step | temporary MB | compiled in, s |")
    print("|---|---|---|---|---|---|")
    convolutions = CONVOLUTIONS if setup.convolves else ("windows",)
    for count, way, name in itertools.product(flags.members, MAPS, convolutions):
        if count or way == "in turn":  # of one run both are the same
            cost = measure(setup, chip, count, MAPS[way], CONVOLUTIONS[name])
            print(f"| {f'{count} {way}' if count else 'one run'} | {name} | {cells(cost)} |", flush=True)
    return 0


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between."""
    return tuple(map(whole(0), words(text)))


def find_device(name: str) -> jax.Device:
    """A device to compile for. Raises UserError where it is unknown or no compiler is here."""
    if name not in CHIPS:
        raise unknown_name("--chip", name, CHIPS)
    devices = compile_devices(CHIPS[name])
    if not devices:
        raise UserError(f"--chip: no compiler for {name!r} is here; make .venv/libtpu installs that of TPUs")
    return devices[0]


def measure(setup: Setup, chip: jax.Device, count: int, over: MemberMap, replaced: Mapping[str, Callable]) -> StepCost:
    """What a step takes with these convolutions, of `count` members or, for 0, of one run."""
    jax.clear_caches()  # what was traced with other convolutions
    executor = MemberParallel([chip], map=over) if count else DataParallel([chip])
    with mock.patch.multiple(_convolution, **replaced):
        lowered = lower_steps(setup, executor, count)
    return step_cost(lowered)


def cells(cost: StepCost) -> str:
    """Megabytes, millions of operations, temporary megabytes and seconds of compiling, as a row has them."""
    numbers = cost.bytes / 1e6, cost.operations / 1e6, cost.temporary / 1e6, cost.seconds
    return " | ".join(f"{number:,.0f}" for number in numbers)


if __name__ == "__main__":
    run_benchmark(main)
