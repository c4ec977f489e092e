"""Runs the trials that a W&B sweep hands out, one after another, each as launch.local would run it."""

import _thread
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ml_collections import ConfigDict

from vae_jax.config.command_line import Overrides
from vae_jax.errors import UserError
from vae_jax.sweeps import algebra, plan, study
from vae_jax.sweeps.study import DONE, DROPPED, FAILED
from vae_jax.training import writers
from vae_jax.training.signals import signal_handlers

COMMAND = [sys.executable, "-m", "vae_jax", "train"]
"""What trains a trial, given the words of its run and --workdir."""

TOLD = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_ENTITY", "WANDB_PROJECT")
"""The variables by which W&B's agent tells a trial what it is."""

FAILURES = 3
"""Trials that fail in a row before the agent gives up: a sweep may draw wrong points for ever."""

POLL = 0.1
"""Seconds between looks at a trial's process."""


def online(overrides: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The overrides, with a run that W&B can follow. Raises UserError where they ask for another."""
    for field, value in overrides:
        if field == "wandb.mode" and value != "online":
            raise UserError(f"config.wandb.mode: {value!r} is not allowed; a sweep's trials are 'online'")
    return list(dict([*overrides, ("wandb.mode", "online")]).items())


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that gains the number of each signal to stop, which also ends what the main thread is at."""
    caught: list[int] = []

    def catch(number, frame):
        caught.append(number)
        raise KeyboardInterrupt

    with signal_handlers(catch, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        yield caught


def run_trials(path: str, file: str, overrides: Overrides, folder: Path, count: int = 0) -> int:
    """Runs the trials of the sweep `path`, at most `count` (0: all there are); the exit status.

    Raises UserError where the config or the sweep is wrong.
    """
    overrides = online(overrides)
    (base,) = algebra.runs(file, overrides, [{}])  # what holds for every trial is checked before any
    outcomes: list[bool] = []
    with study.hold(folder), stop_signals() as stop, contextlib.suppress(KeyboardInterrupt):
        for run, environment in begun(folder, path.rpartition("/")[2]):
            print(f"{run.id}: goes on, as the trial {environment['WANDB_RUN_ID']}", flush=True)
            outcomes.append(train(run.words, folder / run.id, environment) == 0)

        def trial() -> None:
            if stop:
                return
            well = run_trial(file, overrides, folder, base.config, stop)
            outcomes.extend([] if well is None else [well])
            if outcomes[-FAILURES:] == [False] * FAILURES:
                print(f"error: {FAILURES} trials in a row have failed; no more are asked for", file=sys.stderr)
                _thread.interrupt_main()

        ask(path, base.config, folder, count, trial)
    print(f"{sum(outcomes)} trials done, {len(outcomes) - sum(outcomes)} failed; in {folder}")
    gave_up = outcomes[-FAILURES:] == [False] * FAILURES
    return 128 + stop[0] if stop and not gave_up else int(not all(outcomes))


def ask(path: str, config: ConfigDict, folder: Path, count: int, trial: Callable[[], None]) -> None:
    """Lets W&B's own agent call `trial` for each that the sweep hands out. Raises UserError where there is no sweep."""
    import wandb

    os.environ["WANDB_DIR"] = str((folder / "programs").resolve())  # where it leaves each trial's parameters
    names = {"entity": config.wandb.entity or None, "project": config.wandb.project or None}
    try:
        if not wandb.login(prompt=False, verify=False):
            raise UserError("SWEEP_ID: W&B has no API key here; wandb login keeps one")
        wandb.agent(path, function=trial, count=count or None, **names)
    except (wandb.errors.Error, wandb.errors.UsageError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"SWEEP_ID: {path!r}: W&B does not give its trials ({reason}); see wandb sweep") from None


def begun(folder: Path, sweep_id: str) -> list[tuple[study.Planned, dict[str, str]]]:
    """Trials of the sweep that this study has begun and not ended, with what W&B's agent told them.

    Without those that a process still trains, as where an agent was killed.
    """
    found = []
    for run in study.read_plan(folder) if (folder / "plan.json").exists() else ():
        environment = study.read(trial_file(folder, run.id))
        if environment.get("WANDB_SWEEP_ID") != sweep_id or study.ended(folder / run.id, run.steps) is not None:
            continue
        if study.locked(folder / run.id):
            print(f"{run.id}: another process trains it, as the trial {environment['WANDB_RUN_ID']}; left to it")
            continue
        found.append((run, environment))
    return found


def trial_file(folder: Path, name: str) -> Path:
    """Where what W&B's agent told the trial of a run is kept."""
    return folder / "programs" / f"{name}.trial.json"


def run_trial(
    file: str, overrides: Sequence[tuple[str, str]], folder: Path, base: ConfigDict, stop: Sequence[int]
) -> bool | None:
    """Runs the trial that the environment names; whether it ended well, None where it was stopped."""
    name = os.environ["WANDB_RUN_ID"]
    try:
        point = parameters(Path(os.environ["WANDB_SWEEP_PARAM_PATH"]))
        (run,) = algebra.runs(file, overrides, [point])
    except UserError as error:
        return fail(name, str(error).splitlines()[-1].strip(), base)
    planned = plan.of_program(*algebra.programs([run]))
    study.write_plan(folder, planned)
    how = study.ended(folder / run.id, planned[0].steps)
    if how in (DONE, DROPPED):
        print(f"{run.id}: has ended before; the trial {name} is told its records", flush=True)
        tell(folder / run.id, run.config)
        return True
    if how == FAILED:
        why = study.read(folder / run.id / "failed.json").get("error", "it does not say why")
        return fail(name, f"{run.id} has failed before ({why}); remove its failed.json to try it again", base)
    environment = {variable: os.environ[variable] for variable in TOLD if variable in os.environ}
    writers.write_json(trial_file(folder, run.id), environment)
    try:
        status = train(run.words, folder / run.id, environment)
    except Exception:  # by which W&B's agent stops a trial, here or on its site
        if not stop:  # on its site: it is not to go on
            trial_file(folder, run.id).unlink()
            print(f"{run.id}: the trial {name} was stopped in W&B", flush=True)
        return None
    if status not in (0, 128 + signal.SIGTERM) and not (folder / run.id / "failed.json").exists():
        return fail(name, f"{run.id} ended with status {status}; the same command tries it again", base)
    return status == 0


def parameters(file: Path) -> algebra.Point:
    """The point of a trial, in W&B's own file."""
    listed = yaml.safe_load(file.read_text())
    return {field: entry["value"] for field, entry in listed.items() if isinstance(entry, dict) and "value" in entry}


def train(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> int:
    """Trains a run in its folder, from where it stands; the exit status. An exception here lets it save and end."""
    folder.mkdir(exist_ok=True)
    name = folder / "wandb" / "id"
    name.parent.mkdir(exist_ok=True)
    name.write_text(environment["WANDB_RUN_ID"])  # also whoever goes on with it without this agent tells the trial
    # In a session of its own: Ctrl-C comes to the agent alone, which tells it once.
    process = subprocess.Popen(
        [*COMMAND, *words, f"--workdir={folder}"],
        stdin=subprocess.DEVNULL, env=os.environ | dict(environment), start_new_session=True,
    )  # fmt: skip
    try:
        while process.poll() is None:
            time.sleep(POLL)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
    return process.returncode


def tell(folder: Path, config: ConfigDict) -> None:
    """Sends to W&B, as the trial that the environment names, what is known of a run that has ended."""
    mirror = writers.WandbMirror(folder, config.wandb.to_dict(), config.to_dict())
    for record in writers.read_metrics(folder / "metrics.jsonl"):
        mirror.metrics(record)
    evaluation: dict[str, Any] = study.read(folder / "evaluation.json")
    for picture in sorted((folder / "pictures").glob("*.png")):
        mirror.picture(picture, config.train.steps)
    mirror.summary({field: value for field, value in evaluation.items() if field != "step"})
    mirror.close(0)


def fail(name: str, why: str, base: ConfigDict) -> bool:
    """Says why a trial has failed, here and to W&B; False, for it has."""
    print(f"error: trial {name}: {why}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as nowhere:
        mirror = writers.WandbMirror(Path(nowhere), base.wandb.to_dict() | {"name": name}, {})
        mirror.summary({"error": why}, of="failed")
        mirror.close(1)
    return False
