"""What a reader should know before believing the tables of a comparison."""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from vae_jax import metrics
from vae_jax.comparison.results import ComparedRun, Comparison
from vae_jax.phrases import join_names
from vae_jax.sweeps.group_names import format_value
from vae_jax.sweeps.kinds import LIKELIHOOD_FIELDS, PAIR_FIELD, bound_in_words, data_fields, is_of_pairs
from vae_jax.sweeps.study import DONE, FAILED
from vae_jax.sweeps.variant_facts import variant_facts
from vae_jax.training.run_results import ERROR

PROVENANCE = ("git", "jax", "devices")
"""What environment.json says of a run and should be the same for all."""


def notes(comparison: Comparison) -> list[str]:
    """What a reader should know before believing a table, a sentence each."""
    finished = [run for run in comparison.runs if run.status == DONE]
    return [
        *_notes_on_skipped(comparison.skipped),
        *_notes_on_failed([run for run in comparison.runs if run.status == FAILED]),
        *_notes_on_infinite(comparison),
        *_notes_on_seeds(finished),
        *_notes_on_quantities(comparison, finished),
        *_notes_on_own_terms(comparison),
        *_notes_on_draws(finished),
        *_notes_on_errors(comparison, finished),
        *_notes_on_provenance(finished),
    ]


def _notes_on_skipped(skipped: Sequence[tuple[str, str]]) -> Iterator[str]:
    names_by_reason = defaultdict(list)
    for name, reason in skipped:
        names_by_reason[reason].append(name)
    for reason, names in names_by_reason.items():
        yield f"skipped {len(names):,}: {reason} ({join_names(names, 3)})"


def _notes_on_failed(failed: Sequence[ComparedRun]) -> Iterator[str]:
    if failed:
        spread = ", ".join(f"{count} of {group}" for group, count in Counter(run.group for run in failed).items())
        yield f"failed {len(failed):,}: {spread}; no mean includes them, which may flatter the rest"
        yield f"the first to fail, {failed[0].name}: {failed[0].error}"


def _notes_on_infinite(comparison: Comparison) -> Iterator[str]:
    for metric in comparison.metrics:
        values = {run.name: run.metrics[metric] for run in comparison.runs if metric in run.metrics}
        names = [name for name, value in values.items() if not math.isfinite(value)]
        if names:
            yield f"{metric} is not a finite number in {len(names):,} (left out: {join_names(names, 3)})"


def _notes_on_seeds(finished: Sequence[ComparedRun]) -> Iterator[str]:
    if len(finished) > len({(run.group, run.seed) for run in finished}):
        yield "some groups hold several runs of a seed (they differ in other fields): each seed's mean counts once"


def _notes_on_quantities(comparison: Comparison, finished: Sequence[ComparedRun]) -> Iterator[str]:
    """In what runs differ that must agree for a metric to be compared."""
    for field in sorted({field for run in finished for field in data_fields(run.config)}):
        yield from _note_on_field(field, finished)
    known = [run for run in finished if run.data]
    yield from _note_on_difference("the digest of their data", known, lambda run: run.data)
    if nats := _metrics_that_need(comparison, "likelihood"):
        for field in LIKELIHOOD_FIELDS:
            yield from _note_on_field(field, finished, nats)
    if parts := _metrics_that_need(comparison, "bound"):
        bounded = [run for run in finished if variant_facts(run.config).bounds]
        yield from _note_on_difference("what their ELBO bounds", bounded, lambda run: bound_in_words(run.config), parts)
        yield from _note_on_field(PAIR_FIELD, [run for run in finished if is_of_pairs(run.config)], parts)
    if densities := _metrics_that_need(comparison, "density"):
        yield from _note_on_difference(
            "their density", finished, lambda run: variant_facts(run.config).density, densities
        )


def _notes_on_own_terms(comparison: Comparison) -> Iterator[str]:
    """Which metrics are terms of a variant's own, where there are several variants, or several weights of one."""
    for metric in comparison.metrics:
        names = [name for name in ("variant", "weights") if name in metrics.agreement(metric)]
        if len({tuple(group.kinds[name] for name in names) for group in comparison.groups}) > 1:
            weights = " with the same weights" if "weights" in names else ""
            yield f"{metric} is a term of each variant's own: it is comparable only among runs of one variant{weights}"


def _notes_on_draws(finished: Sequence[ComparedRun]) -> Iterator[str]:
    """That some runs were evaluated by an earlier version, which drew held-out bits and noise by a run's own seed."""
    drawn = [run for run in finished if run.config.get("data.binarize") == "dynamic" and "elbo" in run.metrics]
    own = [run.name for run in drawn if f"elbo.{ERROR}" not in run.metrics]
    if 0 < len(own) < len(drawn):
        yield f"{len(own):,} runs were evaluated on pixel draws of their own ({join_names(own, 3)}): repeat that"


def _notes_on_errors(comparison: Comparison, finished: Sequence[ComparedRun]) -> Iterator[str]:
    """How far off a mean may be for the held-out images there are, which no interval over seeds has."""
    for metric in comparison.metrics:
        errors = [run.metrics[f"{metric}.{ERROR}"] for run in finished if f"{metric}.{ERROR}" in run.metrics]
        if errors and math.isfinite(error := statistics.median(errors)):
            unit = f" {metrics.unit(metric)}".rstrip()
            yield (
                f"{metric} has a standard error over held-out images of {error:.2g}{unit} (median of runs). All "
                "runs share the images: differences have less of this error, and intervals over seeds leave it out"
            )


def _metrics_that_need(comparison: Comparison, name: str) -> str:
    """The metrics in which runs are compared that agree in `name` alone, in words; empty where none is."""
    return ", ".join(metric for metric in comparison.metrics if name in metrics.agreement(metric))


def _note_on_field(field: str, runs: Sequence[ComparedRun], shown: str = "") -> Iterator[str]:
    def value(run: ComparedRun) -> str:
        return format_value(run.config[field]) if field in run.config else "none"

    return _note_on_difference(field, runs, value, shown)


def _note_on_difference(
    name: str, runs: Sequence[ComparedRun], value: Callable[[ComparedRun], str], shown: str = ""
) -> Iterator[str]:
    """Which groups have which values, where there are several, and in which metrics that matters; empty: in all."""
    groups = defaultdict(list)
    for run in runs:
        groups[value(run)].append(run.group)
    if len(groups) > 1:
        kinds = [f"{kind} of {join_names([*dict.fromkeys(names)], 2)}" for kind, names in groups.items()]
        where = f" in {shown}" if shown else ""
        difference = f"runs differ in {name} ({join_names(kinds, 3)})"
        yield f"{difference}: groups that differ so from the baseline are not compared{where}"


def _notes_on_provenance(finished: Sequence[ComparedRun]) -> Iterator[str]:
    for name in PROVENANCE:
        values = dict.fromkeys(str(run.environment[name]) for run in finished if run.environment.get(name))
        if len(values) > 1:
            yield f"runs are of {len(values)} different {name}: {join_names([*values], 3)}"
