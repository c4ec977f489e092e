"""The state of a launch: redrawn in place in a terminal, a line now and then elsewhere."""

import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from vae_jax.launch.jobs import tally
from vae_jax.sweeps.plan import duration
from vae_jax.sweeps.study import DONE, DROPPED, FAILED

EVERY = 30.0
"""Seconds between lines where there is no terminal."""

MOST_ROWS = 8


class Table:
    """Draws how the programs stand; `say` puts lines above that stay."""

    def __init__(self, stream=None):
        self._stream = sys.stdout if stream is None else stream
        self._live = self._stream.isatty()
        self._drawn: list[str] = []
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Prints lines that stay."""
        self._erase()
        print(text, file=self._stream)
        self._show(self._drawn)

    def draw(self, jobs: Sequence[Any], running: Sequence[Any], at_once: int) -> None:
        """Shows where `jobs` stand, of which `running` have a process."""
        rows = lines(jobs, running, at_once)
        if self._live:
            self._erase()
            self._show(rows)
        elif time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            print(rows[-1], file=self._stream, flush=True)

    def close(self) -> None:
        """Takes the table away."""
        self._erase()
        self._drawn = []
        self._stream.flush()

    def _erase(self) -> None:
        if self._drawn and self._live:
            self._stream.write(f"\033[{len(self._drawn)}F\033[J")

    def _show(self, rows: list[str]) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be erased
            self._stream.write("".join(f"{row[:width]}\n" for row in rows))
            self._drawn = rows
        self._stream.flush()


def lines(jobs: Sequence[Any], running: Sequence[Any], at_once: int) -> list[str]:
    """A row for each running program, and one for the whole."""
    rows = []
    for job in running[:MOST_ROWS]:
        counts, total = tally([job]), sum(run.steps for run in job.runs)
        share = 1 - job.steps_left() / total
        ended = "  ".join(f"{counts[how]} {how}" for how in (DONE, FAILED, DROPPED) if counts[how])
        rows.append(
            f"  {job.id:<36}  {len(job.runs):>4} runs  {share:>4.0%}  {pace(job)}{f'  {ended}' if ended else ''}"
        )
    if len(running) > MOST_ROWS:
        rows.append(f"  and {len(running) - MOST_ROWS} programs more")
    return [*rows, summary(jobs, running, at_once)]


def pace(job: Any) -> str:
    """What a running program is at: how fast, and for how long still."""
    if not job.steps_left():
        return "last pictures and metrics"
    if job.speed is None:
        return "compiling"
    return f"{job.speed:,.0f} steps/s  {duration(job.seconds_left(None))} left"


def summary(jobs: Sequence[Any], running: Sequence[Any], at_once: int) -> str:
    """The whole in a line: programs, runs by state, and the time that remains."""
    counts, count = tally(jobs), sum(len(job.runs) for job in jobs)
    ended = sum(len(job.ended) == len(job.runs) for job in jobs)
    now = sum(len(job.runs) - len(job.ended) for job in running)
    left = remaining(jobs, at_once)
    return (
        f"programs {ended}/{len(jobs)}   runs {counts[DONE]}/{count} done, {now} running, {counts[FAILED]} failed, "
        f"{counts[DROPPED]} dropped, {count - counts.total() - now} to come"
        f"{f'   {duration(left)} left' if left else ''}"
    )


def remaining(jobs: Sequence[Any], at_once: int) -> float | None:
    """Seconds until all have ended, from the steps that the runs recorded; None before any has a speed."""
    speeds = [job.speed for job in jobs if job.speed]
    if not speeds:
        return None
    otherwise = len(speeds) / sum(speeds)
    alive = [job.seconds_left(otherwise) for job in jobs if not job.crashed]
    return max(sum(alive) / at_once, *alive, 0.0)
