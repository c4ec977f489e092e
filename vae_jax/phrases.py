"""Counts, lists, times and sizes in words."""

from collections.abc import Sequence

MINUTE, HOUR, DAY = 60, 3600, 86400


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
