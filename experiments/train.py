"""Trains one model: what `vae-jax train` does.

    python -m experiments.train --config=configs/digits.py --workdir=runs/digits --config.variant.beta=4

--help has all flags.
"""

from vae_jax.cli import train
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(train)
