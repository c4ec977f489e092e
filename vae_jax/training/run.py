"""A run while it trains, alone or among others: its folder, its records, where it stands, and how it ended."""

import contextlib
import functools
import platform
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jax import model
from vae_jax.config.parse import MODULE_FOLDERS
from vae_jax.config.run_end import STOPPED_EARLY
from vae_jax.errors import UserError, message_of
from vae_jax.files import read_json, read_records, write_json
from vae_jax.jax_flags import recorded_flags
from vae_jax.phrases import plural, printable
from vae_jax.randomness import root_key
from vae_jax.training import workdir
from vae_jax.training.bars import Progress
from vae_jax.training.checkpoint import Checkpoints
from vae_jax.training.executors import device_kinds
from vae_jax.training.metric_runner import expand_metrics, read_evaluation, run_metrics
from vae_jax.training.processes import SINGLE_PROCESS, ProcessGroup
from vae_jax.training.recorder import Diverged, Recorder, SilentRecorder, check_parameters, draws_pictures
from vae_jax.training.run_results import VALIDATION, Results
from vae_jax.training.selection import checkpoint_score, decline, finite_score, patience_step
from vae_jax.training.setup import Setup
from vae_jax.training.step import TrainState, evaluation_params
from vae_jax.typing import Key

Errors = type[Exception] | tuple[type[Exception], ...]


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
    known = versions() | {"devices": device_kinds(), "flags": recorded_flags()}
    words = config.evaluation.metrics.split(",")
    names = [*(config[section].name for section in model.SECTIONS), *(word.partition(":")[0] for word in words)]
    dotted = any("." in name for name in names)
    return known | ({"module_folders": MODULE_FOLDERS} if dotted else {})


class OtherFlags(UserError):
    """This process would not go on with a run's numbers, and another may."""


def check_flags(folder: Path) -> None:
    """Raises OtherFlags where a run began under flags that change last digits and this process has others."""
    flags = read_json(folder / "environment.json").get("flags")
    here = recorded_flags()
    if not isinstance(flags, dict) or flags == here:
        return
    name = next(name for name in sorted(flags.keys() | here.keys()) if flags.get(name) != here.get(name))
    raise OtherFlags(
        f"{name}: {here.get(name, 'unset')!r} here, and {flags.get(name, 'unset')!r} where {folder} began to train, "
        "so that its last digits would change on the way; set it as it was, or give another workdir"
    )


class TrainingRun:
    """One of the runs that train together; a run of its own is the only one.

    `step` and `state` are where it stands, the state on the host and None at the start; `alive` is False once it
    has diverged; `stopped_at` is the step at which its patience ran out, `scores` are those of its evaluations by their
    steps, `validated` the numbers of the last. Of the processes that train it, `group`, the first `writes` its folder.
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
        regular = functools.partial(workdir.saved_alike, config)
        self.checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint.keep, group=group, regular=regular)
        self.step = max(self.checkpoints.steps(), default=0)
        self.state: TrainState | None = None
        self.stopped_at: int | None = None
        self.scores: dict[int, float] = {}
        self.validated: dict[str, Any] = {}
        self.recorder: Recorder | SilentRecorder = SilentRecorder()

    @property
    def root_key(self) -> Key:
        """The key of its seed."""
        return root_key(self.config.seed)

    @property
    def complete(self) -> bool:
        """Whether it stands at its last step, be it that its patience ran out."""
        return self.step == self.config.train.steps or self.step == self.stopped_at

    @property
    def active(self) -> bool:
        """Whether it takes further steps where others of its program do."""
        return self.alive and self.stopped_at is None

    @property
    def shows_steps(self) -> bool:
        """Whether W&B or TensorBoard are to have pictures of each evaluation."""
        return isinstance(self.recorder, Recorder) and self.recorder.mirror.shows_steps

    def restore(self, shape: TrainState) -> None:
        """Reads the newest whole checkpoint, of this `shape`, which may be an earlier one than there seemed to be.

        Raises UserError where none is whole, and where this process would not go on with the same numbers.
        """
        if self.state is None and self.step:
            check_flags(self.folder)
            self.step, self.state = self.checkpoints.restore(shape) or (0, None)
            self.scores = _read_scores(self.folder / "metrics.jsonl", self.step)
            self.stop_early()

    def open_records(self, progress: Progress | None) -> None:
        """Opens its records where it stands, once; what came after is forgotten. They are shown in `progress`."""
        if self.writes and isinstance(self.recorder, SilentRecorder):
            write_json(self.folder / "environment.json", environment(self.config))
            self.recorder = Recorder(self.config, self.folder, self.step, progress, self.say)

    @contextlib.contextmanager
    def isolate_failure(self, kind: Errors) -> Iterator[None]:
        """Ends this run, and no other, where something raises an error of this kind."""
        try:
            yield
        except kind as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Ends this run. Where the machine is at fault nothing is written: the same command tries it again."""
        self.alive = False
        with contextlib.suppress(OSError):
            self.checkpoints.wait()
        saved = max(self.checkpoints.steps(), default=0)
        kept = f"the last good checkpoint is that of step {saved}" if saved else "no checkpoint was saved yet"
        expected = isinstance(error, (Diverged, UserError, OSError))
        reason = message_of(error) if expected else f"{type(error).__name__}: {error}"
        if self.writes and not isinstance(error, (OSError, OtherFlags)):
            with contextlib.suppress(OSError):
                write_json(self.folder / "failed.json", {"step": saved, "error": reason})
        self.say(f"error: {printable(reason)}; training stopped, {kept}")

    def record_validation(self, step: int, numbers: dict[str, Any]) -> None:
        """Records an evaluation of the validation split. Raises Diverged where it is not finite."""
        self.recorder.evaluation(step, "validation", numbers)
        self.scores[step], self.validated = checkpoint_score(numbers), numbers

    def draw_step(self, setup: Setup, step: int, state: TrainState) -> None:
        """Draws validation images and samples where W&B or TensorBoard are to show them.

        Nothing of the run depends on it: what goes wrong is said in a line.
        """
        if not self.shows_steps:
            return
        assert isinstance(self.recorder, Recorder)
        from vae_jax.plots import run_pictures  # brings matplotlib

        params = jax.device_put(evaluation_params(state))
        trained = setup.template.with_params(self.config.to_dict(), params, step)
        try:
            folder = self.folder / "pictures" / f"step_{step:08}"
            for file in run_pictures.draw_step(trained, setup.dataset, self.validated, folder):
                self.recorder.mirror.picture(file, step)
        except Exception as error:  # of a full disk, of a network of the user's own: training goes on
            self.say(f"step {step}: no pictures ({printable(message_of(error))})")

    def stop_early(self) -> bool:
        """Whether its patience runs out at its last evaluation, after which it takes no further step."""
        step = patience_step(self.scores, self.config.train.patience) if self.active else None
        if step is None or step != max(self.scores):
            return False
        self.stopped_at = step
        self.say(
            f"stopped at step {step}: train.patience, {plural(self.config.train.patience, 'evaluation')} "
            "in a row were not better"
        )
        return True

    def best_checkpoint(self, shape: TrainState) -> tuple[int, TrainState]:
        """The step and the state of the best checkpoint by the validation split; where it stands if it has failed."""
        assert self.state is not None
        found = None
        if self.alive:
            with self.isolate_failure(UserError):
                found = self.checkpoints.restore(shape, "best")
        return found or (self.step, self.state)

    def record_results(self, results: Results) -> None:
        """Records what is reported of it, and says where validation has fallen for long. Raises Diverged."""
        test = {name: value for name, value in results.latest.items() if not name.startswith(VALIDATION)}
        self.recorder.evaluation(self.step, "test", {name: test[name] for name in test if name != "step"})
        if results.best is not None and (line := decline(self.scores, results.best["step"])):
            self.say(line)

    def save(self, step: int, state: TrainState, score: float | None) -> None:
        """Starts to save a state of the host. Raises Diverged where its parameters are not finite."""
        check_parameters(step, state.params)
        self.recorder.sync()
        self.checkpoints.save(step, state, score)

    def write_results(self, setup: Setup, results: Results | None) -> None:
        """Pictures, the best checkpoint's numbers, metrics, then evaluation.json: it says that the run is complete."""
        # Of a run that writes its folder and has come to its last step, where it was evaluated.
        assert isinstance(self.recorder, Recorder)
        assert self.state is not None
        assert results is not None
        config, mirror = self.config, self.recorder.mirror
        params = jax.device_put(evaluation_params(self.state))
        trained = setup.template.with_params(config.to_dict(), params, self.step)
        if draws_pictures(config):
            from vae_jax.plots import run_pictures  # brings matplotlib

            for file in run_pictures.draw(trained, setup.dataset, results.latest, self.folder / "pictures"):
                mirror.picture(file, self.step)
        if results.best is not None:
            file = self.folder / "evaluation_best.json"
            write_json(file, read_evaluation(file, results.best["step"]) | results.best)
            mirror.summary(results.best, "best")
        # Under another name until it is complete.
        file = self.folder / "evaluation.unfinished.json"
        write_json(file, results.latest | ({STOPPED_EARLY: True} if self.stopped_at else {}))
        words = expand_metrics(config.evaluation.metrics, trained.model, setup.dataset, self.say)
        run_metrics(words, trained, setup.dataset, file, self.say)
        words = expand_metrics(config.evaluation.validation_metrics, trained.model, setup.dataset, self.say)
        evaluation, _ = run_metrics(words, trained, setup.dataset, file, self.say, split="validation")
        mirror.summary(evaluation)
        mirror.artifact(self.folder / "checkpoints")
        file.replace(self.folder / "evaluation.json")
        self.state = None

    def close(self, status: int) -> None:
        """Lets go of its files, once all is written."""
        for close in (partial(self.recorder.close, status), self.checkpoints.close):
            with contextlib.suppress(OSError):  # of a run that ended with it, and has said so
                close()


def _read_scores(file: Path, step: int) -> dict[int, float]:
    """The scores of the evaluations up to `step`, by their steps."""
    records = [
        record for record in read_records(file) if record["step"] <= step and record.get("split") == "validation"
    ]
    return {record["step"]: score for record in records if (score := finite_score(record)) is not None}
