"""A comparison as lines of a terminal, 100 columns wide."""

import functools
import math
import sys
from collections.abc import Callable, Sequence

from vae_jax import metrics
from vae_jax.comparison.comparability import comparable_runs, labelled_values
from vae_jax.comparison.intervals import PARTS, chance_shares
from vae_jax.comparison.results import Comparison, Difference, Summary
from vae_jax.comparison.wording import (
    WIDTH,
    comparable_share,
    decimals,
    direction,
    format_interval,
    format_number,
    format_p,
    legend,
    notes,
    shorten,
    status_counts,
    verdict,
    wrap,
)
from vae_jax.phrases import plural

MAX_GROUPS = 30
"""Rows of a table; runs.csv and the report have the others."""

MAX_METRICS = 12
"""Columns of the matrix of correlations."""

BOLD, DIM, PLAIN = "1", "2", "0"
COLOURS = {"better": "32", "worse": "31"}
"""Codes of ANSI terminals."""

Paint = Callable[[str, str], str]
"""A text and a code to the text in that colour."""


def comparison_lines(comparison: Comparison, colour: bool | None = None) -> list[str]:
    """All that a terminal shows; in colour where standard output is one."""
    paint = functools.partial(_paint, colour=sys.stdout.isatty() if colour is None else colour)
    lines = [*header(comparison, paint), *(line for note in notes(comparison) for line in wrap(f"- {note}", "  "))]
    for metric in comparison.metrics:
        lines += ["", *metric_table(comparison, metric, paint)]
    lines += ["", *wrap(legend(comparison))]
    lines += ["", *wrap(comparable_share(comparison)), *variance_table(comparison, paint)]
    if len(comparison.metrics) > 1:
        lines += ["", *correlation_table(comparison, paint)]
    return lines


def _paint(text: str, code: str, colour: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if colour and code != PLAIN else text


def header(comparison: Comparison, paint: Paint) -> list[str]:
    """What is compared."""
    by = ", ".join(comparison.by) or "nothing but the seed"
    return [
        paint(f"{comparison.folder}: {status_counts(comparison.runs, comparison.skipped)}", BOLD),
        *wrap(f"{plural(len(comparison.groups), 'group')} by {by}; against {comparison.baseline}"),
    ]


def metric_table(comparison: Comparison, metric: str, paint: Paint) -> list[str]:
    """A metric by group: mean, interval and interquartile mean; and each group against the baseline."""
    summaries = {group.name: group.summaries[metric] for group in comparison.groups if metric in group.summaries}
    shown = dict([*summaries.items()][:MAX_GROUPS])
    differences = {difference.group: difference for difference in comparison.differences if difference.metric == metric}
    digits = decimals(summaries.values())
    against = f"against {comparison.baseline}"
    longest_verdict = max((len(verdict(difference)) for difference in differences.values()), default=0)
    # What the columns of numbers and the verdict leave.
    width = min(max(map(len, [against, *shown])), WIDTH - 60, WIDTH - 50 - longest_verdict)
    heading = ", ".join(filter(None, [metrics.unit(metric), direction(comparison, metric)]))
    lines = [f"{paint(metric, BOLD)}   {heading}", *_summary_rows(shown, digits, width, paint)]
    if len(summaries) > len(shown):
        lines.append(f"  and {len(summaries) - len(shown):,} groups more")
    if differences:
        rows = [differences[name] for name in shown if name in differences]
        lines += ["", *_difference_rows(against, rows, digits, width, paint)]
    return lines


def _summary_rows(summaries: dict[str, Summary], digits: int, width: int, paint: Paint) -> list[str]:
    rows = [["group", "seeds", "mean", "95% interval", "interquartile mean"]]
    for name, (n, mean, low, high, middle) in summaries.items():
        interval = format_interval(low, high, digits)
        rows.append([name, str(n), format_number(mean, digits), interval, format_number(middle, digits)])
    return _align(rows, width, (6, 11, 21, 20), paint)


def _difference_rows(
    against: str, differences: Sequence[Difference], digits: int, width: int, paint: Paint
) -> list[str]:
    rows = [[against, "pairs", "difference", "95% interval", "p", "  verdict"]]
    for difference in differences:
        mean = format_number(difference.mean, digits, sign=True) if difference.pairs else ""
        interval = format_interval(difference.low, difference.high, digits, sign=True)
        word = verdict(difference)
        painted = paint(word, COLOURS.get(word, PLAIN))
        rows.append([difference.group, str(difference.pairs), mean, interval, format_p(difference.p), f"  {painted}"])
    return _align(rows, width, (6, 11, 21, 8), paint)


def variance_table(comparison: Comparison, paint: Paint) -> list[str]:
    """What share of a metric's spread comes from where."""
    rows = [["variance explained", "by variant", "by strength", "by seed", "not explained"]]
    comparable = comparable_runs(comparison)
    for metric, shares in comparison.variance_shares.items():
        if math.isnan(shares["rest"]):
            rows.append([metric, "", "", "", "does not vary"])
            continue
        chance = chance_shares(*labelled_values(comparable, metric)[1:])
        rows.append([metric, *(f"{shares[part]:.0%} ({chance[part]:.0%})" for part in PARTS)])
    return [
        *_align(rows, 28, (14, 14, 14, 16), paint),
        "  in brackets: what as many labels explain of pure noise",
    ]


def correlation_table(comparison: Comparison, paint: Paint) -> list[str]:
    """Spearman's between metrics, the lower triangle."""
    names = comparison.metrics[:MAX_METRICS]
    rows = [["rank correlation", *(str(i + 1) for i in range(len(names)))]]
    for i, name in enumerate(names):
        rows.append([f"{i + 1:>2} {name}", *map(_format_correlation, comparison.correlation[i][:i]), "1"])
    lines = _align(rows, 26, [6] * len(names), paint)
    if len(comparison.metrics) > len(names):
        lines.append(f"  and {len(comparison.metrics) - len(names)} metrics more")
    return lines


def _format_correlation(value: float) -> str:
    return "·" if math.isnan(value) else f"{value:+.2f}".replace("-0.00", "+0.00")


def _align(rows: Sequence[Sequence[str]], first: int, widths: Sequence[int], paint: Paint) -> list[str]:
    """Rows under a head: a name to the left, numbers to the right, and what is beyond `widths` as it is."""
    lines = []
    for name, *numbers in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(numbers, widths, strict=False)]
        lines.append("".join([f"  {shorten(name, first):<{first}}", *cells, *numbers[len(widths) :]]).rstrip())
    return [paint(lines[0], DIM), *lines[1:]]
