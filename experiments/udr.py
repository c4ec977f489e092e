"""Which runs of a study found what other seeds found too, unsupervised: what `vae-jax udr` does.

    python -m experiments.udr --runs=runs/study

--help has all flags.
"""

from vae_jax.cli import udr
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(udr)
