"""The words and numbers of a comparison, for a terminal, a picture and the report."""

import math
import statistics
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vae_jax.comparison.comparability import NATS_FIELDS, comparable_runs
from vae_jax.comparison.intervals import LEVEL, POWER
from vae_jax.comparison.results import ComparedRun, Comparison, Difference, Number, Summary
from vae_jax.phrases import join_names
from vae_jax.sweeps.study import DONE, DROPPED, FAILED, MISSING, RUNNING

WIDTH = 100
"""Characters of a line."""

STATUS_WORDS = {DONE: "done", FAILED: "failed", DROPPED: "dropped", RUNNING: "running", MISSING: "unfinished"}
DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither way is better"}

NATS_FIELDS_IN_WORDS = "data, binarize and likelihood"
PROVENANCE = ("git", "jax", "devices")
"""What environment.json says of a run and should be the same for all."""


def status_counts(runs: Sequence[ComparedRun], skipped: Sequence[tuple[str, str]]) -> str:
    """How many runs are done, failed and so on, and how much was skipped."""
    counts = Counter(run.status for run in runs)
    parts = [f"{counts[status]:,} {word}" for status, word in STATUS_WORDS.items() if counts[status]] or ["no runs"]
    if skipped:
        parts.append(f"{len(skipped):,} skipped")
    return ", ".join(parts)


def notes(comparison: Comparison) -> list[str]:
    """What a reader should know before believing a table, a sentence each."""
    finished = [run for run in comparison.runs if run.status == DONE]
    return [
        *_notes_on_skipped(comparison.skipped),
        *_notes_on_failed([run for run in comparison.runs if run.status == FAILED]),
        *_notes_on_infinite(comparison),
        *_notes_on_seeds(finished),
        *_notes_on_nats(finished),
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
        yield f"failed {len(failed):,}: {spread}; no mean has them, which may flatter what is left"
        yield f"the first to fail, {failed[0].name}: {failed[0].error}"


def _notes_on_infinite(comparison: Comparison) -> Iterator[str]:
    for metric in comparison.metrics:
        values = {run.name: run.metrics[metric] for run in comparison.runs if metric in run.metrics}
        names = [name for name, value in values.items() if not math.isfinite(value)]
        if names:
            yield f"{metric} is no finite number in {len(names):,} (left out: {join_names(names, 3)})"


def _notes_on_seeds(finished: Sequence[ComparedRun]) -> Iterator[str]:
    if len(finished) > len({(run.group, run.seed) for run in finished}):
        yield "some groups hold several runs of a seed (they differ in other fields): each seed's mean counts once"


def _notes_on_nats(finished: Sequence[ComparedRun]) -> Iterator[str]:
    for field in NATS_FIELDS:
        values = dict.fromkeys(format_value(run.config.get(field)) for run in finished)
        if len(values) > 1:
            difference = f"runs differ in {field} ({join_names([*values], 3)})"
            yield f"{difference}: what differs so from the baseline is not compared in nats"


def _notes_on_provenance(finished: Sequence[ComparedRun]) -> Iterator[str]:
    for name in PROVENANCE:
        values = dict.fromkeys(str(run.environment[name]) for run in finished if run.environment.get(name))
        if len(values) > 1:
            yield f"runs are of {len(values)} different {name}: {join_names([*values], 3)}"


def direction(comparison: Comparison, metric: str) -> str:
    """Which way is better."""
    return DIRECTIONS[comparison.higher_is_better[metric]]


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
            f" Differences are paired over shared seeds (Student's t), their intervals each for itself; p is corrected "
            f"for the {tests:,} comparisons here (Holm): the chance of one false better or worse, or more, is at most "
            f"{LEVEL:.0%} where differences are spread evenly about their mean (docs/comparing.md). "
            f"How many more seeds would tell is for a chance of {POWER:.0%}, "
            f"should the differences go on as they are."
        )
    if any(difference.verdict == "not tested" for difference in comparison.differences):
        text += " Where neither way is better nothing is tested, but for what --metrics names."
    return text


def comparable_share(comparison: Comparison) -> str:
    """Which runs shares and correlations are of, where it is not all; nothing where it is."""
    comparable = comparable_runs(comparison)
    if len(comparable) == len(comparison.runs):
        return ""
    if not comparable:
        return f"The runs of the baseline differ in {NATS_FIELDS_IN_WORDS}: no run is comparable with them."
    count = f"{len(comparable):,} of {len(comparison.runs):,} runs"
    return f"Over the {count} that share {NATS_FIELDS_IN_WORDS} with the baseline."


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
    text = f"{value:{plus},.{digits}f}"
    return text.lstrip("+-") if not float(text.replace(",", "")) else text


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


def format_value(value: Any) -> str:
    """A config's value: 4 and 4.0 alike."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(format_value, value))})"
    return str(value)


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` characters, without a part of its middle."""
    if len(text) <= width:
        return text
    end = (width - 3) * 2 // 3
    return f"{text[: width - 3 - end]}...{text[-end:]}"


def wrap(text: str, indent: str = "") -> list[str]:
    """Lines of at most WIDTH characters."""
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)
