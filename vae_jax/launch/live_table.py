"""The state of a launch: redrawn in place in a terminal, a line now and then elsewhere."""

import contextlib
import io
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, TextIO

from vae_jax.launch.progress import GroupProgress, count_states
from vae_jax.phrases import format_duration, printable
from vae_jax.screen import cells, cut, terminal_size, wrap_line
from vae_jax.sweeps.study import DONE, DROPPED, FAILED

LINE_SECONDS = 30.0
"""Seconds between lines where there is no terminal."""

MAX_ROWS = 8

INDENT = "    "
"""Of what a line has no room for, on the next."""

CLEAR = "\033[2K\033[E\033[J\033[F"
"""Clears a terminal from the cursor's line down; not at once, for what is cleared from the upper left corner on goes
into the history of some terminals."""


class Table:
    """Draws the state of the programs; `print` puts lines above that stay."""

    def __init__(self, stream: TextIO | io.TextIOBase | None = None):
        self._stream = sys.stdout if stream is None else stream
        self._live = self._stream.isatty()
        self._rows: list[str] = []
        self._drawn: list[str] = []
        self._busy, self._resized = False, False
        self._last_time = time.monotonic()
        self._earlier_handler = self._watch_size()

    def print(self, text: str) -> None:
        """Prints lines that stay, whatever they hold as what it is and not as commands to the terminal."""
        with self._undisturbed():
            self._erase()
            for line in text.split("\n"):
                print("\n".join(self._wrapped(printable(line))), file=self._stream)
            self._show()

    def draw(self, groups: Sequence[GroupProgress], running: Sequence[GroupProgress], processes: int) -> None:
        """Shows the state of `groups`, of which `running` have a process; `processes` run at once."""
        rows = table_rows(groups, running, processes)
        if self._live:
            self._rows = rows
            self._redraw()
        elif time.monotonic() - self._last_time >= LINE_SECONDS:
            self._last_time = time.monotonic()
            print(rows[-1], file=self._stream, flush=True)

    def close(self) -> None:
        """Takes the table away."""
        if self._earlier_handler is not None:
            signal.signal(signal.SIGWINCH, self._earlier_handler)
            self._earlier_handler = None
        self._rows = []
        self._redraw()

    def _watch_size(self) -> Any:
        """Asks to be told when the terminal is resized; what was told before, None where nobody can be."""
        if not self._live or threading.current_thread() is not threading.main_thread():
            return None
        return signal.signal(signal.SIGWINCH, self._resize) or signal.SIG_DFL

    def _resize(self, signum: int, frame: FrameType | None) -> None:
        """Draws the table anew at once, or after what is being written."""
        self._resized = True
        if not self._busy:
            self._redraw()

    def _redraw(self) -> None:
        with self._undisturbed():
            self._erase()
            self._show()

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Keeps the signal of a resize from writing between what is written here."""
        self._busy, self._resized = True, False
        try:
            yield
        finally:
            self._busy = False
        if self._resized:
            self._redraw()

    def _erase(self) -> None:
        """Takes away what is drawn: a terminal that has become narrower has wrapped its lines."""
        if self._drawn and self._live:
            width = terminal_size(self._stream).columns
            lines = sum(max(1, math.ceil(cells(line) / width)) for line in self._drawn)
            self._stream.write(f"\033[{lines}F{CLEAR}")
        self._drawn = []

    def _show(self) -> None:
        if self._live:
            size = terminal_size(self._stream)
            width = max(size.columns - 1, 1)  # a line that wraps could not be erased
            lines = [cut(line, width) for row in self._rows for line in wrap_line(row, width, INDENT)]
            self._drawn = lines[-max(size.lines - 1, 1) :]
            self._stream.write("".join(f"{line}\n" for line in self._drawn))
        self._stream.flush()

    def _wrapped(self, line: str) -> list[str]:
        """A line that stays, broken between words where this is a terminal."""
        if not self._live:
            return [line]
        indent = line[: len(line) - len(line.lstrip())] + INDENT
        return wrap_line(line, terminal_size(self._stream).columns, indent)


def table_rows(groups: Sequence[GroupProgress], running: Sequence[GroupProgress], processes: int) -> list[str]:
    """A row for each running program, and one for all together."""
    rows = [_row(group) for group in running[:MAX_ROWS]]
    if len(running) > MAX_ROWS:
        rows.append(f"  and {len(running) - MAX_ROWS} programs more")
    return [*rows, _summary_row(groups, running, processes)]


def _row(group: GroupProgress) -> str:
    counts, steps = count_states([group]), sum(run.steps for run in group.runs)
    share = 1 - group.remaining_steps() / steps
    ended = [f"{counts[state]} {state}" for state in (DONE, FAILED, DROPPED) if counts[state]]
    return "  ".join(
        [
            f"  {printable(group.id):<36}",
            f"{len(group.runs):>4} runs",
            f"{share:>4.0%}",
            _pace(group),
            *elbo_range(group),
            *ended,
        ]
    )


def elbo_range(group: GroupProgress) -> list[str]:
    """The validation ELBO of its runs, nats per image: of many the least and the largest."""
    if not group.elbos:
        return []
    low, high = min(group.elbos.values()), max(group.elbos.values())
    return [f"elbo {low:.2f}" if low == high else f"elbo {low:.2f} to {high:.2f}"]


def _pace(group: GroupProgress) -> str:
    steps, speed = group.remaining_steps(), group.steps_per_second
    if not steps:
        return "last pictures and metrics"
    if speed is None:
        return "compiling"
    return f"{speed:,.0f} steps/s  {format_duration(steps / speed)} left"


def _summary_row(groups: Sequence[GroupProgress], running: Sequence[GroupProgress], processes: int) -> str:
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
