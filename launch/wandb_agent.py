"""Runs the trials that a W&B sweep hands out: what `vae-jax agent` does.

    python -m launch.wandb_agent ENTITY/PROJECT/ID --config=FILE[:ARG] --workdir=runs/study [--count=N] [--at_once=N]

--help has all flags.
"""

from vae_jax.cli import agent
from vae_jax.config.command_line import run_program

if __name__ == "__main__":
    run_program(agent)
