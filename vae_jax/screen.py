"""Lines that fit a terminal: how wide it is, how wide text is, and where a line may break."""

import os
import re
import shutil
import sys
import unicodedata
from io import TextIOBase
from typing import TextIO

from vae_jax.phrases import JOINERS

WORD = re.compile(r"\s*\S+")
"""A word with the spaces before it."""


def terminal_size(stream: TextIO | TextIOBase) -> os.terminal_size:
    """Columns and lines of the terminal that `stream` goes to, as they are now."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError, AttributeError):  # it is no terminal, or a stand-in of one
        return shutil.get_terminal_size()
    return size if size.columns and size.lines else shutil.get_terminal_size()


def cells(text: str) -> int:
    """How many columns of a terminal the text takes: East Asian characters two each, combining ones none."""
    return sum(_character_cells(character) for character in text)


def _character_cells(character: str) -> int:
    if unicodedata.combining(character) or character in JOINERS:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def wrap_line(text: str, width: int, indent: str = "") -> list[str]:
    """The text in lines of at most `width` columns, broken between words; a longer word is a line by itself.

    Args:
        text: one line, whose spaces are kept but where it breaks.
        width: columns.
        indent: what the lines after the first begin with.
    """
    lines, line = [], ""
    for word in WORD.findall(text):
        if line.strip() and cells(line + word) > width:
            lines.append(line)
            line = indent + word.lstrip()
        else:
            line += word
    return [*lines, line]


def cut(text: str, width: int) -> str:
    """As much of the text as `width` columns have room for."""
    end = len(text)
    while cells(text[:end]) > width:
        end -= 1
    return text[:end]


def wrap_text(text: str, indent: str = "", stream: TextIO | TextIOBase | None = None) -> str:
    """Text for `stream`, or standard output: where that is a terminal, its lines wrapped to its width."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return text
    width = terminal_size(stream).columns
    return "\n".join(part for line in text.split("\n") for part in wrap_line(line, width, indent))
