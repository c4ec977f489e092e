"""The folder of a run: who may write there, and whether it is the same run."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vae_jax.errors import UserError
from vae_jax.training.writers import plain, write_json

TRIES = 3
"""How often a folder is asked for."""


@contextlib.contextmanager
def claim(workdir: Path, run: dict[str, Any]) -> Iterator[None]:
    """Holds `workdir` for this process alone, as the folder of `run`, which is written to config.json.

    The lock is the kernel's: it goes with the process, however that ends. Raises UserError where the
    folder cannot be made or written, is in use, or belongs to a run of another config.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir: {str(workdir)!r} cannot be a folder ({error.strerror}); give another") from None
    if not os.access(workdir, os.W_OK | os.X_OK):
        raise UserError(f"--workdir: {str(workdir)!r} is not writable; give another")
    try:
        handle = os.open(workdir, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"--workdir: {str(workdir)!r} cannot be read ({error.strerror}); give another") from None
    try:
        if not _lock(handle):
            raise UserError(f"--workdir: {str(workdir)!r} is in use by another process; wait for it or give another")
        _same_run(workdir, run)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Whether the folder is ours now; who only looks whether it is in use holds it for a moment."""
    for _ in range(TRIES):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)
    return False


def _same_run(workdir: Path, run: dict[str, Any]) -> None:
    file = workdir / "config.json"
    if not file.exists():
        write_json(file, run)
        return
    try:
        there = _leaves(dict(json.loads(file.read_text())))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{file}: is not a run's config; it is damaged, give another workdir") from None
    given = _leaves(plain(run))
    differ = [
        f"{name} (there {there.get(name, 'absent')!r}, here {given.get(name, 'absent')!r})"
        for name in sorted(there.keys() | given.keys())
        if there.get(name) != given.get(name)
    ]
    if differ:
        raise UserError(
            f"--workdir: {str(workdir)!r} holds a run of another config: {', '.join(differ)}; give another workdir"
        )


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    leaves = {}
    for name, value in tree.items():
        leaves.update(_leaves(value, f"{prefix}.{name}" if prefix else name))
    return leaves
