"""Counts, lists, times and sizes in words."""

import unicodedata
from collections.abc import Sequence

MINUTE, HOUR, DAY = 60, 3600, 86400

ACTING = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of characters that a terminal acts on, or that cannot be written."""

JOINERS = "\u200c\u200d"
"""Characters of ACTING that do no more than join letters or not: Persian words and many emoji have them."""

MESSAGE_LENGTH = 1000
"""Characters of an error's line that are shown."""


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
    if text.isprintable():  # what nearly every text is
        return text
    return "".join(repr(character)[1:-1] if _acts(character) else character for character in text)


def _acts(character: str) -> bool:
    return unicodedata.category(character) in ACTING and character not in JOINERS


def shorten(text: str, length: int = MESSAGE_LENGTH) -> str:
    """The text, or of a longer one as much of its beginning and its end as make `length` characters, with ... between.

    A value of a person's file may be of any length, and a message with it too.
    """
    if len(text) <= length:
        return text
    end = (length - 5) // 3
    return f"{text[: length - 5 - end]} ... {text[-end:]}"


def whole_number(text: str) -> int:
    """The whole number that a text is: "500", "20_000", "1e4". Raises ValueError where it is none."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
    if not number.is_integer():  # nor is an infinity
        raise ValueError(f"{text!r} is not a whole number")
    return int(number)
