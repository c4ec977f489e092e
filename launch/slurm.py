"""Runs a sweep on a SLURM cluster, a job array with one element a program: what `vae-jax slurm` does.

    python -m launch.slurm --config=FILE[:ARG] --workdir=runs/study [--partition=NAME] [--gpus=N] [--wait]

--help has all flags.
"""

from vae_jax.cli import slurm
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(slurm)
