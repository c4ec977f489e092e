"""What decides: the score of an evaluation of the validation split, and when it has not been better for long."""

import math
from collections.abc import Mapping
from typing import Any

from vae_jax.plots.captions import format_fixed

LONG = 3
"""Evaluations without a better one, and a fifth of all, from which on it is said."""


def checkpoint_score(numbers: Mapping[str, Any]) -> float:
    """What the best checkpoint is best by: the tightest bound that is logged; the loss where there is none."""
    for name in ("bound", "elbo"):
        if name in numbers:
            return numbers[name]
    return -numbers["loss"]


def finite_score(record: Mapping[str, Any]) -> float | None:
    """The score of a record that was read back; None where it has none that is a finite number."""
    try:
        score = float(checkpoint_score(record))
    except (KeyError, TypeError, ValueError):
        return None
    return score if math.isfinite(score) else None


def patience_step(scores: Mapping[int, float], patience: int) -> int | None:
    """The step at which so many evaluations in a row have not been better than the best; None where none is.

    Args:
        scores: of evaluations by their steps, higher for better.
        patience: how many evaluations; 0 for no limit.
    """
    best, since = -math.inf, 0
    for step in sorted(scores):
        best, since = (scores[step], 0) if scores[step] > best else (best, since + 1)
        if since == patience and patience:
            return step
    return None


def decline(scores: Mapping[int, float], best: int) -> str:
    """In a line, that validation has fallen for long since step `best`; empty where it has not."""
    later = [step for step in scores if step > best]
    if best not in scores or len(later) < LONG or 5 * len(later) < len(scores):
        return ""
    if max(scores[step] for step in later) > scores[best]:  # of a step that was not saved
        return ""
    last = max(later)
    return (
        f"validation has not been better since step {best} ({format_fixed(scores[best], 2)} there, "
        f"{format_fixed(scores[last], 2)} at step {last}): the best checkpoint has the weights of step {best}, "
        "train.patience stops there"
    )
