"""The trials of a search as trials.json has them: how they stand to one another. Needs no Optuna."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vae_jax.files import read_json

MOST_IMPORTANT = 8
"""Fields that are drawn, those that matter most."""


class SearchTrials(NamedTuple):
    """The complete trials of a search, in their order.

    Attributes:
        objectives: their names, and whether more is better.
        sources: which images each objective is of.
        space: what each field was chosen from, in words.
        importances: of each objective, the share of each field in its variance; empty where that is not known.
        trials: as trials.json has them.
    """

    objectives: dict[str, bool]
    sources: dict[str, str]
    space: dict[str, str]
    importances: dict[str, dict[str, float]]
    trials: list[Mapping[str, Any]]

    @property
    def numbers(self) -> list[int]:
        """The number of each trial."""
        return [trial["number"] for trial in self.trials]

    def values(self, objective: str) -> list[float]:
        """The value of each trial."""
        return [trial["values"][objective] for trial in self.trials]

    def best_so_far(self, objective: str) -> list[float]:
        """The best value up to each trial."""
        choose = max if self.objectives[objective] else min
        best: list[float] = []
        for value in self.values(objective):
            best.append(choose([value, *best[-1:]]))
        return best

    def fields(self, objective: str) -> list[str]:
        """The fields, the most important first, as many as are drawn."""
        shares = self.importances.get(objective, {})
        return sorted(self.space, key=lambda field: -shares.get(field, 0.0))[:MOST_IMPORTANT]

    def is_log(self, field: str) -> bool:
        """Whether a field was chosen uniformly in its logarithm."""
        return self.space[field].startswith("log_uniform")

    def is_choice(self, field: str) -> bool:
        """Whether a field was chosen from options."""
        return self.space[field].startswith("choice")

    def params(self, field: str) -> list[Any]:
        """The value that each trial set, a number or a text."""
        return [_plottable(trial["params"][field]) for trial in self.trials]

    def pareto_front(self, names: Sequence[str] = ()) -> list[bool]:
        """Whether each trial is one that no other beats in all objectives, or in those of `names`."""
        signs = {name: 1 if self.objectives[name] else -1 for name in names or self.objectives}
        rows = [[sign * trial["values"][name] for name, sign in signs.items()] for trial in self.trials]
        return [not any(_dominates(other, row) for other in rows) for row in rows]

    def ranked(self) -> list[Mapping[str, Any]]:
        """The trials, the best first; of several objectives those of the Pareto set first.

        Of trials of one and the same runs, as where a point was suggested twice, the first.
        """
        name, maximize = next(iter(self.objectives.items()))
        front, values = self.pareto_front(), self.values(name)
        unique = {tuple(trial["runs"]) or i: i for i, trial in reversed(list(enumerate(self.trials)))}
        order = sorted(
            unique.values(),
            key=lambda i: (len(self.objectives) > 1 and not front[i], (-1 if maximize else 1) * values[i]),
        )
        return [self.trials[i] for i in order]

    def best(self) -> list[Mapping[str, Any]]:
        """The trials, the best first; of several objectives the Pareto set alone."""
        if len(self.objectives) == 1:
            return self.ranked()
        front = {trial["number"] for trial, best in zip(self.trials, self.pareto_front(), strict=True) if best}
        return [trial for trial in self.ranked() if trial["number"] in front]


def as_written(value: Any) -> Any:
    """A parameter of trials.json as one writes it: JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    gains = [a - b for a, b in zip(one, other, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def _plottable(value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number else str(as_written(value))


def read_trials(folder: Path) -> SearchTrials | None:
    """The trials of the search in a folder; None where there is none, or no trial is complete."""
    record = read_json(folder / "trials.json")
    try:
        return _trials_of(record) if record else None
    except (KeyError, TypeError, AttributeError):  # a damaged file
        return None


def _trials_of(record: Mapping[str, Any]) -> SearchTrials | None:
    objectives = {name: direction == "maximize" for name, direction in record["objectives"].items()}
    complete = [trial for trial in record["trials"] if trial["state"] == "COMPLETE"]
    finite = [trial for trial in complete if all(math.isfinite(trial["values"][name]) for name in objectives)]
    sources, space, importances = (dict(record[name]) for name in ("sources", "space", "importances"))
    return SearchTrials(objectives, sources, space, importances, finite) if finite else None
