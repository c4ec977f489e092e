"""The folder of a run: who may write there, and whether it is the same run."""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vae_jax.config.earlier import EARLIER
from vae_jax.config.free_fields import falls_over_all_steps, flatten_tree, is_free
from vae_jax.config.parse import default_values
from vae_jax.errors import UserError
from vae_jax.files import plain, read_json, replacement, to_json, write_json
from vae_jax.typing import Config

TRIES = 3
"""How often a folder is asked for."""


@contextlib.contextmanager
def claim(workdir: Path, run: dict[str, Any], fits_after_training: bool = False) -> Iterator[None]:
    """Holds `workdir` for this process alone, as the folder of `run`, which is written to config.json.

    The lock is the kernel's: it goes with the process, however that ends.

    Args:
        workdir: the folder.
        run: what config.json holds of the run.
        fits_after_training: whether the last step's checkpoint holds more than steps have made.

    Raises:
        UserError: where the folder cannot be made or written, is in use, or belongs to a run of another config.
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
        _same_run(workdir, plain(run), fits_after_training)
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


def _same_run(workdir: Path, given: dict[str, Any], fits_after_training: bool) -> None:
    """Writes config.json, or what of it may change. Raises UserError where the folder is another run's."""
    file = workdir / "config.json"
    if not file.exists():
        _check_unused(workdir)
        write_json(file, given)
        return
    there = read_record(file)
    if "from" in there:
        given = {**given, "from": _same_start(there["from"], given.get("from"))}
    before, now = flatten_tree(there), flatten_tree(given)
    differ = sorted(field for field in before.keys() | now.keys() if before.get(field) != now.get(field))
    changes = [
        f"{field} (there {before.get(field, 'absent')!r}, here {now.get(field, 'absent')!r})"
        for field in differ
        if not _may_change(field, there, given)
    ]
    if changes:
        raise UserError(
            f"--workdir: {str(workdir)!r} holds a run of another config: {', '.join(changes)}; give another workdir"
        )
    if not differ:
        return
    with replacement(file) as temporary:  # before anything is taken back: the disk may be full
        temporary.write_text(to_json(given))
        if "config.train.steps" in differ:
            withdraw_end(workdir, there["config"], fits_after_training)


def _check_unused(workdir: Path) -> None:
    """Raises UserError where a folder without a config holds checkpoints, of whatever run they are."""
    checkpoints = workdir / "checkpoints"
    if checkpoints.is_dir() and any(path.name.isdecimal() for path in checkpoints.iterdir()):
        raise UserError(
            f"--workdir: {str(workdir)!r} holds checkpoints and no config.json to say of which run; put it back "
            "or give another workdir"
        )


def _same_start(there: Any, given: Any) -> Any:
    """What a run began from: as it is recorded, where it is resumed without the word or by another path to the same."""
    if given is None or (isinstance(there, dict) and there.get("digest") == given["digest"]):
        return there
    return given


def read_record(file: Path) -> dict[str, Any]:
    """What a run's config.json holds. Raises UserError where it is none."""
    record = read_json(file)
    if not isinstance(record.get("config"), dict):
        raise UserError(f"{file}: is not a run's config; it is damaged, give another workdir")
    return record


def _may_change(field: str, there: dict[str, Any], given: dict[str, Any]) -> bool:
    """Whether a resumed run may have another value in a field of config.json: all its numbers stay what they were."""
    if field == "data.digest":  # older runs have none
        return "data" not in there
    name = field.removeprefix("config.")
    if name not in flatten_tree(there["config"]):  # of an earlier version, which did what the default does
        earlier = flatten_tree(given["config"]).get(name) == EARLIER[name] if name in EARLIER else None
        return _is_default(name, given["config"]) if earlier is None else earlier
    if name == "train.steps":
        before, now = there["config"]["train"], given["config"]["train"]
        return before["steps"] < now["steps"] and not falls_over_all_steps(now)
    # Elsewhere may be the same data: their digest is in the record too.
    return (is_free(name) or (name == "data.path" and "data" in there)) and field.startswith("config.")


def _is_default(field: str, config: dict[str, Any]) -> bool:
    """Whether a field of `config` has the value that it has where nobody sets it."""
    missing = object()
    value = flatten_tree(config).get(field, missing)
    return value is not missing and plain(default_values(config).get(field, missing)) == value


def withdraw_end(workdir: Path, config: dict[str, Any], fits_after_training: bool) -> None:
    """Makes a run that may have ended one that goes on, as if its last step had been one like the others.

    Its evaluation and pictures keep the step in their names. Its last checkpoint goes unless a longer run would have
    saved the same there: with nothing fitted to it, and where all that is due is due there too.
    """
    step = read_json(workdir / "evaluation.json").get("step", config["train"]["steps"])
    for name in ("evaluation.json", "evaluation_best.json", "pictures"):
        if (path := workdir / name).exists():
            aside = path.with_name(f"{path.stem}_{step}{path.suffix}")
            shutil.rmtree(aside, ignore_errors=True)
            path.replace(aside)
    if fits_after_training or not saved_alike(config, step):
        shutil.rmtree(workdir / "checkpoints" / str(step), ignore_errors=True)


def saved_alike(config: Config, step: int) -> bool:
    """Whether what a run saves at `step` is the same if it ends there and if it goes on."""
    periods = (config["checkpoint"]["every"], config["evaluation"]["every"], config["log"]["every"])
    return not any(step % period for period in periods)
