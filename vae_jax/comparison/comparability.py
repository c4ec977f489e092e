"""Which runs may be compared in nats: those whose nats are of the same data, binarised alike, under one likelihood."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from vae_jax.comparison.results import ComparedRun, Comparison
from vae_jax.metrics import is_log_density

NATS_FIELDS = ("data.name", "data.binarize", "likelihood.name")
"""Fields that decide what a nat of a run is about: a density of grey levels is not a probability of black and white."""


def incomparable_groups(comparison: Comparison, metric: str | None = None) -> frozenset[str]:
    """The groups whose nats are of other things than the baseline's, or of several at once.

    Args:
        comparison: its runs and its baseline are read.
        metric: in one that is no log density all groups are comparable. None: in log densities.
    """
    if metric is not None and not is_log_density(metric):
        return frozenset()
    kinds = defaultdict(set)
    for run in comparison.runs:
        kinds[run.group].add(tuple(run.config.get(field) for field in NATS_FIELDS))
    baseline = kinds[comparison.baseline]
    return frozenset(group for group, kind in kinds.items() if len(kind) > 1 or kind != baseline)


def comparable_runs(comparison: Comparison) -> list[ComparedRun]:
    """The runs whose nats are of what the baseline's are."""
    excluded = incomparable_groups(comparison)
    return [run for run in comparison.runs if run.group not in excluded]


def labelled_values(runs: Sequence[ComparedRun], metric: str) -> tuple[np.ndarray, list[str], list[str], list[int]]:
    """(values, variants, groups, seeds) of the runs in which a metric is finite."""
    finite = [run for run in runs if math.isfinite(run.metrics.get(metric, math.nan))]
    values = np.array([run.metrics[metric] for run in finite])
    variants = [run.config["variant.name"] for run in finite]
    return values, variants, [run.group for run in finite], [run.seed for run in finite]
