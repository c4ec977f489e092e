"""Which runs are better, by how much, and how sure that is: what `vae-jax compare` does.

    python -m experiments.compare --runs=runs/study

--help has all flags.
"""

from vae_jax.cli import compare
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(compare)
