"""Runs a sweep on this machine, one process a program: what `vae-jax sweep` does.

    python -m launch.local --config=FILE[:ARG] --workdir=runs/study [--processes=N] [--dry_run]

--help has all flags.
"""

from vae_jax.cli import sweep
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(sweep)
