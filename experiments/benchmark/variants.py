"""What each variant's step costs beside the VAE's: compile seconds and step time on digits.

    python -m experiments.benchmark_variants [--rounds=7]

Prints the table of docs/variants.md. Steps are timed in turn, round after round; ratios are medians. A variant
that digits will not do for is timed on sprites of the same 8x8 pixels, whose drawing is part of its step.
"""

import pkgutil

import jax
import numpy as np

from experiments.benchmark.__main__ import compiled_steps, in_turn
from vae_jax import model, variants
from vae_jax.config.command_line import Arguments, run_program
from vae_jax.config.parse import DEFAULT, load_config
from vae_jax.data import sprites
from vae_jax.errors import UserError
from vae_jax.training import executors


def main(argv: list[str]) -> int:
    """Times every variant that trains on digits; the exit status."""
    own, _ = Arguments(("rounds",)).parse(argv)
    devices = executors.local_devices(1)
    timed, seconds = {}, {}
    for name in sorted(info.name for info in pkgutil.iter_modules(variants.__path__)):
        config = load_config(f"{DEFAULT}:{name}")
        dataset = model.load_data(config.data)
        built = model.build(config, dataset.image_shape)
        try:
            built.variant.check(dataset.train)
        except UserError:
            dataset = sprites.load(resolution=8)
        timed[name], seconds[name] = compiled_steps(config, dataset, built, devices)
    rates = {name: np.asarray(values) for name, values in in_turn(timed, int(own.get("rounds", "7"))).items()}
    print(f"1 x {devices[0].device_kind}, jax {jax.__version__}, the digits of {DEFAULT}\n")
    print("| variant | compile, s | step time, beta = 1 |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {seconds[name]:.1f} | {np.median(rates['beta'] / rate):.2f} |")
    return 0


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    run_program(main, __doc__)
