"""What a search goes by: numbers of the validation split, or of a whole grid of factors; which way is better."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from vae_jax import model
from vae_jax.config.command_line import Overrides
from vae_jax.errors import UserError, unknown_name
from vae_jax.files import read_json, read_records
from vae_jax.metrics import DIRECTIONS, HELD_OUT, agreement, get, higher_is_better, is_metric, names, unit
from vae_jax.metrics._result_names import metric_name, result_label
from vae_jax.training.run_results import VALIDATION

WAYS = {"min": False, "max": True}


class Objective(NamedTuple):
    """A number of the validation split, by its word: "elbo", "mig:bins=30"; whether more of it is better."""

    word: str
    maximize: bool

    @property
    def label(self) -> str:
        """What it is called."""
        return result_label(self.word) if self.is_metric else self.word

    @property
    def is_metric(self) -> bool:
        """Whether it is computed after the last step alone."""
        return is_metric(self.word)

    @property
    def source(self) -> str:
        """Which images it is of."""
        reads_grid = self.is_metric and "factors" in get(metric_name(self.word)).requires
        return "the whole grid of factors" if reads_grid else "the validation split"

    @property
    def reading(self) -> str:
        """Its unit, and which way is better."""
        return ", ".join(filter(None, [unit(self.label), DIRECTIONS[self.maximize]]))

    @property
    def direction(self) -> str:
        """The way that is better, as Optuna says it."""
        return "maximize" if self.maximize else "minimize"

    def __str__(self) -> str:
        return f"{self.word}:{'max' if self.maximize else 'min'}"

    def of_run(self, folder: Path) -> float:
        """Its value of a run that is done; NaN where it has none that is finite."""
        return _finite(read_json(folder / "evaluation.json").get(f"{VALIDATION}{self.label}"))

    def at_step(self, folder: Path, step: int) -> float:
        """Its value at a step of a run; NaN where it was not evaluated there."""
        try:
            records = read_records(folder / "metrics.jsonl")
        except OSError:
            return math.nan
        values = [r.get(self.label) for r in records if r["step"] == step and r.get("split") == "validation"]
        return _finite(values[0]) if values else math.nan


def _finite(value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else math.nan


def mean_and_error(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean over seeds and its standard error, s / sqrt(n); None of one seed, NaN where a value is."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


DECIDED_BY = {
    "likelihood": ("likelihood.", "data.binarize"),
    "binarize": ("data.binarize",),
    "bound": ("variant.name",),
    "variant": ("variant.name",),
    "weights": ("variant.", "schedule."),
}
"""The fields, or how they begin, on which depends what two runs must agree in (metrics.AGREEMENTS)."""

AUGMENTATION = ("data.flip", "data.shift")
"""The fields of the data that change none of the images that validate."""


def parse_objectives(words: Sequence[str], config: ConfigDict, fields: Sequence[str]) -> tuple[Objective, ...]:
    """The objectives NAME[:min|:max] of runs of this config.

    Args:
        words: of each objective.
        config: of all runs, but for what is searched.
        fields: what is searched.

    Raises:
        UserError: for a name that is unknown, one that the config's variant has not, one of which neither way is better
            where none is given, and one that is another quantity at other values of a field.
    """
    if not words:
        raise UserError("--objective: missing; give at least one, as in --objective=elbo")
    objectives = tuple(_parse(word) for word in words)
    has_bound = model.logs_bound(config)
    for objective in objectives:
        if objective.word in ("elbo", "bound") and not has_bound:
            raise UserError(
                f"--objective: {objective.word!r} is not evaluated by variant {config.variant.name!r}; give "
                "distortion, loss or a metric"
            )
        if changing := _changing_fields(objective, fields):
            raise UserError(
                f"--objective: {objective.word!r} is another quantity at each {changing[0]}, so its values cannot be "
                "ranked; give another objective, or leave that field out of search()"
            )
    return objectives


def _changing_fields(objective: Objective, fields: Sequence[str]) -> list[str]:
    """Those of the fields at whose values an objective is no one quantity: of other images, too."""
    beginnings = ("data.", *(b for part in agreement(objective.word) for b in DECIDED_BY.get(part, ())))
    return [field for field in fields if field.startswith(beginnings) and field not in AUGMENTATION]


def _parse(word: str) -> Objective:
    head, _, way = word.rpartition(":")
    name = head if way in WAYS else word
    if name not in HELD_OUT and not is_metric(name):
        raise unknown_name("--objective", name, [*HELD_OUT, *names()])
    if way in WAYS:
        return Objective(name, WAYS[way])
    better = higher_is_better(name)
    if better is None:
        raise UserError(f"--objective: {name!r}: neither way is better by itself; give {name}:min or {name}:max")
    return Objective(name, better)


def metric_overrides(objectives: Sequence[Objective], config: ConfigDict) -> Overrides:
    """The override by which runs of a config compute those of the objectives that are metrics, beside what it asks."""
    words = [objective.word for objective in objectives if objective.is_metric]
    if not words:
        return []
    asked = config.evaluation.validation_metrics.split(",")
    return [("evaluation.validation_metrics", ",".join(filter(None, dict.fromkeys([*asked, *words]))))]
