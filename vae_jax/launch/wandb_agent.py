"""Runs the trials that a W&B sweep hands out, one after another, each as vae-jax sweep would run it."""

import _thread
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from ml_collections import ConfigDict

from vae_jax.config.command_line import Overrides
from vae_jax.errors import UserError
from vae_jax.files import read_json, read_records, write_json
from vae_jax.launch.slurm_queue import lock_unqueued
from vae_jax.launch.stopping import StopSignals, catch_stop_signals
from vae_jax.phrases import printable, shorten
from vae_jax.sweeps import study
from vae_jax.sweeps.algebra import Point
from vae_jax.sweeps.groups import PlannedRun, group_runs, plan_runs
from vae_jax.sweeps.study import DONE, DROPPED, FAILED, PlanEntry
from vae_jax.training import writers

COMMAND = [sys.executable, "-m", "vae_jax", "train"]
"""What trains a trial, given the words of its run and --workdir."""

TRIAL_VARIABLES = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_ENTITY", "WANDB_PROJECT")
"""The variables by which W&B's agent tells a trial what it is."""

MAX_FAILURES = 3
"""Trials that fail in a row before the agent gives up: a sweep may draw wrong points for ever."""

POLL_SECONDS = 0.1
"""Seconds between looks at a trial's process."""


def run_trials(sweep_path: str, file: str, overrides: Overrides, folder: Path, count: int = 0) -> int:
    """Runs the trials of a W&B sweep; the exit status. Raises UserError where the config or the sweep is wrong.

    Args:
        sweep_path: the sweep, as ID, PROJECT/ID or ENTITY/PROJECT/ID.
        file: the config NAME|FILE.py[:ARGUMENT] of every trial.
        overrides: fields of every trial.
        folder: the study's.
        count: trials to ask for at most; 0 for all there are.
    """
    overrides = online(overrides)
    (template,) = plan_runs(file, overrides, [{}])  # what holds for every trial is checked before any
    with lock_unqueued(folder), catch_stop_signals(interrupt=True) as stop:
        agent = Agent(file, overrides, folder, template.config, stop)
        with contextlib.suppress(KeyboardInterrupt):
            agent.resume_trials(sweep_path.rpartition("/")[2])
            request_trials(sweep_path, template.config, folder, count, agent.run_next)
    successes = sum(agent.outcomes)
    print(f"{successes} trials done, {len(agent.outcomes) - successes} failed; in {folder}")
    if stop.requested and not agent.gave_up:
        return stop.exit_status
    return int(not all(agent.outcomes))


def online(overrides: Overrides) -> Overrides:
    """The overrides, with a run that W&B can follow. Raises UserError where they ask for another."""
    for field, value in overrides:
        if field == "wandb.mode" and value != "online":
            raise UserError(f"config.wandb.mode: {value!r} is not allowed; a sweep's trials are 'online'")
    return list(dict([*overrides, ("wandb.mode", "online")]).items())


def stops_trial(error: Exception) -> bool:
    """Whether W&B's agent stops a trial: it raises a bare Exception, wherever the trial's thread is."""
    return type(error) is Exception and not error.args


@dataclasses.dataclass(frozen=True)
class Agent:
    """Runs trials of one config in one study's folder; `outcomes` says of each that ended whether it ended well."""

    file: str
    overrides: Overrides
    folder: Path
    template: ConfigDict
    stop: StopSignals
    outcomes: list[bool] = dataclasses.field(default_factory=list)

    @property
    def gave_up(self) -> bool:
        """Whether so many trials in a row have failed that no more are asked for."""
        return self.outcomes[-MAX_FAILURES:] == [False] * MAX_FAILURES

    def resume_trials(self, sweep_id: str) -> None:
        """Goes on with the trials of the sweep that this study has begun and not ended."""
        for run, environment in unfinished_trials(self.folder, sweep_id):
            print(f"{run.id}: goes on, as the trial {environment['WANDB_RUN_ID']}", flush=True)
            self.outcomes.append(train(run.words, self.folder / run.id, environment) == 0)

    def run_next(self) -> None:
        """Runs the trial that the environment names, unless the agent is to stop."""
        if self.stop.requested:
            return
        name = os.environ["WANDB_RUN_ID"]
        try:
            outcome = self.run_trial(name, Path(os.environ["WANDB_SWEEP_PARAM_PATH"]))
        except Exception as error:
            if not stops_trial(error):
                raise
            outcome = None
            if not self.stop.requested:
                print(f"the trial {name} was stopped in W&B", flush=True)
        if outcome is not None:
            self.outcomes.append(outcome)
        if self.gave_up:
            print(f"error: {MAX_FAILURES} trials in a row have failed; no more are asked for", file=sys.stderr)
            _thread.interrupt_main()

    def run_trial(self, name: str, parameters_file: Path) -> bool | None:
        """Runs a trial; whether it ended well, None where it was stopped."""
        try:
            (run,) = plan_runs(self.file, self.overrides, [read_point(parameters_file)], self.folder)
        except UserError as error:
            return self.fail(name, str(error).splitlines()[-1].strip())
        (group,) = group_runs([run])
        (entry,) = group.entries()
        study.write_plan(self.folder, [entry])
        state = study.end_state(self.folder / run.id, entry.steps)
        if state == FAILED:
            reason = study.failure_reason(self.folder / run.id)
            return self.fail(name, f"{run.id} has failed before ({reason}); remove its failed.json to try it again")
        if state in (DONE, DROPPED):
            print(f"{run.id}: has ended before; the trial {name} is told its records", flush=True)
            upload(self.folder / run.id, run.config)
            return True
        return self.train_trial(name, run)

    def train_trial(self, name: str, run: PlannedRun) -> bool | None:
        """Trains the run of a trial; whether it ended well, None where it was stopped."""
        folder, file = self.folder / run.id, trial_file(self.folder, run.id)
        environment = {variable: os.environ[variable] for variable in TRIAL_VARIABLES if variable in os.environ}
        try:
            write_json(file, environment)
            status = train(run.words, folder, environment)
        except Exception as error:
            if not stops_trial(error):
                raise
            if not self.stop.requested:  # on its site: it is not to go on
                file.unlink(missing_ok=True)
                print(f"{run.id}: the trial {name} was stopped in W&B", flush=True)
            return None
        if status not in (0, 128 + signal.SIGTERM) and not (folder / "failed.json").exists():
            return self.fail(name, f"{run.id} ended with status {status}; the same command tries it again")
        return status == 0

    def fail(self, name: str, reason: str) -> bool:
        """Says why a trial has failed, here and to W&B; False, for it has."""
        with tempfile.TemporaryDirectory() as folder:
            mirror = writers.WandbMirror(Path(folder), self.template.wandb.to_dict() | {"name": printable(name)}, {})
            report_failure(name, reason, mirror)
        return False


def report_failure(name: str, reason: str, mirror: writers.WandbMirror) -> None:
    """Says why a trial has failed, here and to its run in W&B."""
    reason = shorten(printable(reason))
    print(f"error: trial {printable(name)}: {reason}", file=sys.stderr, flush=True)
    mirror.summary({"error": reason}, prefix="failed")
    mirror.close(1)


def request_trials(sweep_path: str, config: ConfigDict, folder: Path, count: int, run: Callable[[], None]) -> None:
    """Lets W&B's own agent call `run` for each trial of the sweep. Raises UserError where there is no sweep."""
    import wandb

    os.environ["WANDB_DIR"] = str((folder / "programs").resolve())  # where it leaves each trial's parameters
    entity, project = config.wandb.entity or None, config.wandb.project or None
    try:
        if not wandb.login(prompt=False, verify=False):
            raise UserError("SWEEP_ID: W&B has no API key here; wandb login keeps one")
        wandb.agent(sweep_path, function=run, entity=entity, project=project, count=count or None)
    except (wandb.errors.Error, wandb.errors.UsageError) as error:
        reason = printable(str(error).strip().partition("\n")[0])
        raise UserError(f"SWEEP_ID: {sweep_path!r}: W&B does not give its trials ({reason}); see wandb sweep") from None


def unfinished_trials(folder: Path, sweep_id: str) -> list[tuple[PlanEntry, dict[str, str]]]:
    """Trials of the sweep that this study has begun and not ended, with the environment that W&B's agent gave them.

    Without those that a process still trains, as where an agent was killed.
    """
    trials = []
    for run in study.read_plan(folder) if study.has_plan(folder) else ():
        recorded = read_json(trial_file(folder, run.id))
        environment = {name: value for name, value in recorded.items() if isinstance(value, str)}
        if environment.get("WANDB_SWEEP_ID") != sweep_id or "WANDB_RUN_ID" not in environment:
            continue
        if study.end_state(folder / run.id, run.steps) is not None:
            continue
        if study.is_locked(folder / run.id):
            print(f"{run.id}: another process trains it, as the trial {environment['WANDB_RUN_ID']}; left to it")
        else:
            trials.append((run, environment))
    return trials


def trial_file(folder: Path, name: str) -> Path:
    """The file that has what W&B's agent told the trial of a run."""
    return folder / "programs" / f"{name}.trial.json"


def read_point(file: Path) -> Point:
    """The point of a trial, from W&B's own file."""
    listed = yaml.safe_load(file.read_text())
    return {field: entry["value"] for field, entry in listed.items() if isinstance(entry, dict) and "value" in entry}


def train(words: Sequence[str], folder: Path, environment: dict[str, str]) -> int:
    """Trains a run in its folder, from where it stands; the exit status. An exception here lets it save and end."""
    folder.mkdir(exist_ok=True)
    id_file = folder / "wandb" / "id"
    id_file.parent.mkdir(exist_ok=True)
    id_file.write_text(environment["WANDB_RUN_ID"])  # also whoever goes on with it without this agent tells the trial
    (folder / writers.TRIAL_FILE).unlink(missing_ok=True)  # of an agent of many at once: the environment says it here
    process = subprocess.Popen(
        [*COMMAND, *words, f"--workdir={folder}"],
        stdin=subprocess.DEVNULL,
        env=os.environ | environment | {"WANDB_SERVICE": ""},  # with that of the agent W&B would hear nothing after it
        start_new_session=True,  # Ctrl-C comes to the agent alone, which tells the trial once
    )
    try:
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
    return process.returncode


def upload(folder: Path, config: ConfigDict) -> None:
    """Sends to W&B, as the trial that the environment names, the records and results of a run that has ended."""
    send_records(folder, config, writers.WandbMirror(folder, config.wandb.to_dict(), config.to_dict()))


def send_records(folder: Path, config: ConfigDict, mirror: writers.WandbMirror) -> None:
    """Sends the records and results of a run that has ended, and ends its run in W&B."""
    for record in read_records(folder / "metrics.jsonl"):
        mirror.metrics(record)
    step = read_json(folder / "evaluation.json").get("step", config.train.steps)
    for picture in sorted((folder / "pictures").glob("*.png")):
        mirror.picture(picture, step)
    for checkpoint, name in (("final", "evaluation.json"), ("best", "evaluation_best.json")):
        if evaluation := read_json(folder / name):
            mirror.summary({field: value for field, value in evaluation.items() if field != "step"}, checkpoint)
    mirror.close(0)
