"""Which runs may be compared in a metric: those whose numbers are of the same quantity, of the same data.

A density of grey levels is not a probability of black and white, log p(x|y) is not log p(x), and a loss weighs its
terms as its variant does. `vae_jax.metrics.agreement` says what runs must agree in for a metric, beside their data.
"""

import math
from collections.abc import Sequence

import numpy as np

from vae_jax.comparison.results import ComparedRun, Comparison
from vae_jax.sweeps.kinds import KINDS, agreement

DIGEST = "digest"
"""The kind that is known of newer runs alone: the digest of the data themselves."""


def run_kinds(runs: Sequence[ComparedRun]) -> dict[str, tuple[str, ...]]:
    """Of each thing that runs may have to agree in, the kinds that there are among `runs`."""
    kinds = {name: tuple(sorted({kind(run.config) for run in runs})) for name, kind in KINDS.items()}
    return kinds | {DIGEST: tuple(sorted({run.data for run in runs if run.data}))}


def mixed_groups(comparison: Comparison, metric: str) -> frozenset[str]:
    """The groups whose numbers of a metric are of several quantities at once."""
    names = (DIGEST, *agreement(metric))
    return frozenset(group.name for group in comparison.groups if any(len(group.kinds[name]) > 1 for name in names))


def incomparable_groups(comparison: Comparison, metric: str) -> frozenset[str]:
    """The groups whose numbers of a metric are of another quantity than the baseline's, or of several at once.

    The digest of the data counts where both have one. Where the baseline has none and the others have several, no more
    than one of those can be of its data, and nothing tells which: all of them are left out.
    """
    groups = {group.name: group for group in comparison.groups}
    mixed, names = mixed_groups(comparison, metric), agreement(metric)
    if comparison.baseline in mixed:
        return frozenset(groups)
    baseline = groups[comparison.baseline]
    kind = [baseline.kinds[name] for name in names]
    peers = [g for g in comparison.groups if g.name not in mixed and [g.kinds[name] for name in names] == kind]
    digests = set(baseline.kinds[DIGEST]) or {digest for group in peers for digest in group.kinds[DIGEST]}
    if len(digests) > 1:
        digests = set()
    return frozenset(groups) - {group.name for group in peers if digests.issuperset(group.kinds[DIGEST])}


def comparable_runs(comparison: Comparison, metric: str) -> list[ComparedRun]:
    """The runs whose numbers of a metric are of what the baseline's are."""
    excluded = incomparable_groups(comparison, metric)
    return [run for run in comparison.runs if run.group not in excluded]


def comparable_values(comparison: Comparison, metric: str) -> np.ndarray:
    """A metric of each run; NaN where a run has none, or one that is not of what the baseline's is."""
    excluded = incomparable_groups(comparison, metric)
    values = (math.nan if run.group in excluded else run.metrics.get(metric, math.nan) for run in comparison.runs)
    return np.array(list(values))


def labelled_values(runs: Sequence[ComparedRun], metric: str) -> tuple[np.ndarray, list[str], list[str], list[int]]:
    """(values, variants, groups, seeds) of the runs in which a metric is finite."""
    finite = [run for run in runs if math.isfinite(run.metrics.get(metric, math.nan))]
    values = np.array([run.metrics[metric] for run in finite])
    variants = [run.config["variant.name"] for run in finite]
    return values, variants, [run.group for run in finite], [run.seed for run in finite]
