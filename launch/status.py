"""How a study stands, from its folder alone: what `vae-jax status` does.

    python -m launch.status runs/study

--help has all flags.
"""

from vae_jax.cli import status
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(status)
