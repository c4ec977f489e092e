"""A comparison of runs as Python shows it: lines in a terminal, tables in a notebook."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vae_jax.comparison.analyse import compare_runs
from vae_jax.comparison.load_runs import load_runs
from vae_jax.comparison.notes import notes
from vae_jax.comparison.results import Comparison, Difference, Summary
from vae_jax.comparison.terminal import comparison_lines
from vae_jax.comparison.wording import (
    checkpoint_phrase,
    decimals,
    format_interval,
    format_number,
    format_p,
    heading,
    legend,
    status_counts,
    verdict,
)
from vae_jax.report.markup import Html, join, tag

CELLS = ("group", "seeds", "mean", "95% interval")
AGAINST = ("difference", "95% interval", "p", "verdict")


class RunComparison(Comparison):
    """A `Comparison` that prints itself as a table, in a terminal and in a notebook."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(comparison_lines(self, colour=False))

    def _repr_html_(self) -> str:
        counts = status_counts(self.runs, self.skipped)
        by = ", ".join(self.by) or "nothing but the seed"
        return join(
            tag("p", tag("b", self.folder), f": {counts}; by {by}; against {self.baseline}; {checkpoint_phrase(self)}"),
            *(tag("p", note) for note in notes(self)),
            *(_metric_table(self, metric) for metric in self.metrics),
            tag("p", tag("small", legend(self))),
        )


def make_comparison(
    folders: Sequence[Path],
    name: str,
    by: tuple[str, ...],
    metrics: tuple[str, ...],
    baseline: str | None,
    checkpoint: str,
) -> RunComparison:
    """The comparison of the runs in folders, which are called `name` together; arguments as in `vae_jax.compare`."""
    runs, skipped = load_runs(folders, checkpoint)
    return RunComparison(*compare_runs(name, "", runs, skipped, by, metrics, baseline, checkpoint))


def _metric_table(comparison: Comparison, metric: str) -> Html:
    """A metric by group, and each group against the baseline."""
    summaries = {group.name: group.summaries[metric] for group in comparison.groups if metric in group.summaries}
    changes = {change.group: change for change in comparison.differences if change.metric == metric}
    digits = decimals(summaries.values())
    names = (*CELLS, *(AGAINST if changes else ()))
    rows = [_row(name, summary, changes, digits) for name, summary in summaries.items()]
    caption = tag("caption", tag("b", metric), f" {heading(comparison, metric)}")
    return tag("table", caption, tag("thead", tag("tr", *(tag("th", name) for name in names))), tag("tbody", *rows))


def _row(name: str, summary: Summary, changes: Mapping[str, Difference], digits: int) -> Html:
    interval = format_interval(summary.low, summary.high, digits)
    cells = [name, str(summary.n), format_number(summary.mean, digits), interval]
    if change := changes.get(name):
        mean = format_number(change.mean, digits, sign=True) if change.pairs else ""
        low_high = format_interval(change.low, change.high, digits, sign=True)
        cells += [mean, low_high, format_p(change.p), verdict(change)]
    elif changes:
        cells += [""] * len(AGAINST)
    return tag("tr", *(tag("td", cell) for cell in cells))
