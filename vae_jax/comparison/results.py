"""The results of a comparison of runs: plain values, which analyse.py computes and vae_jax.report shows."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Number = int | float


class ComparedRun(NamedTuple):
    """One run folder. `config` is flat, by dotted name; `metrics` those of its evaluation that are numbers.

    They are of the test split; `validation` has those of the validation split, by which runs are chosen.
    `status` is done, failed, dropped, running or missing; `error` says why it failed. `environment` is that of
    environment.json (versions, git hash, devices), `steps_per_second` the median of its records. `data` is the digest
    of the data that it was trained on, empty where that is not known.
    """

    name: str
    folder: str
    group: str
    seed: int
    config: dict[str, Any]
    metrics: dict[str, float]
    status: str
    error: str
    environment: dict[str, Any]
    steps_per_second: float | None
    data: str = ""
    validation: Mapping[str, float] = MappingProxyType({})


class Summary(NamedTuple):
    """A metric over the seeds of a group: the interval is a 95% bootstrap interval of the mean, None for one seed."""

    n: int
    mean: float
    low: float | None
    high: float | None
    interquartile_mean: float


class Group(NamedTuple):
    """Runs that differ only in their seeds: `values` are those of the fields that tell groups apart.

    `kinds` are those of its finished runs, for each thing that runs must have in common (`comparability.run_kinds`).
    """

    name: str
    values: dict[str, Any]
    runs: tuple[str, ...]
    failed: int
    summaries: dict[str, Summary]
    kinds: dict[str, tuple[str, ...]]


class Difference(NamedTuple):
    """A group against the baseline over shared seeds: mean paired difference, its 95% interval, Holm-corrected p.

    `verdict` is better or worse (higher or lower where neither way is better), cannot tell, not tested or not
    comparable; `more_seeds` how many more seeds would settle it, if any number would.
    """

    group: str
    metric: str
    pairs: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    verdict: str
    more_seeds: int | None


class Comparison(NamedTuple):
    """A whole comparison. The first of `metrics` is the score of choice; `skipped` are the folders left out, and why.

    `checkpoint` says which checkpoint of each run is compared: "latest", of the last step, or "best" by validation.

    `correlation` is Spearman's between metrics over runs, in their order; `variance_shares` the share of each metric's
    variance by "variant", "strength" and "seed", and the "rest"; both over the runs that are comparable with the
    baseline in the metric, or in both. `higher_is_better` is None where neither way is. `command` is the command that
    made the comparison.
    """

    folder: str
    command: str
    by: tuple[str, ...]
    baseline: str
    metrics: tuple[str, ...]
    higher_is_better: dict[str, bool | None]
    runs: list[ComparedRun]
    groups: list[Group]
    differences: list[Difference]
    correlation: list[list[float]]
    variance_shares: dict[str, dict[str, float]]
    skipped: list[tuple[str, str]]
    checkpoint: str = "latest"
