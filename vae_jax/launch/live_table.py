"""The state of a launch: redrawn in place in a terminal, a line now and then elsewhere."""

import io
import shutil
import sys
import time
from collections.abc import Sequence
from typing import TextIO

from vae_jax.launch.progress import GroupProgress, count_states
from vae_jax.phrases import format_duration
from vae_jax.sweeps.study import DONE, DROPPED, FAILED

LINE_SECONDS = 30.0
"""Seconds between lines where there is no terminal."""

MAX_ROWS = 8

CLEAR = "\033[J"
"""Clears a terminal from the cursor down."""


class Table:
    """Draws the state of the programs; `print` puts lines above that stay."""

    def __init__(self, stream: TextIO | io.TextIOBase | None = None):
        self._stream = sys.stdout if stream is None else stream
        self._live = self._stream.isatty()
        self._drawn: list[str] = []
        self._last_time = time.monotonic()

    def print(self, text: str) -> None:
        """Prints lines that stay."""
        self._erase()
        print(text, file=self._stream)
        self._show(self._drawn)

    def draw(self, groups: Sequence[GroupProgress], running: Sequence[GroupProgress], processes: int) -> None:
        """Shows the state of `groups`, of which `running` have a process; `processes` run at once."""
        rows = table_rows(groups, running, processes)
        if self._live:
            self._erase()
            self._show(rows)
        elif time.monotonic() - self._last_time >= LINE_SECONDS:
            self._last_time = time.monotonic()
            print(rows[-1], file=self._stream, flush=True)

    def close(self) -> None:
        """Takes the table away."""
        self._erase()
        self._drawn = []
        self._stream.flush()

    def _erase(self) -> None:
        if self._drawn and self._live:
            self._stream.write(f"\033[{len(self._drawn)}F{CLEAR}")

    def _show(self, rows: list[str]) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be erased
            self._stream.write("".join(f"{row[:width]}\n" for row in rows))
            self._drawn = rows
        self._stream.flush()


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
    return "  ".join([f"  {group.id:<36}", f"{len(group.runs):>4} runs", f"{share:>4.0%}", _pace(group), *ended])


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
