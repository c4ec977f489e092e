"""python -m experiments.reproduce: makes the numbers of papers again, and their page."""

from experiments.reproduce.program import main
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(main)
