"""Which groups and which runs are best in the score of choice, the first metric of a comparison.

Groups stand in the order of what is reported of them. A run is chosen by the validation split, never by what is
reported of it.
"""

import math

from vae_jax.comparison.comparability import incomparable_groups, mixed_groups
from vae_jax.comparison.results import ComparedRun, Comparison, Group, Number

SIGNS = {True: 1, False: -1, None: 0}


def sign(comparison: Comparison, metric: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither way is."""
    return SIGNS[comparison.higher_is_better[metric]]


def ranked_groups(comparison: Comparison) -> list[Group]:
    """The groups whose mean score is finite and comparable, the best first; in order where neither way is better."""
    score = comparison.metrics[0]
    excluded = incomparable_groups(comparison, score)
    groups = [group for group in comparison.groups if group.name not in excluded and _has_mean(group, score)]
    return sorted(groups, key=lambda group: -sign(comparison, score) * group.summaries[score].mean)


def _has_mean(group: Group, metric: str) -> bool:
    return metric in group.summaries and math.isfinite(group.summaries[metric].mean)


def group_places(comparison: Comparison) -> dict[str, int]:
    """The place of each group by its name, by which tables sort them: 0.25 is before 0.5."""
    return {group.name: place for place, group in enumerate(comparison.groups)}


def best_runs(comparison: Comparison) -> list[tuple[Group, ComparedRun]]:
    """Of each group the finished run with the best score on the validation split.

    The first, where none has it there, neither way is better, or the group's scores are of several quantities.
    """
    score = comparison.metrics[0]
    finished = {run.name: run for run in comparison.runs if run.status == "done"}
    mixed = mixed_groups(comparison, score)

    def merit(run: ComparedRun) -> Number:
        value = sign(comparison, score) * run.validation.get(score, math.nan)
        return value if math.isfinite(value) else -math.inf

    best = []
    for group in comparison.groups:
        runs = [finished[name] for name in group.runs if name in finished]
        if runs:
            best.append((group, runs[0] if group.name in mixed else max(runs, key=merit)))
    return best
