"""What a person gave that is wrong, said in one line."""

import difflib
from collections.abc import Collection
from typing import Any


class UserError(ValueError):
    """Something the user gave is wrong; the message is one line that says what and what is allowed."""


def unknown_name(field: str, value: Any, allowed: Collection[str]) -> UserError:
    """The error for a name that is not among `allowed`, with the nearest one that is."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"{field}: {value!r} is unknown; known: {', '.join(names) or 'nothing'}{hint}")
