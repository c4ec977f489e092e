"""A page to move the latents of a run in a browser: what `vae-jax explore` does.

    python -m experiments.explore --workdir=runs/digits [--other=runs/y]

--help has all flags.
"""

from vae_jax.cli import explore
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(explore)
