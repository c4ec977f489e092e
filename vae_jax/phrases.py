"""Counts, lists, times and sizes in words."""

import unicodedata
from collections.abc import Sequence

MINUTE, HOUR, DAY = 60, 3600, 86400

ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of characters that a terminal acts on, or that cannot be written."""


def plural(count: int, noun: str) -> str:
    """The count and its noun: "1 run", "2,000 runs"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def join_names(names: Sequence[str], limit: int = 5) -> str:
    """The names in a line, or the first `limit` of them and how many more."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit:,} more"


def format_duration(seconds: float | int) -> str:
    """A length of time in its largest fitting unit."""
    if seconds < 1.5 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 1.5 * HOUR:
        return f"{seconds / MINUTE:.1f} min"
    if seconds < 1.5 * DAY:
        return f"{seconds / HOUR:.1f} h"
    return f"{seconds / DAY:,.1f} days"


def format_bytes(count: float | int) -> str:
    """A number of bytes in its largest fitting unit."""
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:,.1f} {unit}"
    return f"{count / 1000:,.1f} TB"


def printable(text: str) -> str:
    r"""The text in one line, with every character that a terminal might act on as its escape: a newline as "\n".

    Control and format characters, line separators and lone surrogates are such; accents, Greek and emoji are not.
    """
    return "".join(
        repr(character)[1:-1] if unicodedata.category(character) in ACTING else character for character in text
    )
