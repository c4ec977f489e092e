"""The words and numbers of a comparison, for a terminal, a picture and the report."""

import math
import shutil
import statistics
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from vae_jax import metrics
from vae_jax.comparison.comparability import comparable_runs, incomparable_groups
from vae_jax.comparison.intervals import LEVEL, POWER
from vae_jax.comparison.results import ComparedRun, Comparison, Difference, Number, Summary
from vae_jax.phrases import printable
from vae_jax.plots.captions import unsigned_zero
from vae_jax.sweeps.study import DONE, DROPPED, FAILED, MISSING, RUNNING
from vae_jax.sweeps.variant_facts import variant_facts

WIDTH, LEAST_WIDTH = 100, 40
"""Characters of a line where there is no terminal, and in the narrowest."""

STATUS_WORDS = {DONE: "done", FAILED: "failed", DROPPED: "dropped", RUNNING: "running", MISSING: "unfinished"}
DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither way is better"}

BOUNDS = ("elbo", "bound")
"""Metrics that are what a variant's ELBO is: bounds."""


def status_counts(runs: Sequence[ComparedRun], skipped: Sequence[tuple[str, str]]) -> str:
    """How many runs are done, failed and so on, and how much was skipped."""
    counts = Counter(run.status for run in runs)
    parts = [f"{counts[status]:,} {word}" for status, word in STATUS_WORDS.items() if counts[status]] or ["no runs"]
    if skipped:
        parts.append(f"{len(skipped):,} skipped")
    return ", ".join(parts)


def checkpoint_phrase(comparison: Comparison) -> str:
    """Of what the numbers are: which split, at which checkpoint."""
    which = {"latest": "at the last step", "best": "of the checkpoint that was best by validation"}
    return f"test split, {which[comparison.checkpoint]}"


def direction(comparison: Comparison, metric: str) -> str:
    """Which way is better."""
    return DIRECTIONS[comparison.higher_is_better[metric]]


def heading(comparison: Comparison, metric: str) -> str:
    """What a metric is: its unit, which way is better, and what the runs' numbers bound or are of."""
    return _heading(comparison, metric, comparison.runs)


def comparable_heading(comparison: Comparison, metric: str) -> str:
    """The same of those runs alone that are comparable with the baseline."""
    return _heading(comparison, metric, comparable_runs(comparison, metric))


def _heading(comparison: Comparison, metric: str, runs: Sequence[ComparedRun]) -> str:
    words = ", ".join(filter(None, [metrics.unit(metric), direction(comparison, metric)]))
    return "; ".join(filter(None, [words, quantity(metric, runs)]))


def quantity(metric: str, runs: Sequence[ComparedRun]) -> str:
    """What a metric bounds or is of, and for which variants: "bounds log p(x): beta; log p(x|y): conditional".

    Empty where that is nothing in particular, and of a part of an ELBO where all ELBOs bound one quantity.
    """
    agreement = metrics.agreement(metric)
    kind = next((name for name in ("bound", "density") if name in agreement and "variant" not in agreement), "")
    variants = _variants_by_quantity(metric, kind, runs) if kind else {}
    verb = "of" if kind == "density" else "bounds" if metric in BOUNDS else "its ELBO bounds"
    if len(variants) > 1:
        return f"{verb} {'; '.join(f'{name}: {names}' for name, names in variants.items())}"
    if variants and (metric in BOUNDS or kind == "density"):
        return f"{verb} {next(iter(variants))}"
    return ""


def _variants_by_quantity(metric: str, kind: str, runs: Sequence[ComparedRun]) -> dict[str, str]:
    """The variants whose runs have a metric, in words, by what their ELBO bounds or their density is."""
    variants: dict[str, set[str]] = defaultdict(set)
    examples = {(run.group, run.config["variant.name"]): run for run in runs if metric in run.metrics}
    for (_, variant), run in examples.items():
        facts = variant_facts(run.config)
        variants[facts.density if kind == "density" else facts.bounds].add(variant)
    return {name: ", ".join(sorted(variants[name])) for name in sorted(variants) if name}


def verdict(difference: Difference) -> str:
    """What may be said of a difference."""
    if difference.verdict in ("not comparable", "not tested"):
        return difference.verdict
    if difference.pairs == 0:
        return "no shared seed"
    if difference.pairs == 1:
        return "one seed makes no claim"
    if difference.verdict != "cannot tell":
        return difference.verdict
    if difference.more_seeds is None:
        return "the same" if difference.mean == 0 and difference.low == 0 else "cannot tell"
    return f"cannot tell, {difference.more_seeds:,} more would"


def legend(comparison: Comparison) -> str:
    """What the numbers are."""
    text = (
        "Means over seeds, each with its 95% bootstrap interval; the interquartile mean leaves out the outer quarters."
    )
    tests = sum(difference.p is not None for difference in comparison.differences)
    if tests:
        text += (
            f" Differences are paired over shared seeds (Student's t); their intervals are not corrected. p is "
            f"corrected for the {tests:,} comparisons here (Holm): the chance of one or more false better or worse is "
            f"at most {LEVEL:.0%} if differences are spread evenly about their mean (docs/comparing.md). "
            f"The number of further seeds is for a chance of {POWER:.0%} to find a difference, "
            "if differences stay as they are."
        )
    if any(difference.verdict == "not tested" for difference in comparison.differences):
        text += " Metrics without a better direction are tested only if --metrics names them."
    return text


def comparable_share(comparison: Comparison, *names: str) -> str:
    """In which metrics some runs are not comparable with the baseline, and how many are; nothing where all are.

    Args:
        comparison: what is compared.
        names: the metrics; without any all that are compared.
    """
    metrics_by_share = defaultdict(list)
    for metric in names or comparison.metrics:
        excluded = incomparable_groups(comparison, metric)
        groups = [run.group for run in comparison.runs if metric in run.metrics]
        share = sum(group not in excluded for group in groups), len(groups)
        metrics_by_share[share].append(metric)
    parts = [
        f"{count:,} of {total:,} in {', '.join(shown)}"
        for (count, total), shown in metrics_by_share.items()
        if count < total
    ]
    return f"Runs that are comparable with the baseline: {'; '.join(parts)}." if parts else ""


def decimals(summaries: Iterable[Summary]) -> int:
    """Decimals that show two digits of the middle interval's half; where there is none, four digits of the mean."""
    summaries = list(summaries)
    halves = [(s.high - s.low) / 2 for s in summaries if s.low is not None and s.high is not None and s.high > s.low]
    if halves:
        return min(max(1 - math.floor(math.log10(statistics.median(halves))), 0), 4)
    largest = max((abs(s.mean) for s in summaries), default=0.0)
    return min(max(3 - math.floor(math.log10(largest)), 0), 4) if largest else 0


def format_number(value: Number, digits: int, sign: bool = False) -> str:
    """With so many decimals, and a sign where `sign`; large and small ones in powers of ten."""
    plus = "+" if sign else ""
    if value and not 1e-4 <= abs(value) < 1e7:
        return f"{value:{plus}.2e}"
    return unsigned_zero(f"{value:{plus},.{digits}f}")


def format_share(share: Number, digits: int = 0) -> str:
    """A share in per cent."""
    return unsigned_zero(f"{share:.{digits}%}")


def format_correlation(value: Number, sign: bool = False) -> str:
    """A correlation to two decimals, with a sign where `sign`."""
    return unsigned_zero(f"{value:{'+' if sign else ''}.2f}")


def format_interval(low: Number | None, high: Number | None, digits: int, sign: bool = False) -> str:
    """An interval; nothing where there is none."""
    if low is None or high is None:
        return ""
    return f"{format_number(low, digits, sign)} to {format_number(high, digits, sign)}"


def format_p(p: Number | None) -> str:
    """A p-value; nothing where there is none."""
    if p is None:
        return ""
    if p < 0.001:
        return "<0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def terminal_width() -> int:
    """Characters of a line of the terminal, LEAST_WIDTH at least; WIDTH where there is none."""
    return max(LEAST_WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)


def wrap(text: str, width: int, indent: str = "") -> list[str]:
    """Lines of at most `width` characters, without any that a terminal would act on."""
    return textwrap.wrap(printable(text), width, subsequent_indent=indent, break_on_hyphens=False)
