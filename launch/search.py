"""Searches a space of configs, a generation of trials at a time: what `vae-jax search` does.

    python -m launch.search --config=FILE[:ARG] --workdir=runs/search [--trials=N] [--at_once=N] [--objective=NAME]

--help has all flags.
"""

from vae_jax.cli import search
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(search)
