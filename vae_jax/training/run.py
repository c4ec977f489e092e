"""A run while it trains, alone or among others: its folder, its records, where it stands, and how it ended."""

import contextlib
import functools
import platform
import subprocess
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax import model
from vae_jax.config.parse import MODULE_FOLDERS
from vae_jax.errors import UserError
from vae_jax.randomness import root_key
from vae_jax.training.checkpoint import Checkpoints
from vae_jax.training.executors import device_kinds
from vae_jax.training.metric_runner import expand_metrics, run_metrics
from vae_jax.training.processes import SINGLE_PROCESS, ProcessGroup
from vae_jax.training.recorder import Diverged, Recorder, SilentRecorder, check_parameters
from vae_jax.training.setup import Setup
from vae_jax.training.step import TrainState, evaluation_params
from vae_jax.training.writers import Progress, write_json
from vae_jax.typing import Key


@functools.cache
def versions() -> dict[str, Any]:
    """With what a run is trained: versions, and the commit of the code where it is in a repository."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        git = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    except OSError:
        git = ""
    return {
        "vae_jax": metadata.version("vae_jax"),
        "git": git,
        "python": platform.python_version(),
        "jax": jax.__version__,
    }


def environment(config: ConfigDict) -> dict[str, Any]:
    """The versions and the devices of a run; and where the user's own modules are, if its config names some."""
    known = versions() | {"devices": device_kinds()}
    words = config.evaluation.metrics.split(",")
    names = [*(config[section].name for section in model.SECTIONS), *(word.partition(":")[0] for word in words)]
    dotted = any("." in name for name in names)
    return known | ({"module_folders": MODULE_FOLDERS} if dotted else {})


class TrainingRun:
    """One of the runs that train together; a run of its own is the only one.

    `step` and `state` are where it stands, the state on the host and None at the start; `alive` is False once it
    has diverged. Of the processes that train it, `group`, the first `writes` its folder.
    """

    def __init__(
        self,
        config: ConfigDict,
        folder: Path,
        say: Callable[[str], Any] = print,
        group: ProcessGroup = SINGLE_PROCESS,
    ):
        self.config, self.folder, self.say, self.alive = config, folder, say, True
        self.writes = group.index == 0
        if self.writes:
            (folder / "failed.json").unlink(missing_ok=True)
        self.checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint.keep, group=group)
        self.step = max(self.checkpoints.steps(), default=0)
        self.state: TrainState | None = None
        self.recorder: Recorder | SilentRecorder = SilentRecorder()

    @property
    def root_key(self) -> Key:
        """The key of its seed."""
        return root_key(self.config.seed)

    @property
    def complete(self) -> bool:
        """Whether it stands at its last step."""
        return self.step == self.config.train.steps

    def restore(self, shape: TrainState) -> None:
        """Reads the newest whole checkpoint, of this `shape`, which may be an earlier one than there seemed to be."""
        if self.state is None and self.step:
            self.step, self.state = self.checkpoints.restore(shape) or (0, None)

    def open_records(self, progress: Progress | None) -> None:
        """Opens its records where it stands, once; what came after is forgotten. They are shown in `progress`."""
        if self.writes and isinstance(self.recorder, SilentRecorder):
            write_json(self.folder / "environment.json", environment(self.config))
            self.recorder = Recorder(self.config, self.folder, self.step, progress, self.say)

    @contextlib.contextmanager
    def isolate_failure(self, kind: type[Exception]) -> Iterator[None]:
        """Ends this run, and no other, where something raises an error of this kind."""
        try:
            yield
        except kind as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.alive = False
        self.checkpoints.wait()
        saved = max(self.checkpoints.steps(), default=0)
        kept = f"the last good checkpoint is that of step {saved}" if saved else "no checkpoint was saved yet"
        reason = str(error) if isinstance(error, (Diverged, UserError)) else f"{type(error).__name__}: {error}"
        if self.writes:
            write_json(self.folder / "failed.json", {"step": saved, "error": reason})
        self.say(f"error: {reason}; training stopped, {kept}")

    def save(self, step: int, state: TrainState, score: float | None) -> None:
        """Starts to save a state of the host. Raises Diverged where its parameters are not finite."""
        check_parameters(step, state.params)
        self.recorder.sync()
        self.checkpoints.save(step, state, score)

    def write_results(self, setup: Setup, held_out: dict[str, Any] | None) -> None:
        """Pictures, metrics, then evaluation.json, whose presence says that the run is complete."""
        from vae_jax.plots import run_pictures  # brings matplotlib

        # Of a run that writes its folder and has come to its last step, where it was evaluated.
        assert isinstance(self.recorder, Recorder)
        assert self.state is not None
        assert held_out is not None
        config, mirror = self.config, self.recorder.mirror
        params = jax.tree.map(jnp.asarray, evaluation_params(self.state))
        trained = setup.template.with_params(config.to_dict(), params, self.step)
        for file in run_pictures.draw(trained, setup.dataset, held_out, self.folder / "pictures"):
            mirror.picture(file, self.step)
        # Under another name until it is complete.
        file = self.folder / "evaluation.unfinished.json"
        write_json(file, held_out | {"step": self.step})
        words = expand_metrics(config.evaluation.metrics, trained.model, setup.dataset, self.say)
        evaluation, _ = run_metrics(words, trained, setup.dataset, file, self.say)
        mirror.summary(evaluation)
        mirror.artifact(self.folder / "checkpoints")
        file.replace(self.folder / "evaluation.json")
        self.state = None

    def close(self, status: int) -> None:
        """Lets go of its files, once all is written."""
        self.recorder.close(status)
        self.checkpoints.close()
