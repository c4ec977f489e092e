"""The words of pictures: which run one is of, and numbers that carry no sign where they round to zero."""

import re
from typing import Any

import numpy as np

from vae_jax import variants
from vae_jax.errors import UserError
from vae_jax.phrases import printable
from vae_jax.typing import Config

Real = float | int | np.floating

ZERO = re.compile(r"[+-]?[0.,]+%?")
"""What zero looks like, to any number of digits."""


def variant_caption(config: Config) -> str:
    """The variant of a run, with those of its own fields that are not at their defaults: "beta beta=4"."""
    section = config["variant"]
    try:
        known = variants.defaults(section["name"])
    except UserError:  # it was of the user's own, and is no longer to be found
        known = {}
    changed = {
        field: value
        for field, value in section.items()
        if field != "name" and (field not in known or known[field] != value)
    }
    return printable(" ".join([section["name"], *(f"{field}={_format(value)}" for field, value in changed.items())]))


def run_caption(config: Config) -> str:
    """What tells a run from others of its kind: its variant, with what is not at its default, and its seed."""
    return f"{variant_caption(config)}, seed {config['seed']}"


def step_caption(config: Config, step: int, checkpoint: str) -> str:
    """Which checkpoint of a run it is: "last step", "best checkpoint, step 3,000 of 10,000".

    Args:
        config: the run's.
        step: at which it was saved.
        checkpoint: as what it was opened, "latest" or "best".
    """
    steps = config["train"]["steps"]
    where = "last step" if step == steps else f"step {step:,} of {steps:,}"
    return where if step == steps and checkpoint == "latest" else f"{checkpoint} checkpoint, {where}"


def _format(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def format_fixed(value: Real, digits: int, sign: bool = False) -> str:
    """The number to so many decimals, with its sign where `sign`; what rounds to zero has none."""
    return unsigned_zero(f"{value:{'+' if sign else ''}.{digits}f}")


def format_short(value: Real, digits: int = 6) -> str:
    """The number to so many significant digits; zero has no sign."""
    return unsigned_zero(f"{value:.{digits}g}")


def unsigned_zero(text: str) -> str:
    """The text of a number, without a sign where its digits are all zero."""
    return text.lstrip("+-") if ZERO.fullmatch(text) else text
