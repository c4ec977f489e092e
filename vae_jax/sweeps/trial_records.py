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
        space: what each field was chosen from, in words.
        importances: of each objective, the share of each field in its variance; empty where that is not known.
        trials: as trials.json has them.
    """

    objectives: dict[str, bool]
    space: dict[str, str]
    importances: dict[str, dict[str, float]]
    trials: list[Mapping[str, Any]]

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

    def pareto_front(self) -> list[bool]:
        """Whether each trial is one that no other beats in all objectives."""
        signs = {name: 1 if maximize else -1 for name, maximize in self.objectives.items()}
        rows = [[sign * trial["values"][name] for name, sign in signs.items()] for trial in self.trials]
        return [not any(_dominates(other, row) for other in rows) for row in rows]

    def ranked(self) -> list[Mapping[str, Any]]:
        """The trials, the best first; of several objectives those of the Pareto set first."""
        name, maximize = next(iter(self.objectives.items()))
        front = self.pareto_front()
        order = sorted(
            range(len(self.trials)),
            key=lambda i: (len(self.objectives) > 1 and not front[i], (-1 if maximize else 1) * self.values(name)[i]),
        )
        return [self.trials[i] for i in order]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    gains = [a - b for a, b in zip(one, other, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def _plottable(value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number else str(tuple(value) if isinstance(value, list) else value)


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
    return SearchTrials(objectives, dict(record["space"]), dict(record["importances"]), finite) if finite else None
