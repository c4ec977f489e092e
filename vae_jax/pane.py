"""The last lines of a terminal, drawn in place by rich: what is printed stays above them.

Imported where there is a terminal alone: whoever writes to a file does not wait for rich.
"""

from io import TextIOBase
from typing import TextIO, cast

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType, Segment, SegmentLines
from rich.text import Text

from vae_jax.screen import wrap_line

INDENT = "    "
"""Of what a line has no room for, on the next."""

ROW_UP = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1))


class Pane:
    """Draws at the end of the terminal `stream`, in as many lines as it has."""

    def __init__(self, stream: TextIO | TextIOBase):
        # Nothing that a person typed is markup, or the name of an emoji.
        self.console = Console(file=cast("TextIO", stream), markup=False, emoji=False, highlight=False)
        self._live: Live | None = None
        self._widths: list[int] = []

    def draw(self, picture: RenderableType) -> None:
        """Shows `picture` in the place of the last one."""
        if self._live is None:
            self._live = Live(
                console=self.console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
            self.console.show_cursor(True)  # which would stay hidden after a kill
        self._unwrap()
        lines = self.console.render_lines(picture, pad=False)[-max(self.console.height - 1, 1) :]
        self._widths = [Segment.get_line_length(line) for line in lines]
        self._live.update(SegmentLines(lines, new_lines=True), refresh=True)

    def print(self, line: str) -> None:
        """Prints a line that stays, broken between words."""
        self._unwrap()
        indent = line[: len(line) - len(line.lstrip())] + INDENT
        self.console.print(Text("\n".join(wrap_line(line, self.console.width, indent))), soft_wrap=True)

    def close(self, keep: bool = False) -> None:
        """Takes the picture away, or leaves it as it stands; the next one begins below."""
        if self._live is None:
            return
        self._unwrap()
        self._live.transient = not keep
        self._live.stop()
        self._live, self._widths = None, []

    def _unwrap(self) -> None:
        """Takes away the rows that a terminal which has become narrower has made of lines; rich counts lines alone."""
        width = self.console.width
        rows = sum(max(columns - 1, 0) // width for columns in self._widths)
        self.console.control(Control(*ROW_UP * rows))
        self._widths = [min(columns, width) for columns in self._widths]
