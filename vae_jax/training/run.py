"""A run while it trains, alone or among others: its folder, its records, where it stands, and how it ended."""

import functools
import platform
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax.data import Dataset
from vae_jax.errors import UserError
from vae_jax.inference import TrainedModel
from vae_jax.training import writers
from vae_jax.training.metric_runner import expand_metrics, run_metrics
from vae_jax.training.processes import SINGLE_PROCESS, ProcessGroup
from vae_jax.training.recorder import Diverged, Recorder, Report, SilentRecorder, check_parameters
from vae_jax.training.step import TrainState, evaluation_params


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


def environment() -> dict[str, Any]:
    """The versions and the devices of a run."""
    return versions() | {"devices": f"{jax.device_count()} x {jax.local_devices()[0].device_kind}"}


class TrainingRun:
    """One of the runs that train together; a run of its own is the only one.

    `step` and `state` are where it stands, the state on the host and None at the start; `alive` is False once it
    has diverged. Of the processes that train it, `group`, the first `writes` its folder.
    """

    def __init__(
        self, config: ConfigDict, folder: Path, say: Callable[[str], Any] = print, group: ProcessGroup = SINGLE_PROCESS
    ):
        from vae_jax.training.checkpoint import Checkpoints

        self.config, self.folder, self.say, self.alive = config, folder, say, True
        self.writes = group.index == 0
        if self.writes:
            (folder / "failed.json").unlink(missing_ok=True)
        self.checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint.keep, group=group)
        self.step, self.state = max(self.checkpoints.steps(), default=0), None
        self.recorder: Recorder | SilentRecorder | None = None

    def load(self, like: TrainState) -> None:
        """Reads the newest whole checkpoint, shaped as `like`, which may be an earlier one than there seemed to be."""
        if self.state is None and self.step:
            self.step, self.state = self.checkpoints.restore(like) or (0, None)

    def begin(self, report: Report) -> None:
        """Opens its records where it stands; what came after is forgotten."""
        if self.recorder is None and self.writes:
            writers.write_json(self.folder / "environment.json", environment())
            self.recorder = Recorder(self.config, self.folder, self.step, report, self.say)
        self.recorder = self.recorder or SilentRecorder()

    def try_to(self, act: Callable[..., Any], *arguments: Any, but: type[Exception] = Diverged) -> None:
        """Calls what may fail by `but`, which ends this member, and no other."""
        if not self.alive:
            return
        try:
            act(*arguments)
        except but as error:
            self.alive = False
            self.checkpoints.wait()
            steps = self.checkpoints.steps()
            kept = f"the last good checkpoint is that of step {steps[-1]}" if steps else "no checkpoint was saved yet"
            why = str(error) if isinstance(error, (Diverged, UserError)) else f"{type(error).__name__}: {error}"
            if self.writes:
                writers.write_json(self.folder / "failed.json", {"step": steps[-1] if steps else 0, "error": why})
            self.say(f"error: {why}; training stopped, {kept}")

    def save(self, step: int, state: TrainState, score: float | None) -> None:
        """Starts to save a state of the host. Raises Diverged where its parameters are not finite."""
        check_parameters(step, state.params)
        self.recorder.sync()
        self.checkpoints.save(step, state, score)

    def finish(self, dataset: Dataset, blank: TrainedModel, held_out: dict[str, Any]) -> None:
        """Pictures, metrics, then evaluation.json, whose presence says that the run is whole."""
        from vae_jax.plots import run_pictures

        config, mirror = self.config, self.recorder.mirror
        run = blank.at(config.to_dict(), jax.tree.map(jnp.asarray, evaluation_params(self.state)), self.step)
        for file in run_pictures.draw(run, dataset, held_out, self.folder / "pictures"):
            mirror.picture(file, self.step)
        # Under another name until it is whole.
        file = self.folder / "evaluation.unfinished.json"
        writers.write_json(file, held_out | {"step": self.step})
        words = expand_metrics(config.evaluation.metrics, run.model, dataset, self.say)
        found, _ = run_metrics(words, run, dataset, file, self.say)
        mirror.summary(found)
        mirror.artifact(self.folder / "checkpoints")
        file.replace(self.folder / "evaluation.json")
        self.state = None

    def close(self, status: int) -> None:
        """Lets go of its files, once all is written."""
        if self.recorder is not None:
            self.recorder.close(status)
        self.checkpoints.close()
