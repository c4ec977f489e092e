"""What each field of a config may be."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from vae_jax import data
from vae_jax.models.learning_rates import SHAPES
from vae_jax.models.optimizers import OPTIMIZERS


class Rule(NamedTuple):
    """What a number may be, in code and in words."""

    holds: Callable[[Any], bool]
    words: str


AT_LEAST_0 = Rule(lambda v: v >= 0, "a whole number of at least 0")


AT_LEAST_1 = Rule(lambda v: v >= 1, "a whole number of at least 1")


POSITIVE = Rule(lambda v: v > 0 and math.isfinite(v), "a positive number")


NOT_NEGATIVE = Rule(lambda v: v >= 0 and math.isfinite(v), "a number of at least 0")


FRACTION = Rule(lambda v: 0 <= v < 1, "a number from 0 to below 1")


def has_none_in(characters: str, longest: int) -> Callable[[Any], bool]:
    """Whether a text is at most so long, not of blanks alone, and has none of these characters."""
    return lambda text: len(text) <= longest and not text.isspace() and not set(text) & set(characters)


RULES = {
    "seed": Rule(lambda v: 0 <= v < 2**32, "a whole number from 0 to 2^32 - 1"),
    "latent_dim": AT_LEAST_1,
    "train.steps": AT_LEAST_1,
    "train.batch_size": AT_LEAST_1,
    "train.learning_rate": POSITIVE,
    "train.weight_decay": NOT_NEGATIVE,
    "train.momentum": FRACTION,
    "train.warmup_steps": AT_LEAST_0,
    "train.schedule_factor": POSITIVE,
    "train.clip": NOT_NEGATIVE,
    "train.patience": AT_LEAST_0,
    "data.validation": NOT_NEGATIVE,
    "data.shift": AT_LEAST_0,
    "train.ema": FRACTION,
    "train.dispatch": Rule(lambda v: 1 <= v <= 10_000, "a whole number from 1 to 10,000"),
    "log.every": AT_LEAST_1,
    "evaluation.every": AT_LEAST_1,
    "evaluation.batch_size": AT_LEAST_1,
    "evaluation.draws": AT_LEAST_1,
    "checkpoint.every": AT_LEAST_1,
    "checkpoint.keep": AT_LEAST_1,
    "parallel.devices": AT_LEAST_0,
    "parallel.heartbeat": AT_LEAST_1,
    "sweep.members_per_device": AT_LEAST_0,
    # What W&B would refuse, once the run trains and nobody looks.
    "wandb.project": Rule(
        has_none_in(r"/\#?%:", 128), r"at most 128 characters without / \ # ? % and :, not all blank"
    ),
    "wandb.entity": Rule(has_none_in(r"/\#?%: ", 128), r"a user or a team, without / \ # ? % : and spaces"),
    "wandb.group": Rule(has_none_in("", 128), "at most 128 characters, not all blank"),
    "wandb.name": Rule(has_none_in("", 128), "at most 128 characters, not all blank"),
    "wandb.tags": Rule(
        lambda v: all(isinstance(tag, str) and len(tag) <= 64 and tag.strip() for tag in v),
        "words with commas between, of 1 to 64 characters each",
    ),
    "sweep.halving": Rule(
        lambda v: all(type(s) is int and s > 0 for s in v) and list(v) == sorted(set(v)),
        "steps that rise, as in (500, 2000)",
    ),
}


CHOICES = {
    "train.optimizer": tuple(OPTIMIZERS),
    "train.schedule": ("", *SHAPES),
    "wandb.mode": ("disabled", "offline", "online"),
    "parallel.mode": ("auto", "data", "members"),
    "parallel.images": ("auto", "device", "host"),
    "data.binarize": tuple(data.BINARIZERS),
}


KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a tuple, as in (512, 256)",
}


ITEMS = {bool: "truth values", int: "whole numbers", float: "numbers", str: "words"}


ITEM_KINDS = {"wandb.tags": str, "sweep.halving": int, "train.schedule_steps": int}
"""Of what the items of a tuple are whose default has none to tell it by."""
