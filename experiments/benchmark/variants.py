"""What each variant's step costs beside the VAE's: compile seconds and step time on digits.

    python -m experiments.benchmark.variants [--rounds=7]

Prints the table of docs/variants.md. Steps are timed in turn, round after round; ratios are medians. A variant
that digits will not do for is timed on sprites of the same 8x8 pixels, whose drawing is part of its step.
"""

import dataclasses

from ml_collections import ConfigDict

from experiments.benchmark.timing import machine, measure_rates, median_ratio, run_benchmark
from experiments.benchmark.workloads import train_steps
from vae_jax import model, registry, variants
from vae_jax.config.command_line import Parser, whole
from vae_jax.config.parse import DEFAULT, load_config
from vae_jax.data import sprites
from vae_jax.errors import UserError
from vae_jax.training import executors
from vae_jax.training.setup import Setup, make_setup

VAE = "beta"


def main(argv: list[str]) -> int:
    """Times every variant that trains on digits; the exit status."""
    parser = Parser("experiments.benchmark.variants", __doc__, launcher="python -m")
    parser.flag("rounds", whole(1), 7, "N", "times that every step is timed")
    flags, _ = parser.parse(argv)
    executor = executors.DataParallel(executors.local_devices(1))
    workloads, compile_seconds = {}, {}
    for name in registry.file_names(variants.__name__):
        config = load_config(f"{DEFAULT}:{name}")
        workloads[name], compile_seconds[name] = train_steps(trainable_setup(config), [config], executor)
    rates = measure_rates(workloads, flags.rounds)
    print(f"{machine(1)}, the config {DEFAULT}\n")
    print("| variant | compile, s | step time, beta = 1 |\n|---|---|---|")
    for name in rates:
        print(f"| {name} | {compile_seconds[name]:.1f} | {median_ratio(rates[VAE], rates[name]):.2f} |")
    return 0


def trainable_setup(config: ConfigDict) -> Setup:
    """The setup of a config of digits, on sprites of their size where its variant cannot be trained on digits."""
    setup = make_setup(config, model.load_data(config.data))
    try:
        setup.model.variant.check(setup.dataset.train)
    except UserError:
        return dataclasses.replace(setup, dataset=sprites.load(resolution=8))
    return setup


if __name__ == "__main__":
    run_benchmark(main)
