"""Writes the plan of a sweep as text for another place: what `vae-jax emit` does.

    python -m launch.emit --to=PLACE --config=FILE[:ARG] --workdir=runs/study [--output=FILE]

--help has all flags.
"""

from vae_jax.cli import emit
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(emit)
