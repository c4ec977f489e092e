"""Which runs are better, by how much, and how sure that is."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vae_jax.comparison import intervals
from vae_jax.comparison.comparability import (
    comparable_runs,
    comparable_values,
    incomparable_groups,
    labelled_values,
    run_kinds,
)
from vae_jax.comparison.grouping import group_runs, select_baseline
from vae_jax.comparison.load_runs import load_runs
from vae_jax.comparison.results import ComparedRun, Comparison, Difference, Group, Summary
from vae_jax.comparison.wording import status_counts
from vae_jax.errors import UserError, unknown_name
from vae_jax.metrics import higher_is_better, is_metric
from vae_jax.sweeps import study
from vae_jax.sweeps.group_names import select_fields

SCORES = ("elbo", "distortion", "loss")
"""The score of choice is the first of these that a run has."""

ELBO_PARTS = ("distortion", "rate", "active_units")
"""Metrics that are compared unless others are named, beside the score and what was evaluated."""

SeedValues = dict[str, dict[str, dict[int, float]]]
"""Values of each group and metric by seed."""


def compare_folders(
    folders: Sequence[str],
    by: tuple[str, ...] = (),
    metrics: tuple[str, ...] = (),
    baseline: str | None = None,
    command: str = "",
    checkpoint: str = "latest",
) -> Comparison:
    """The comparison of the runs in `folders`, studies or single runs; arguments as in `compare_runs`.

    Raises UserError as `compare_runs` does, and where one is no folder.
    """
    runs, skipped = load_runs([Path(folder) for folder in folders], checkpoint)
    return compare_runs(",".join(map(str, folders)), command, runs, skipped, by, metrics, baseline, checkpoint)


def compare_runs(
    folder: str,
    command: str,
    runs: Sequence[ComparedRun],
    skipped: list[tuple[str, str]],
    by: tuple[str, ...] = (),
    metrics: tuple[str, ...] = (),
    baseline: str | None = None,
    checkpoint: str = "latest",
) -> Comparison:
    """All that is computed of `runs`.

    Args:
        folder: what is compared, in words.
        command: what made the comparison, in words.
        runs: as `load_runs` gives them.
        skipped: what was no run, and why.
        by: fields whose values make the groups; empty: those in which the runs differ.
        metrics: the score of choice first; empty: the ELBO, its parts and what was evaluated.
        baseline: the group that the others are held against; None: the VAE's.
        checkpoint: that of which the runs' numbers are, "latest" or "best".

    Raises:
        UserError: for a field, metric or group that no run has, and where none has finished.
    """
    finished = [run for run in runs if run.status == study.DONE]
    if not finished:
        raise UserError(f"--runs: {folder}: no run there has finished; {status_counts(runs, skipped)}")
    by = select_fields(by, [run.config for run in runs])
    names = select_metrics(metrics, finished)
    runs, runs_by_group = group_runs(runs, by)
    values = {group: {name: seed_means(runs, name) for name in names} for group, runs in runs_by_group.items()}
    comparison = Comparison(
        folder=folder,
        command=command,
        by=by,
        baseline=select_baseline(baseline, runs_by_group),
        metrics=names,
        higher_is_better={name: higher_is_better(name) for name in names},
        runs=runs,
        groups=[_group(name, runs, by, values[name]) for name, runs in runs_by_group.items()],
        differences=[],
        correlation=[],
        variance_shares={},
        skipped=skipped,
        checkpoint=checkpoint,
    )
    untested = () if metrics else [name for name in names if comparison.higher_is_better[name] is None]
    incomparable = {name: incomparable_groups(comparison, name) for name in names}
    return comparison._replace(
        differences=differences(values, comparison.baseline, names, incomparable, untested),
        correlation=_correlations(comparison),
        variance_shares={
            name: intervals.variance_shares(*labelled_values(comparable_runs(comparison, name), name)) for name in names
        },
    )


def select_metrics(metrics: tuple[str, ...], finished: Sequence[ComparedRun]) -> tuple[str, ...]:
    """`metrics`, or the score of choice, the parts of the ELBO, and what was evaluated by name, without details.

    Raises UserError for a metric that no run has.
    """
    available = dict.fromkeys(name for run in finished for name in run.metrics)
    for name in metrics:
        if name not in available:
            raise unknown_name("--metrics", name, available)
    if metrics:
        return metrics
    heads = [name for name in available if not any(name.startswith(f"{other}.") for other in available)]
    evaluated = [name for name in heads if is_metric(name)]
    scores = [name for name in SCORES if name in available]
    return tuple(dict.fromkeys(name for name in [*scores[:1], *ELBO_PARTS, *evaluated] if name in available))


def seed_means(runs: Sequence[ComparedRun], metric: str) -> dict[int, float]:
    """The finite values of a metric by seed; of several runs of a seed the mean."""
    values: dict[int, list[float]] = {}
    for run in runs:
        if math.isfinite(run.metrics.get(metric, math.nan)):
            values.setdefault(run.seed, []).append(run.metrics[metric])
    return {seed: float(np.mean(numbers)) for seed, numbers in sorted(values.items())}


def _group(
    name: str, runs: Sequence[ComparedRun], by: Sequence[str], values: Mapping[str, Mapping[int, float]]
) -> Group:
    config, finished = runs[0].config, [run for run in runs if run.status == study.DONE]
    return Group(
        name=name,
        values={field: config[field] for field in by if field in config},
        runs=tuple(run.name for run in runs),
        failed=sum(run.status == study.FAILED for run in runs),
        summaries={metric: summarize(np.array([*seeds.values()])) for metric, seeds in values.items() if seeds},
        kinds=run_kinds(finished or runs),
    )


def summarize(values: np.ndarray) -> Summary:
    """A group's numbers of one metric."""
    low, high = intervals.interval(values) or (None, None)
    return Summary(len(values), float(np.mean(values)), low, high, intervals.interquartile_mean(values))


def _correlations(comparison: Comparison) -> list[list[float]]:
    columns = [comparable_values(comparison, name) for name in comparison.metrics]
    return [[intervals.rank_correlation(first, second) for second in columns] for first in columns]


class _Paired(NamedTuple):
    """A difference, and those of the pairs that it is the mean of."""

    difference: Difference
    pairs: np.ndarray


def differences(
    values: SeedValues,
    baseline: str,
    metrics: Sequence[str],
    incomparable: Mapping[str, Collection[str]] | None = None,
    untested: Collection[str] = (),
) -> list[Difference]:
    """Every group against the baseline in every metric that both have, over shared seeds: one family of comparisons.

    Args:
        values: of each group and metric by seed.
        baseline: the group that the others are held against.
        metrics: the metrics.
        incomparable: of each metric the groups that are not compared; None: all are.
        untested: metrics that get intervals, no p, and no part in the family.
    """
    cells = [
        (group, metric)
        for metric in metrics
        for group in values
        if group != baseline and values[group][metric] and values[baseline][metric]
    ]
    family = []
    for group, metric in cells:
        if incomparable and group in incomparable[metric]:
            empty = Difference(group, metric, 0, math.nan, None, None, None, "not comparable", None)
            family.append(_Paired(empty, np.empty(0)))
        else:
            seeds, reference = values[group][metric], values[baseline][metric]
            family.append(_pair(group, metric, seeds, reference, metric not in untested))
    return _with_verdicts(family)


def _pair(group: str, metric: str, values: Mapping[int, float], baseline: Mapping[int, float], tested: bool) -> _Paired:
    seeds = sorted(values.keys() & baseline.keys())
    pairs = intervals.paired_differences(
        np.array([values[seed] for seed in seeds]), np.array([baseline[seed] for seed in seeds])
    )
    mean, low, high, p = intervals.paired_test(pairs) if seeds else (math.nan, None, None, None)
    verdict = "cannot tell" if tested else "not tested"
    return _Paired(Difference(group, metric, len(seeds), mean, low, high, p if tested else None, verdict, None), pairs)


def _with_verdicts(family: Sequence[_Paired]) -> list[Difference]:
    """The differences with p corrected for all tests of the family, and what each then says."""
    results = [difference for difference, _ in family]
    tests = [i for i, difference in enumerate(results) if difference.p is not None]
    corrected = intervals.holm(np.array([results[i].p for i in tests]))
    undecided = len(tests) - int(np.sum(corrected <= intervals.LEVEL))
    for i, p in zip(tests, corrected.tolist(), strict=True):
        difference, pairs = family[i]
        if p <= intervals.LEVEL:
            verdict = claim(difference.mean > 0, higher_is_better(difference.metric))
            results[i] = difference._replace(p=p, verdict=verdict)
        else:  # at the level that Holm's procedure leaves to the next one to be told apart
            seeds = intervals.more_seeds(pairs, intervals.LEVEL / undecided)
            results[i] = difference._replace(p=p, more_seeds=seeds)
    return results


def claim(greater: bool, higher: bool | None) -> str:
    """What a difference is called that is significant: better or worse, or which way where neither is better."""
    if higher is None:
        return "higher" if greater else "lower"
    return "better" if greater == higher else "worse"
