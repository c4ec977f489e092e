"""Trains many runs as one compiled program: what `vae-jax population` does.

    python -m experiments.population --members=FILE

--help has all flags.
"""

from vae_jax.cli import population
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(population)
