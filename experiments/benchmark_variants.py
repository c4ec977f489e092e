"""What each variant's step costs beside the VAE's: compile seconds and step time on digits.

    python -m experiments.benchmark_variants [--rounds=7]

Prints the table of docs/variants.md. Steps are timed in turn, round after round; ratios are medians.
"""

import pkgutil

import jax
import numpy as np

from experiments import settings
from experiments.benchmark import compiled_steps, in_turn
from vae_jax import model, parallel, variants


def main(argv: list[str]) -> int:
    """Times every variant that trains on digits; the exit status."""
    own, _ = settings.Arguments(("rounds",)).parse(argv)
    devices = parallel.local_devices(1)
    timed, seconds = {}, {}
    for name in sorted(info.name for info in pkgutil.iter_modules(variants.__path__)):
        config = settings.load(f"{settings.DEFAULT}:{name}")
        dataset = model.load_data(config.data)
        try:
            built = model.build(config, dataset.image_shape)
            timed[name], seconds[name] = compiled_steps(config, dataset, built, devices)
        except ValueError as error:
            print(f"{name}: not on digits ({error})")
    rates = {name: np.asarray(values) for name, values in in_turn(timed, int(own.get("rounds", "7"))).items()}
    print(f"1 x {devices[0].device_kind}, jax {jax.__version__}, the digits of {settings.DEFAULT}\n")
    print("| variant | compile, s | step time, beta = 1 |\n|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {seconds[name]:.1f} | {np.median(rates['beta'] / rate):.2f} |")
    return 0


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    settings.start(main, __doc__)
