"""What a run begins with: the weights of another run, where a person says so."""

from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from vae_jax.errors import UserError
from vae_jax.files import read_json, user_path
from vae_jax.randomness import root_key
from vae_jax.training.checkpoint import digest
from vae_jax.training.open_run import open_run
from vae_jax.training.setup import Setup
from vae_jax.training.step import TrainState
from vae_jax.typing import Params

CHECKPOINTS = ("latest", "best")


class Start(NamedTuple):
    """The checkpoint of a run whose weights another begins with, and the digest of those weights."""

    run: str
    checkpoint: str
    step: int
    digest: str


def read_start(words: str, folder: Path) -> Start | None:
    """The start that RUN or RUN:best names; that of the run in `folder`, where it has begun; None for no words.

    Raises UserError where there is no such run.
    """
    if not words:
        return _recorded_start(folder)
    name, colon, checkpoint = words.rpartition(":")
    if not colon or checkpoint not in CHECKPOINTS:
        name, checkpoint = words, "latest"
    known = _recorded_start(folder)
    if known is not None and (known.run, known.checkpoint) == (name, checkpoint):
        return known
    if _run_folder(name).resolve() == folder.resolve():
        raise UserError(f"--from: {name!r} is the run itself; it resumes without --from")
    source = open_run(_run_folder(name), checkpoint)
    return Start(name, checkpoint, source.step, digest(source.params))


def recorded_start(config: str) -> str:
    """What the run began from whose config.json is given as a config, as --from takes it; empty for any other."""
    recorded = read_json(user_path(config)).get("from") if config.endswith(".json") else None
    if not isinstance(recorded, dict):
        return ""
    return f"{recorded.get('run')}:{recorded.get('checkpoint')}"


def has_begun(folder: Path) -> bool:
    """Whether the run in `folder` has a checkpoint, from which it goes on."""
    checkpoints = folder / "checkpoints"
    return checkpoints.is_dir() and any(path.name.isdecimal() for path in checkpoints.iterdir())


def _run_folder(name: str) -> Path:
    try:
        return user_path(name)
    except UserError as error:
        raise UserError(f"--from: {error}") from None


def _recorded_start(folder: Path) -> Start | None:
    recorded = read_json(folder / "config.json").get("from")
    try:
        return None if recorded is None else Start(**recorded)
    except TypeError:
        wrong = f"{folder / 'config.json'}: the record of the run that it began from is damaged"
        raise UserError(f"{wrong}; give another workdir") from None


def begin_from(start: Start, config: ConfigDict, setup: Setup) -> TrainState:
    """The state before the first step, with the weights of `start`: those that it is evaluated with.

    The variant's own parameters come along where it has the same. Step, optimiser and average begin anew.

    Raises:
        UserError: where the networks are of other shapes, or the run has changed since.
    """
    source = open_run(_run_folder(start.run), start.checkpoint)
    if digest(source.params) != start.digest:
        raise UserError(
            f"--from: {start.run!r} has other weights now (step {source.step}) than when this run began "
            f"(step {start.step}); start in a new workdir"
        )
    state = jax.device_get(setup.initial_state(root_key(config.seed)))
    if difference := _first_difference(state.params["nets"], source.params["nets"]):
        raise UserError(f"--from: the networks of {start.run!r} do not fit this config: {difference}")
    own = state.params["own"] if _first_difference(state.params["own"], source.params["own"]) else source.params["own"]
    params = jax.device_get({"nets": source.params["nets"], "own": own})
    average = None if state.average is None else params
    return state._replace(params=params, optimizer=jax.device_get(setup.optimizer.init(params)), average=average)


def _first_difference(params: Params, others: Params) -> str:
    """Where the shapes of two trees differ first, in words; nothing where they do not."""
    shapes, other_shapes = _shapes(params), _shapes(others)
    for name in sorted(shapes.keys() | other_shapes.keys()):
        here, there = shapes.get(name, "nothing"), other_shapes.get(name, "nothing")
        if here != there:
            return f"{name} is {there} there and {here} here"
    return ""


def _shapes(params: Params) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): str(tuple(leaf.shape)) for path, leaf in leaves}
