"""How fast a config trains here, against this machine's own limit.

    python -m experiments.benchmark --config=configs/mnist.py --config.data.path=FOLDER [--torch] [--rounds=7]

Everything that is compared is measured in turn, round after round, and medians are printed: machines are noisy, and
ratios taken in one run hold where single times do not. --torch adds PyTorch's loop (experiments/benchmark/pytorch.py),
and the memory that both take (experiments/benchmark/memory.py). The network's convolutions one by one:
python -m experiments.benchmark.layers.
"""

import contextlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.benchmark import memory, pytorch
from experiments.benchmark.timing import Rates, machine, measure_rates, median_ratio
from experiments.benchmark.workloads import square_product, train_steps, widest_layer
from vae_jax import data
from vae_jax.config.command_line import Overrides, Parser, whole
from vae_jax.config.parse import checked_config
from vae_jax.randomness import root_key
from vae_jax.training import executors
from vae_jax.training.run import TrainingRun
from vae_jax.training.setup import Setup, make_setup, prepare
from vae_jax.training.signals import StopSignal
from vae_jax.training.step import make_hyper
from vae_jax.training.train_run import train_run
from vae_jax.typing import AXIS

STEP, UNBINARISED = "step", "step without binarisation"
WIDEST, SQUARE = "matmul of the widest layer", "matmul 1024 x 1024"


@dataclass(frozen=True)
class Measurement:
    """What was measured of a config: `rates` in images (or FLOPs) per second, a number a round.

    `runner` is the images per second of the whole runner, `step_rates` those of the compiled step before and after it.
    """

    config: ConfigDict
    devices: int
    compile_seconds: float
    step_flops: float
    rates: Rates
    runner: float
    step_rates: np.ndarray

    @property
    def image_flops(self) -> float:
        """FLOPs of one image's share of a step."""
        return self.step_flops / self.config.train.batch_size

    def median(self, name: str) -> float:
        """Of a workload's rates."""
        return float(np.median(self.rates[name]))

    def ratio(self, name: str, reference: str) -> float:
        """The rate of one workload over that of another, in the median round."""
        return median_ratio(self.rates[name], self.rates[reference])


def main(argv: list[str]) -> int:
    """Measures the config of the command line and prints a table; the exit status."""
    parser = Parser("experiments.benchmark", __doc__, config=True, launcher="python -m")
    parser.flag("rounds", whole(1), 7, "N", "times that everything is measured")
    parser.switch("torch", "adds PyTorch's loop of the same network, and the memory that both take")
    flags, overrides = parser.parse(argv)
    config = checked_config(flags.config, overrides)
    words = config_words(flags.config, overrides)
    print_table(measure(config, flags.rounds, words if flags.torch else None))
    if flags.torch:
        print_memory(words)
    return 0


def config_words(file: str, overrides: Overrides) -> list[str]:
    """The command line of a config, each word in one piece."""
    return [f"--config={file}", *(f"--config.{field}={value}" for field, value in overrides)]


def measure(config: ConfigDict, rounds: int, torch_words: Sequence[str] | None) -> Measurement:
    """Times the config's steps, its limits and its runner.

    Args:
        torch_words: the command line of the config, where PyTorch's loop is timed too.
    """
    devices = executors.local_devices(config.parallel.devices)
    setup = prepare(config)
    if torch_words is not None:
        pytorch.check_config(config, setup.dataset.image_shape)
    executors.check_divides("config.train.batch_size", config.train.batch_size, devices)
    executor = executors.DataParallel(devices)
    step, compile_seconds = train_steps(setup, [config], executor)
    workloads = {STEP: step, WIDEST: widest_layer(setup, devices), SQUARE: square_product(devices)}
    if config.data.binarize != "none":
        grey = config.copy_and_resolve_references()
        grey.data.binarize = "none"
        workloads[UNBINARISED], _ = train_steps(make_setup(grey, setup.dataset), [grey], executor)
    with contextlib.ExitStack() as processes:
        if torch_words is not None:
            workloads |= processes.enter_context(pytorch.torch_workloads(torch_words))
        rates = measure_rates(workloads, rounds)
    runner = runner_rate(config, setup.dataset, devices)
    step_rates = np.concatenate([rates[STEP], measure_rates({STEP: step}, rounds)[STEP]])
    return Measurement(config, len(devices), compile_seconds, step_flops(setup), rates, runner, step_rates)


def step_flops(setup: Setup) -> float:
    """Floating-point operations of one step on the whole batch, by XLA's own cost analysis.

    Of a lone step: XLA counts the body of a loop once, however often it runs.
    """
    config = setup.config
    step = setup.train_step(jax.tree.map(jnp.asarray, setup.dataset.train))
    lifted = jax.jit(jax.vmap(step, in_axes=(None, 0, None, None), axis_name=AXIS))
    indices = jax.ShapeDtypeStruct((1, config.train.batch_size), jnp.int32)
    hyper = make_hyper(config, setup.model)
    cost = lifted.lower(setup.state_shape, indices, root_key(config.seed), hyper).compile().cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


def runner_rate(config: ConfigDict, dataset: data.Dataset, devices: list[jax.Device]) -> float:
    """Images per second of the runner, logging, checkpoints and evaluation included, once it has compiled.

    Runs in a folder of its own, and counts from the first evaluation, when all is compiled, over two more periods. What
    comes once, at a run's end, is not in it: the test split, pictures.
    """
    config = config.copy_and_resolve_references()
    config.train.steps = 3 * config.evaluation.every
    setup, never = make_setup(config, dataset), StopSignal(lambda number: number)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        print(f"the whole runner, {config.train.steps} steps ...", flush=True)
        with open(path / "log", "w") as log, contextlib.redirect_stdout(log):
            train_run(TrainingRun(config, path), setup, devices, never)
        records = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    first, *_, last = (record for record in records if record["split"] == "validation")
    return (last["step"] - first["step"]) * config.train.batch_size / (last["seconds"] - first["seconds"])


Row = tuple[str, str, str]
"""A quantity, its value, and what it is held against."""


def print_table(measurement: Measurement) -> None:
    """Prints medians, and the ratios that the project holds itself to."""
    config = measurement.config
    print(
        f"{config.variant.name} on {config.data.name}, {config.net.name}, batch {config.train.batch_size}; "
        f"{machine(measurement.devices)}"
    )
    rows = [*_step_rows(measurement), *_limit_rows(measurement), _runner_row(measurement), *_torch_rows(measurement)]
    for name, value, note in rows:
        print(f"  {name:<27}{value:>20}  {note}")


def _step_rows(measurement: Measurement) -> list[Row]:
    rate, train = measurement.median(STEP), measurement.config.train
    steps = f"{rate / train.batch_size:,.1f} steps/s, {train.dispatch} steps a dispatch"
    return [
        ("compile", f"{measurement.compile_seconds:.2f} s", "the program of one dispatch, without a cache"),
        ("compiled step", f"{rate:,.0f} images/s", steps),
        ("FLOPs", f"{measurement.step_flops:.4g} a step", "XLA's cost analysis"),
        ("step", f"{rate * measurement.image_flops / 1e9:,.1f} GFLOP/s", ""),
    ]


def _limit_rows(measurement: Measurement) -> list[Row]:
    rows = []
    for name in (WIDEST, SQUARE):
        share = measurement.ratio(STEP, name) * measurement.image_flops
        rows.append((name, f"{measurement.median(name) / 1e9:,.1f} GFLOP/s", f"the step reaches {share:.0%} of it"))
    if UNBINARISED in measurement.rates:
        share = measurement.ratio(UNBINARISED, WIDEST) * measurement.image_flops
        cost = 1 - measurement.ratio(STEP, UNBINARISED)
        binarize = measurement.config.data.binarize
        note = f"{share:.0%} of the widest layer's matmul; {binarize} binarisation costs {cost:.1%}"
        rows.append(("without binarisation", f"{measurement.median(UNBINARISED):,.0f} images/s", note))
    return rows


def _runner_row(measurement: Measurement) -> Row:
    share = measurement.runner / np.median(measurement.step_rates)
    note = f"{share:.0%} of the compiled step before and after"
    return "whole runner", f"{measurement.runner:,.0f} images/s", note


def _torch_rows(measurement: Measurement) -> list[Row]:
    rows = []
    for name in (name for name in pytorch.ENVIRONMENTS if name in measurement.rates):
        rate = measurement.median(name)
        steps = f"{rate / measurement.config.train.batch_size:,.1f} steps/s"
        note = f"{steps}; ours is {measurement.ratio(STEP, name):.2f} times as fast"
        rows.append((name, f"{rate:,.0f} images/s", note))
    return rows


def print_memory(words: Sequence[str]) -> None:
    """Prints the most memory that training takes in a process of its own, ours and PyTorch's."""
    compiling, training, torch = (memory.peak_bytes(workload, words) / 2**20 for workload in memory.WORKLOADS)
    ratio = f"{training / torch:.2f} times PyTorch's {torch:,.0f} MiB"
    print(f"  {'memory of training':<27}{training:>16,.0f} MiB  {ratio}")
    print(f"  {'with compiling':<27}{compiling:>16,.0f} MiB  {compiling / torch:.2f} times")
