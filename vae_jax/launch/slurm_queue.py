"""What SLURM's queue says, asked through its client."""

import subprocess

from vae_jax.errors import UserError

ANSWER = 60.0
"""Seconds that SLURM may take to answer."""


def ask_queue() -> dict[str, str]:
    """The state of each job in the queue, with the reason why it waits. Raises UserError where SLURM tells none."""
    try:
        words = ["squeue", "--noheader", "--array", "--format=%i %T %r"]
        found = subprocess.run(words, capture_output=True, text=True, timeout=ANSWER, check=True).stdout
    except subprocess.TimeoutExpired:
        raise UserError(f"SLURM did not answer squeue within {ANSWER:g} s; try again later") from None
    except OSError as error:
        raise UserError(f"squeue failed: {error.strerror}") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"squeue failed: {in_a_line(error.stderr)}") from None
    queue = {}
    for line in found.splitlines():
        number, state, why = line.split(maxsplit=2)
        queue[number] = f"pending: {why}" if state == "PENDING" else state.lower()
    return queue


def in_a_line(text: str) -> str:
    """What a client of SLURM said, in one line."""
    return " ".join(text.split()) or "it does not say why"
