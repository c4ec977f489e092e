"""A comparison as lines of a terminal, as wide as it is."""

import math
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.styled import Styled
from rich.table import Column
from rich.table import Table as Grid
from rich.text import Text

from vae_jax.comparison.comparability import comparable_runs, labelled_values
from vae_jax.comparison.intervals import PARTS, chance_shares
from vae_jax.comparison.notes import notes
from vae_jax.comparison.results import Comparison, Difference, Summary
from vae_jax.comparison.wording import (
    checkpoint_phrase,
    comparable_share,
    decimals,
    format_correlation,
    format_interval,
    format_number,
    format_p,
    format_share,
    heading,
    legend,
    status_counts,
    terminal_width,
    verdict,
    wrap,
)
from vae_jax.phrases import plural, printable
from vae_jax.screen import draw_lines
from vae_jax.sweeps.short_names import cut_middle, short_names

MAX_GROUPS = 30
"""Rows of a table; runs.csv and the report have the others."""

MAX_METRICS = 12
"""Columns of the matrix of correlations."""

LEAST_NAME = 30
"""Characters of a long name beside its numbers; where there is less room for it, it has a line of its own."""

SUMMARY_WIDTHS, DIFFERENCE_WIDTHS = (6, 11, 21, 20), (6, 11, 21, 8)
SHARE_WIDTHS, CORRELATION_WIDTH = (14, 14, 14, 16), 6
"""Characters of the columns of numbers, at least."""

STYLES = {"better": "green", "worse": "red"}


class Row(NamedTuple):
    """A name, its numbers, and what is said of them in a word."""

    name: str
    numbers: Sequence[str]
    word: str = ""


class Table(NamedTuple):
    """Rows under a head: a name to the left, numbers to the right, then a word."""

    head: Row
    rows: Sequence[Row]
    least_widths: Sequence[int]

    def widths(self) -> list[int]:
        """The characters of each column of numbers; its head may break between words."""
        columns = zip(self.least_widths, self.head.numbers, *(row.numbers for row in self.rows), strict=True)
        return [max(least, *(len(text) + 1 for text in (*head.split(), *cells))) for least, head, *cells in columns]

    def fit(self, names: Sequence[str], width: int) -> "Table":
        """The table, with columns as narrow as they can be where names would have no room beside wide ones."""
        return self if self.name_room(names, width) else self._replace(least_widths=[0] * len(self.least_widths))

    def name_room(self, names: Sequence[str], width: int) -> int:
        """The width of a column for these names; 0 where they need lines of their own."""
        word = max(len(row.word) for row in (self.head, *self.rows))
        longest, room = max(map(len, names)), width - 2 - sum(self.widths()) - (2 + word if word else 0)
        return min(room, longest + len("against ")) if room >= min(LEAST_NAME, longest) else 0

    def parts(self, names: Mapping[str, str], room: int, width: int) -> list[RenderableType]:
        """The table with the names of its rows as they are shown, in a column of `room`; of 0: above their numbers."""
        rows = [self.head, *(row._replace(name=names[row.name]) for row in self.rows)]
        parts = [self._row_parts(row, room, width) for row in rows]
        return [*(Styled(part, "dim") for part in parts[0]), *(part for row in parts[1:] for part in row)]

    def _row_parts(self, row: Row, room: int, width: int) -> list[RenderableType]:
        word = Text(row.word, STYLES.get(row.word, ""))
        if room:
            return [self._grid(row, Text(f"  {cut_middle(row.name, room):<{room}}"), word)]
        name = Text(f"  {cut_middle(row.name, width - 2)}")
        if not row.word or 2 + sum(self.widths()) + 2 + len(row.word) <= width:
            return [name, self._grid(row, Text("  "), word)]
        return [name, self._grid(row, Text("  "), Text()), Text.assemble("    ", word)]

    def _grid(self, row: Row, first: Text, last: Text) -> RenderableType:
        numbers = [Column(width=size, justify="right") for size in self.widths()]
        grid = Grid.grid("", *numbers, *([""] if last else []))
        cells = [Padding(Text(number), (0, 0, 0, 1)) for number in row.numbers]
        grid.add_row(first, *cells, *([Text.assemble("  ", last)] if last else []))
        for column in grid.columns:
            column.vertical = "bottom"
        return grid


def comparison_lines(comparison: Comparison, colour: bool | None = None, width: int | None = None) -> list[str]:
    """All that a terminal shows; in colour where standard output is one, and as wide as it is."""
    width = width or terminal_width()
    parts = header(comparison, width)
    parts += [Text(line) for note in notes(comparison) for line in wrap(f"- {note}", width, "  ")]
    for metric in comparison.metrics:
        parts += [Text(), *metric_table(comparison, metric, width)]
    parts += [Text(), *_paragraph(legend(comparison), width)]
    parts += [Text(), *_paragraph(comparable_share(comparison), width), *variance_table(comparison, width)]
    if len(comparison.metrics) > 1:
        parts += [Text(), *correlation_table(comparison, width)]
    return draw_lines(Group(*parts), width, sys.stdout.isatty() if colour is None else colour)


def _paragraph(text: str, width: int) -> list[RenderableType]:
    return [Text(line) for line in wrap(text, width)]


def header(comparison: Comparison, width: int) -> list[RenderableType]:
    """What is compared."""
    by = ", ".join(comparison.by) or "nothing but the seed"
    folder, counts = f"{comparison.folder}:", status_counts(comparison.runs, comparison.skipped)
    title = wrap(f"{folder} {counts}", width)
    if len(title) > 1:
        title = [*wrap(folder, width), *wrap(f"  {counts}", width, "  ")]
    return [
        *(Text(line, "bold") for line in title),
        *_paragraph(f"{plural(len(comparison.groups), 'group')} by {by}; against {comparison.baseline}", width),
        *_paragraph(checkpoint_phrase(comparison), width),
    ]


def metric_table(comparison: Comparison, metric: str, width: int) -> list[RenderableType]:
    """A metric by group: mean, interval and interquartile mean; and each group against the baseline."""
    summaries = {group.name: group.summaries[metric] for group in comparison.groups if metric in group.summaries}
    shown = dict([*summaries.items()][:MAX_GROUPS])
    differences = [
        difference for difference in comparison.differences if difference.metric == metric and difference.group in shown
    ]
    digits, names = decimals(summaries.values()), [group.name for group in comparison.groups]
    means = _summary_table(shown, digits).fit(names, width)
    changes = _difference_table(differences, digits).fit(names, width)
    rooms = [means.name_room(names, width), *([changes.name_room(names, width)] if differences else [])]
    short = short_names(names, min(filter(None, rooms), default=width - 2))
    parts = [*_title(comparison, metric, width), *means.parts(short, rooms[0], width)]
    if len(summaries) > len(shown):
        parts.append(Text(f"  and {len(summaries) - len(shown):,} groups more"))
    if differences:
        against = f"against {short[comparison.baseline]}"
        head = changes.head._replace(name=against if len(against) <= (rooms[-1] or width - 2) else "against it")
        parts += [Text(), *changes._replace(head=head).parts(short, rooms[-1], width)]
    return parts


def _title(comparison: Comparison, metric: str, width: int) -> list[RenderableType]:
    name = printable(metric)
    first, *others = wrap(f"{metric}   {heading(comparison, metric)}", width, "  ")
    title = Text(first)
    title.stylize("bold", 0, len(name))
    return [title, *map(Text, others)]


def _summary_table(summaries: Mapping[str, Summary], digits: int) -> Table:
    rows = []
    for name, (n, mean, low, high, middle) in summaries.items():
        interval = format_interval(low, high, digits)
        rows.append(Row(name, [str(n), format_number(mean, digits), interval, format_number(middle, digits)]))
    return Table(Row("group", ["seeds", "mean", "95% interval", "interquartile mean"]), rows, SUMMARY_WIDTHS)


def _difference_table(differences: Sequence[Difference], digits: int) -> Table:
    rows = []
    for difference in differences:
        mean = format_number(difference.mean, digits, sign=True) if difference.pairs else ""
        interval = format_interval(difference.low, difference.high, digits, sign=True)
        numbers = [str(difference.pairs), mean, interval, format_p(difference.p)]
        rows.append(Row(difference.group, numbers, verdict(difference)))
    return Table(Row("against", ["pairs", "difference", "95% interval", "p"], "verdict"), rows, DIFFERENCE_WIDTHS)


def variance_table(comparison: Comparison, width: int) -> list[RenderableType]:
    """What share of a metric's spread comes from where."""
    rows = []
    for metric, shares in comparison.variance_shares.items():
        cells = ["", "", "", "does not vary"]
        if not math.isnan(shares["rest"]):
            chance = chance_shares(*labelled_values(comparable_runs(comparison, metric), metric)[1:])
            cells = [f"{format_share(shares[part])} ({format_share(chance[part])})" for part in PARTS]
        rows.append(Row(metric, cells))
    head = Row("variance explained", ["by variant", "by strength", "by seed", "not explained"])
    names = [head.name, *comparison.variance_shares]
    table = Table(head, rows, SHARE_WIDTHS).fit(names, width)
    room = table.name_room(names, width)
    short = short_names([*comparison.variance_shares], room or width - 2)
    return [*table.parts(short, room, width), Text("  in brackets: what as many labels explain of pure noise")]


def correlation_table(comparison: Comparison, width: int) -> list[RenderableType]:
    """Spearman's between metrics, the lower triangle."""
    room = 26
    shown = comparison.metrics[: min(MAX_METRICS, (width - 2 - room) // CORRELATION_WIDTH)]
    short = {name: f"{i:>2} {text}" for i, (name, text) in enumerate(short_names(shown, room - 3).items(), 1)}
    rows = []
    for i, name in enumerate(shown):
        cells = [*map(_correlation_cell, comparison.correlation[i][:i]), "1"]
        rows.append(Row(name, [*cells, *[""] * (len(shown) - len(cells))]))
    head = Row("rank correlation", [str(i + 1) for i in range(len(shown))])
    parts = Table(head, rows, [CORRELATION_WIDTH] * len(shown)).parts(short, room, width)
    if len(comparison.metrics) > len(shown):
        parts.append(Text(f"  and {len(comparison.metrics) - len(shown)} metrics more"))
    return parts


def _correlation_cell(value: float) -> str:
    return "·" if math.isnan(value) else format_correlation(value, sign=True)
