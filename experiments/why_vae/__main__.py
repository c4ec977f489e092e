"""python -m experiments.why_vae: measures the founding claims on a study and writes their page."""

from experiments.why_vae.run_study import main
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(main)
