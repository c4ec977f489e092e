"""What evaluation.json says of the end of a run. Imports no jax."""

from collections.abc import Mapping
from typing import Any

STOPPED_EARLY = "stopped_early"
"""The field of a run that ended before its last step, when its patience ran out."""


def has_ended(evaluation: Mapping[str, Any], steps: int) -> bool:
    """Whether a run of so many steps has ended and been evaluated; metrics alone, asked for later, do not count."""
    return "loss" in evaluation and (evaluation.get("step") == steps or bool(evaluation.get(STOPPED_EARLY)))
