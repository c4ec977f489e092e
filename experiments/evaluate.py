"""A run's checkpoint to its test numbers and pictures: what `vae-jax evaluate` does.

    python -m experiments.evaluate --workdir=runs/digits [--checkpoint=best] [--metrics=mig,likelihood:k=5000]

--help has all flags.
"""

from vae_jax.cli import evaluate
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(evaluate)
