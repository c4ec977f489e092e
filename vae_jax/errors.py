"""What a person gave that is wrong, said in one line."""

import contextlib
import difflib
import errno
from collections.abc import Collection, Iterator
from typing import Any

from vae_jax.phrases import printable

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the operating system that room on the disk mends."""


class UserError(ValueError):
    """Something the user gave is wrong; the message is one line that says what and what is allowed."""


def message_of(error: BaseException) -> str:
    """What an error says, in words for a person; an error of the operating system begins with the file's name."""
    if isinstance(error, OSError) and error.strerror:
        names = [printable(str(name)) for name in (error.filename, error.filename2) if name is not None]
        remedy = "; free some space and give the same command again" if error.errno in FULL else ""
        return ": ".join([*names[:1], error.strerror.lower()]) + remedy
    return str(error) or type(error).__name__


@contextlib.contextmanager
def errors_of(prefix: str) -> Iterator[None]:
    """Puts `prefix` before the argument that a UserError names: "hidden: ..." becomes "config.net.hidden: ...".

    A library function names its own argument; who calls it for a config or a command line says where that came from.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{prefix}{error}") from None


def unknown_name(field: str, value: Any, allowed: Collection[str]) -> UserError:
    """The error for a name that is not among `allowed`, with the nearest one that is."""
    names = sorted(allowed)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UserError(f"{field}: {value!r} is unknown; known: {', '.join(names) or 'nothing'}{hint}")
