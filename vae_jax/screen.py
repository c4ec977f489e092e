"""Lines that fit a terminal: how wide it is, and where a line may break; lines of a log, which is none.

Imports rich where a terminal is written to, and not before.
"""

import os
import re
import shutil
import sys
import time
from io import TextIOBase
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType

WHOLE_COLUMNS = 10_000
"""Of what is no terminal, where nothing is cut or broken."""

WORD = re.compile(r"\s*\S+")
"""A word with the spaces before it."""

TERM = re.compile(r"\s*(?:\S| (?=\S))+?(?:,(?=\s)|(?=\s{2})|$)")
"""A term with the spaces before it: words with one space between, up to a comma that ends one."""


def terminal_size(stream: TextIO | TextIOBase) -> os.terminal_size:
    """Columns and lines of the terminal that `stream` goes to, as they are now."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):  # it is no terminal, or a stand-in of one
        return shutil.get_terminal_size()
    return size if size.columns and size.lines else shutil.get_terminal_size()


def wrap_line(text: str, width: int, indent: str = "", unit: re.Pattern[str] = WORD) -> list[str]:
    """The text in lines of at most `width` columns, broken between words; a longer word is a line by itself.

    Args:
        text: one line, whose spaces are kept but where it breaks.
        width: columns.
        indent: what the lines after the first begin with.
        unit: what is not broken, with the spaces before it: WORD or TERM.
    """
    from rich.cells import cell_len

    lines, line = [], ""
    for word in unit.findall(text):
        if line.strip() and cell_len(line + word) > width:
            lines.append(line)
            line = indent + word.lstrip()
        else:
            line += word
    return [*lines, line]


def wrap_text(
    text: str, indent: str = "", unit: re.Pattern[str] = WORD, stream: TextIO | TextIOBase | None = None
) -> str:
    """Text for `stream`, or standard output: where that is a terminal, its lines wrapped to its width."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return text
    width = terminal_size(stream).columns
    return "\n".join(part for line in text.split("\n") for part in wrap_line(line, width, indent, unit))


def log_line(share: float, name: str, *terms: str) -> str:
    """A line of progress where there is no terminal: when, how much is done, of what, and what there is to say."""
    return "  ".join([time_stamp(), f"{share:>4.0%}", *filter(None, [name, *terms])])


def time_stamp() -> str:
    """The time of now, as lines of a log begin with it."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


def redraws(stream: TextIO | TextIOBase) -> bool:
    """Whether `stream` goes to a terminal on which lines can be drawn anew in place."""
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def screen_width(stream: TextIO | TextIOBase) -> int:
    """Columns that a line of `stream` may have."""
    return terminal_size(stream).columns if stream.isatty() else WHOLE_COLUMNS


def rich_lines(picture: "RenderableType", stream: TextIO | TextIOBase) -> list[str]:
    """What rich draws, in lines for `stream`: in colour and as wide as it is where it is a terminal."""
    return draw_lines(picture, screen_width(stream), stream.isatty())


def draw_lines(picture: "RenderableType", width: int, colour: bool) -> list[str]:
    """What rich draws in lines of at most `width` columns; no colours where NO_COLOR is set."""
    from rich.console import Console

    console = Console(
        width=width, color_system="standard" if colour else None, markup=False, emoji=False, highlight=False
    )
    with console.capture() as capture:
        console.print(picture)
    return [line.rstrip() for line in capture.get().split("\n")][:-1]
