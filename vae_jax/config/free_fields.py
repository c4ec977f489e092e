"""Fields of a config that change no number of a run, and so may change when it is resumed. Imports no jax."""

from collections.abc import Mapping
from typing import Any

FREE_FIELDS = (
    *("wandb.", "log.every", "log.tensorboard", "evaluation.metrics"),
    *("evaluation.validation_metrics", "checkpoint.keep"),
    *("parallel.heartbeat", "parallel.images", "sweep.members_per_device"),
)
"""Their names, or how they begin."""


def is_free(field: str) -> bool:
    """Whether a field, by its dotted name, changes no number."""
    return field.startswith(FREE_FIELDS)


def flatten_tree(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value of nested dicts by its dotted name."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inside = isinstance(value, Mapping)
        flat |= flatten_tree(value, f"{prefix}{name}.") if inside else {f"{prefix}{name}": value}
    return flat


def falls_over_all_steps(train: Mapping[str, Any]) -> bool:
    """Whether the learning rate of a section `train` depends on how many steps there are; of an earlier version's too.

    A longer run is another run from its first step on then.
    """
    return bool(train.get("cosine")) or train.get("schedule") in ("cosine", "warmup_cosine")


def decisive_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that decide the numbers of a run up to any step, by dotted name; of a config as nested dicts.

    How many steps it takes is one of them where the learning rate falls over all of them.
    """
    flat = {field: value for field, value in flatten_tree(config).items() if not is_free(field)}
    if not falls_over_all_steps(config.get("train", {})):
        flat.pop("train.steps", None)
    return flat
