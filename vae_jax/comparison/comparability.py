"""Which runs may be compared in a metric: those whose numbers are of the same quantity, of the same data.

A density of grey levels is not a probability of black and white, log p(x|y) is not log p(x), and a loss weighs its
terms as its variant does. `vae_jax.metrics.agreement` says what runs must agree in for a metric, beside their data.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vae_jax import metrics
from vae_jax.comparison.results import ComparedRun, Comparison
from vae_jax.sweeps import study
from vae_jax.sweeps.variant_facts import PREFIX, variant_facts

Config = Mapping[str, Any]

LIKELIHOOD_FIELDS = ("data.binarize", "likelihood.name")
"""What decides what a nat is of."""

PAIR_FIELD = "data.changed"
"""Which images make a pair: of no matter but to a bound of pairs."""

NO_IMAGES = ("data.path", "data.binarize", "data.flip", "data.shift", PAIR_FIELD)
"""Fields of the data that do not decide which images there are."""


def data_fields(config: Config) -> list[str]:
    """The fields of a flat config that decide which images there are."""
    return sorted(field for field in config if field.startswith("data.") and field not in NO_IMAGES)


def bound_in_words(config: Config) -> str:
    """What the ELBO of a run bounds; of one without an ELBO what its distortion is a part of, -log p(x)."""
    return variant_facts(config).bounds or "log p(x)"


def _data(config: Config) -> str:
    return _text(config, data_fields(config))


def _likelihood(config: Config) -> str:
    return _text(config, LIKELIHOOD_FIELDS)


def _binarize(config: Config) -> str:
    return _text(config, ["data.binarize"])


def _labels(config: Config) -> str:
    return "given" if "|y" in variant_facts(config).bounds else "not given"


def _bound(config: Config) -> str:
    bound = bound_in_words(config)
    return f"{bound} {_text(config, [PAIR_FIELD])}" if is_of_pairs(config) else bound


def is_of_pairs(config: Config) -> bool:
    """Whether the ELBO of a run is of pairs of images, x and x'."""
    return "x'" in variant_facts(config).bounds


def _density(config: Config) -> str:
    return variant_facts(config).density


def _variant(config: Config) -> str:
    weights = variant_facts(config).weights
    fields = (field for field in config if field.startswith(PREFIX))
    return _text(config, (field for field in fields if field.removeprefix(PREFIX) not in weights))


def _weights(config: Config) -> str:
    names = variant_facts(config).weights
    fields = [*(PREFIX + name for name in names), *(field for field in config if field.startswith("schedule."))]
    if config.get("schedule.name", "constant") != "constant" or "ramp_steps" in names:
        fields.append("train.steps")  # where a weight moves, it is where the last step has brought it
    return _text(config, fields)


def _text(config: Config, fields: Iterable[str]) -> str:
    """The fields and their values, which may be such that cannot be hashed; 4 and 4.0 are the same."""
    return " ".join(f"{field}={study.canonical(config[field])!r}" for field in sorted(fields) if field in config)


KINDS: dict[str, Callable[[Config], str]] = {
    "data": _data,
    "likelihood": _likelihood,
    "bound": _bound,
    "density": _density,
    "binarize": _binarize,
    "labels": _labels,
    "variant": _variant,
    "weights": _weights,
}
"""A run's kind in each thing that runs may have to agree in: those of metrics.AGREEMENTS, and the data."""

DIGEST = "digest"
"""The kind that is known of newer runs alone: the digest of the data themselves."""


def run_kinds(runs: Sequence[ComparedRun]) -> dict[str, tuple[str, ...]]:
    """Of each thing that runs may have to agree in, the kinds that there are among `runs`."""
    kinds = {name: tuple(sorted({kind(run.config) for run in runs})) for name, kind in KINDS.items()}
    return kinds | {DIGEST: tuple(sorted({run.data for run in runs if run.data}))}


def agreement(metric: str) -> tuple[str, ...]:
    """All that two runs must agree in to be compared in a metric: names of KINDS."""
    return ("data", *metrics.agreement(metric))


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
