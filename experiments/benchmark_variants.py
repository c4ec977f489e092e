"""What each variant's step costs beside the VAE's: compile seconds and step time on digits.

    python -m experiments.benchmark_variants [--rounds=7]

Prints the table of docs/variants.md. Steps are timed in turn, round after round; ratios are medians. A variant
that digits will not do for is timed on sprites of the same 8x8 pixels, whose drawing is part of its step.
"""

import pkgutil

import jax
import numpy as np

from experiments import settings
from experiments.benchmark import compiled_steps, in_turn
from vae_jax import model, parallel, variants
from vae_jax.data import sprites
from vae_jax.registry import UserError


def main(argv: list[str]) -> int:
    """Times every variant that trains on digits; the exit status."""
    own, _ = settings.Arguments(("rounds",)).parse(argv)
    devices = parallel.local_devices(1)
    timed, seconds = {}, {}
    for name in sorted(info.name for info in pkgutil.iter_modules(variants.__path__)):
        config = settings.load(f"{settings.DEFAULT}:{name}")
        dataset = model.load_data(config.data)
        built = model.build(config, dataset.image_shape)
        try:
            built.variant.check(dataset.train)
        except UserError:
            dataset = sprites.load(resolution=8)
        timed[name], seconds[name] = compiled_steps(config, dataset, built, devices)
    rates = {name: np.asarray(values) for name, values in in_turn(timed, int(own.get("rounds", "7"))).items()}
    print(f"1 x {devices[0].device_kind}, jax {jax.__version__}, the digits of {settings.DEFAULT}\n")
    print("| variant | compile, s | step time, beta = 1 |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {seconds[name]:.1f} | {np.median(rates['beta'] / rate):.2f} |")
    return 0


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    settings.start(main, __doc__)
