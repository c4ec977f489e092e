"""The state of a launch: redrawn in place in a terminal, a line a program now and then elsewhere."""

import sys
import time
from collections.abc import Sequence
from io import TextIOBase
from typing import TYPE_CHECKING, TextIO

from vae_jax.launch.progress import GroupProgress, count_states
from vae_jax.phrases import format_duration, plural, printable
from vae_jax.screen import TERM, log_line, redraws, time_stamp, wrap_line
from vae_jax.sweeps.study import DONE, DROPPED, FAILED

if TYPE_CHECKING:
    from rich.console import RenderableType

LINE_SECONDS = 30.0
"""Seconds between lines where there is no terminal."""

MAX_ROWS = 8

WIDE = 120
"""Columns of a terminal in which a program has one line and not two."""

BAR_COLUMNS, ELBO_COLUMNS = 24, 18
"""Of a bar, and of a range of ELBOs, in a wide terminal."""

UNIT = "nats per image"


class Table:
    """Draws the state of the programs; `print` puts lines above that stay."""

    def __init__(self, stream: TextIO | TextIOBase | None = None):
        self._stream = sys.stdout if stream is None else stream
        self._pane = None
        self._last_time = time.monotonic()
        if redraws(self._stream):
            from vae_jax.pane import Pane

            self._pane = Pane(self._stream)

    def print(self, text: str) -> None:
        """Prints lines that stay, whatever they hold as what it is and not as commands to the terminal."""
        lines = list(map(printable, text.split("\n")))
        if self._pane is None:
            print("\n".join([f"{time_stamp()}  {lines[0]}", *lines[1:]]), file=self._stream, flush=True)
            return
        for line in lines:
            self._pane.print(line)

    def draw(self, groups: Sequence[GroupProgress], running: Sequence[GroupProgress], processes: int) -> None:
        """Shows the state of `groups`, of which `running` have a process; `processes` run at once."""
        if self._pane is not None:
            self._pane.draw(picture(groups, running, processes, self._pane.console.width))
        elif time.monotonic() - self._last_time >= LINE_SECONDS:
            self._last_time = time.monotonic()
            print("\n".join(log_lines(groups, running, processes)), file=self._stream, flush=True)

    def close(self) -> None:
        """Takes the table away."""
        if self._pane is not None:
            self._pane.close()


def picture(
    groups: Sequence[GroupProgress], running: Sequence[GroupProgress], processes: int, width: int
) -> "RenderableType":
    """What a terminal of `width` columns shows: the running programs, and one row for all together."""
    from rich.console import Group

    shown = running[:MAX_ROWS]
    rows = [_table(shown)] if width >= WIDE else [row for group in shown for row in _narrow_rows(group, width)]
    if len(running) > MAX_ROWS:
        rows.append(_text(f"and {len(running) - MAX_ROWS} programs more", width))
    return Group(*(rows if running else []), _text(_summary(groups, running, processes), width))


def _table(running: Sequence[GroupProgress]) -> "RenderableType":
    """A row for each program under a head that says the units; where there is less room, names are cut first."""
    from rich.table import Column, Table

    numbers = [Column(name, justify="right", no_wrap=True) for name in ("runs", "", "", "steps/s", "time left")]
    last = [Column(f"validation ELBO, {UNIT}", min_width=ELBO_COLUMNS), Column("ended", no_wrap=True)]
    table = Table("program", *numbers, *last, box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for group in running:
        speed, left = _pace(group)
        runs, share = f"{len(group.runs):,}", f"{group.share:.0%}"
        bar, elbos = _bar(group, BAR_COLUMNS), elbo_range(group)
        table.add_row(_name(group), runs, bar, share, speed, left, elbos, _ended(group))
    return table


def _narrow_rows(group: GroupProgress, width: int) -> "list[RenderableType]":
    """A program in two lines or more: how far it is, and its numbers."""
    from rich.table import Column, Table

    columns = Column(max_width=width // 2), Column(ratio=1), Column(justify="right")
    table = Table.grid(*columns, padding=(0, 2, 0, 0), pad_edge=False, expand=True)
    table.add_row(_name(group), _bar(group), f"{group.share:.0%}")
    return [table, _text(f"  {'  '.join(_terms(group))}", width)]


def _text(line: str, width: int) -> "RenderableType":
    """A line broken between its terms."""
    from rich.text import Text

    return Text("\n".join(wrap_line(line, width, "  ", TERM)))


def _name(group: GroupProgress) -> "RenderableType":
    from rich.text import Text

    return Text(printable(group.id), style="bold", no_wrap=True, overflow="ellipsis")


def _bar(group: GroupProgress, width: int | None = None) -> "RenderableType":
    from rich.progress_bar import ProgressBar

    return ProgressBar(total=1.0, completed=group.share, width=width)


def log_lines(groups: Sequence[GroupProgress], running: Sequence[GroupProgress], processes: int) -> list[str]:
    """A line for each running program, and one for all together."""
    lines = [log_line(group.share, printable(group.id), *_terms(group)) for group in running[:MAX_ROWS]]
    share = sum(group.share * group.all_steps for group in groups) / sum(group.all_steps for group in groups)
    return [*lines, log_line(share, "", _summary(groups, running, processes))]


def _terms(group: GroupProgress) -> list[str]:
    """What there is to say of a program beside its name and how far it is."""
    speed, left = _pace(group)
    elbos = elbo_range(group)
    return [
        plural(len(group.runs), "run"),
        *([f"{speed} steps/s"] if speed else []),
        f"{left} left" if speed else left,
        *([f"validation elbo {elbos} {UNIT}"] if elbos else []),
        *filter(None, [_ended(group)]),
    ]


def _ended(group: GroupProgress) -> str:
    counts = count_states([group])
    return ", ".join(f"{counts[state]} {state}" for state in (DONE, FAILED, DROPPED) if counts[state])


def elbo_range(group: GroupProgress) -> str:
    """The validation ELBO of its runs, nats per image: of many the least and the largest; empty where none has one."""
    if not group.elbos:
        return ""
    low, high = min(group.elbos.values()), max(group.elbos.values())
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"


def _pace(group: GroupProgress) -> tuple[str, str]:
    """Its steps a second and the time that is left, or what it does that takes none."""
    steps, speed = group.remaining_steps(), group.steps_per_second
    if not steps:
        return "", "last pictures and metrics"
    return ("", "compiling") if speed is None else (f"{speed:,.0f}", format_duration(steps / speed))


def _summary(groups: Sequence[GroupProgress], running: Sequence[GroupProgress], processes: int) -> str:
    counts, runs = count_states(groups), sum(len(group.runs) for group in groups)
    complete = sum(group.complete for group in groups)
    active = sum(len(group.runs) - len(group.end_states) for group in running)
    seconds = remaining_seconds(groups, processes)
    return (
        f"programs {complete}/{len(groups)}   runs {counts[DONE]}/{runs} done, {active} running, {counts[FAILED]} "
        f"failed, {counts[DROPPED]} dropped, {runs - counts.total() - active} to come"
        f"{f'   {format_duration(seconds)} left' if seconds else ''}"
    )


def remaining_seconds(groups: Sequence[GroupProgress], processes: int) -> float | None:
    """Seconds until all have ended, from the steps that the runs recorded; None before any has a speed."""
    speeds = [group.steps_per_second for group in groups if group.steps_per_second]
    if not speeds:
        return None
    default = len(speeds) / sum(speeds)
    seconds = [group.remaining_seconds(default) for group in groups if not group.crashed]
    return max(sum(seconds) / processes, *seconds, 0.0)
