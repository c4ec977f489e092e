"""How far a run is, for a person: a bar over its numbers in a terminal, a line in a notebook, dated lines in a log.

Imports rich where there is a terminal alone: the processes of a sweep write to files.
"""

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vae_jax.phrases import format_duration
from vae_jax.screen import TERM, log_line, redraws, wrap_line, wrap_text

if TYPE_CHECKING:
    from rich.console import RenderableType

DRAW_SECONDS, MESSAGE_SECONDS = 0.2, 0.5
"""Between two pictures in a terminal, and in a notebook, where each is a message."""

WIDE, BAR_COLUMNS = 70, 60
"""Columns of a terminal in which the bar has its steps a second beside it; of the bar at most."""

INDENT = " " * 6
"""Of the numbers below the bar, and of what a line has no room for."""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook, which shows a bar though its output is no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and hasattr(shell, "kernel")


class Progress:
    """How far a run, or a population of runs, is.

    Args:
        start: the step from which it goes on.
        steps: its last step.
        name: of the run or the program, for lines of a log.
        speed_unit: of what the steps a second are.
    """

    def __init__(self, start: int, steps: int, name: str = "", speed_unit: str = "steps/s"):
        self._step, self._steps, self._name, self._speed_unit = start, steps, name, speed_unit
        self._first: tuple[float, int] | None = None
        self._drawn_time, self._numbers, self._notebook_line = 0.0, "", ""
        self._pane = None
        self._in_notebook = False
        if redraws(sys.stderr):
            from vae_jax.pane import Pane

            self._pane = Pane(sys.stderr)
        else:
            self._in_notebook = in_notebook()

    def advance(self, step: int) -> None:
        """Moves the bar to `step`."""
        if self._first is None or step < self._step:  # the first steps compile; a population begins anew elsewhere
            self._first = (time.monotonic(), step)
        self._step = step
        pause = DRAW_SECONDS if self._pane is not None else MESSAGE_SECONDS
        if time.monotonic() - self._drawn_time >= pause:
            self._draw()

    def report(self, step: int, text: str, lasting: bool) -> None:
        """Shows `text`, terms with two spaces between, at `step`: below the bar, or as a line of its own that stays."""
        has_bar = self._pane is not None or self._in_notebook
        if has_bar and not lasting:
            self._numbers = text
            self._draw()
        elif self._in_notebook or sys.stdout.isatty():
            self._clear()
            print(wrap_text(f"{self._count(step)}  {text}", INDENT, TERM), flush=True)
        else:
            self.say(log_line(step / self._steps, self._name, self._count(step), *self._pace(), text))

    def say(self, line: str) -> None:
        """Prints a line without breaking the bar."""
        self._clear()
        print(wrap_text(line), flush=True)

    def close(self) -> None:
        """Leaves the bar as it stands; in a notebook its line goes."""
        if self._pane is None:
            self._clear()
        else:
            self._draw()
            self._pane.close(keep=True)

    def _count(self, step: int) -> str:
        return f"step {step:>{len(str(self._steps))}}/{self._steps}"

    def _pace(self) -> list[str]:
        """Steps a second since the first ones, which compile, and the time that is left at that speed."""
        if self._first is None or self._step == self._first[1]:
            return []
        speed = (self._step - self._first[1]) / max(time.monotonic() - self._first[0], 1e-9)
        seconds = (self._steps - self._step) / speed
        return [f"{speed:,.0f} {self._speed_unit}", *([f"{format_duration(seconds)} left"] if seconds else [])]

    def _draw(self) -> None:
        self._drawn_time = time.monotonic()
        if self._pane is not None:
            self._pane.draw(self._picture(self._pane.console.width))
        elif self._in_notebook:
            self._clear()
            terms = [f"{self._step / self._steps:.0%}", f"{self._step}/{self._steps}", *self._pace(), self._numbers]
            self._notebook_line = "  ".join(filter(None, terms))
            sys.stderr.write(self._notebook_line)

    def _clear(self) -> None:
        if self._pane is not None:
            self._pane.close()
        elif self._notebook_line:
            sys.stderr.write(f"\r{' ' * len(self._notebook_line)}\r")
            self._notebook_line = ""

    def _picture(self, width: int) -> "RenderableType":
        """The bar, and below it the numbers."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Column, Table
        from rich.text import Text

        terms = [f"{self._step}/{self._steps}", *self._pace()[0 if width >= WIDE else 1 :]]
        columns = Column(), Column(ratio=1), *(Column(no_wrap=True) for _ in terms)
        wide = width > 2 * BAR_COLUMNS
        line = Table.grid(*columns, padding=(0, 2, 0, 0), pad_edge=False, expand=not wide)
        bar = ProgressBar(self._steps, self._step, width=BAR_COLUMNS if wide else None)
        line.add_row(f"{self._step / self._steps:4.0%}", bar, *terms)
        return Group(line, Text("\n".join(wrap_line(f"{INDENT}{self._numbers}", width, INDENT, TERM))))


def progress_bar(items: Iterable, total: int) -> Iterable:
    """The items; in a terminal, under a bar with the time that remains, which goes when they are all taken."""
    if total < 2 or not redraws(sys.stderr):
        return items
    from rich.console import Console
    from rich.progress import track

    return track(items, "", total, console=Console(stderr=True), transient=True)
