"""Trains one run, from its newest checkpoint or from the start."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from vae_jax.config.parse import flatten
from vae_jax.config.run_end import has_ended
from vae_jax.errors import UserError
from vae_jax.files import read_json
from vae_jax.jax_flags import pinned_flags
from vae_jax.screen import wrap_text
from vae_jax.training import processes, workdir
from vae_jax.training.bars import Progress
from vae_jax.training.evaluate_run import evaluate_run
from vae_jax.training.executors import DataParallel, Devices, all_devices, check_divides
from vae_jax.training.loop import train_until
from vae_jax.training.processes import SINGLE_PROCESS, ProcessGroup
from vae_jax.training.recorder import print_header, print_summary
from vae_jax.training.run import Errors, TrainingRun, versions
from vae_jax.training.setup import Setup, prepare
from vae_jax.training.signals import StopSignal, stop_signals
from vae_jax.training.start import Start, begin_from, has_begun, read_start
from vae_jax.training.step import TrainState

Failures = Callable[[TrainingRun, Errors], contextlib.AbstractContextManager[None]]
"""failures(run, kind): what becomes of an error of this kind."""


def propagate(run: TrainingRun, kind: Errors) -> contextlib.AbstractContextManager[None]:
    """What breaks a run is the program's error."""
    return contextlib.nullcontext()


def isolate(run: TrainingRun, kind: Errors) -> contextlib.AbstractContextManager[None]:
    """What breaks a run ends this run alone: others follow."""
    return run.isolate_failure(kind)


@pinned_flags()
def train_in_folder(
    config: ConfigDict, folder: Path, process_flags: Mapping[str, str] = MappingProxyType({}), start: str = ""
) -> int:
    """Trains the run of `config` in `folder`, from its newest checkpoint or from the start; the exit status.

    Args:
        start: RUN or RUN:best, the run and the checkpoint whose weights it begins with; random ones where it is empty.
        process_flags: those of processes.FLAGS that were given, where this process is one of several of a job.

    Returns:
        0 where the run has finished, 1 where it diverged, 128 + n where signal n stopped it.

    Raises:
        UserError: naming what is wrong with the config, the folder or the machine.
    """
    group = processes.join(process_flags, config.parallel.heartbeat)
    fields = {f"config.{field}": value for field, value in flatten(config).items()}
    group.assert_equal(versions() | {"--workdir": str(folder)} | fields)
    devices = all_devices(config.parallel.devices)
    setup = group.run_on_all(lambda: prepare(config))
    check_divides("config.train.batch_size", config.train.batch_size, devices)
    begin = group.run_on_all(lambda: read_start(start, folder))
    state = group.run_on_all(lambda: None if begin is None or has_begun(folder) else begin_from(begin, config, setup))
    with processes.abort_on_failure(group), processes.silence_non_primary(group), contextlib.ExitStack() as claims:

        def claim() -> bool:
            record = config_record(config, setup, begin)
            claims.enter_context(workdir.claim(folder, record, setup.fits_after_training))
            return finished(folder, config.train.steps)

        if group.broadcast_first(claim):
            print(wrap_text(f"{folder}: this run has finished; its results are there"))
            return add_metrics(folder, config.evaluation.metrics) if group.index == 0 else 0
        stop = claims.enter_context(stop_signals(group.all_max))
        return train_run(TrainingRun(config, folder, group=group), setup, devices, stop, group, first_state=state)


def add_metrics(folder: Path, words: str) -> int:
    """Computes the metrics of `words` that a finished run has not; the exit status."""
    if not words:
        return 0
    _, failed = evaluate_run(folder, metrics=words, missing_only=True)
    return int(bool(failed))


def train_run(
    run: TrainingRun,
    setup: Setup,
    devices: Devices,
    stop: StopSignal,
    group: ProcessGroup = SINGLE_PROCESS,
    failures: Failures = propagate,
    first_state: TrainState | None = None,
) -> int:
    """Trains `run` from where it stands, then writes its results; the exit status of all of `group`.

    Args:
        first_state: what it begins with where it has no checkpoint; its own random weights unless given.
        failures: `propagate`, or `isolate` where other runs follow and a failure ends this one alone.
    """
    status = 1
    try:
        with failures(run, (UserError, OSError)):
            run.restore(setup.state_shape)
            run.state = first_state if run.state is None else run.state
        if run.alive:
            print_header(run.config, run.folder, setup.dataset, setup.state_shape.params, devices, run.step)
            status = _train_to_end(run, setup, devices, stop, failures)
    finally:
        run.close(status)
    return max(group.barrier(f"the end of {run.folder}", status))


def _train_to_end(run: TrainingRun, setup: Setup, devices: Devices, stop: StopSignal, failures: Failures) -> int:
    steps, first, start = run.config.train.steps, run.step, time.perf_counter()
    with contextlib.closing(Progress(first, steps, run.folder.name)) as progress:
        run.say = progress.say
        with failures(run, OSError):
            run.open_records(progress)
        if not run.alive:
            return 1
        (results,) = train_until([run], steps, setup, DataParallel(devices), progress, stop)
        if run.alive and not run.complete:
            progress.say(f"stopped by a signal at step {run.step}, saved; the same command resumes from here")
            return 128 + stop.signal
    seconds = time.perf_counter() - start
    if run.alive and run.writes:
        with failures(run, Exception):
            run.write_results(setup, results)
        if run.alive:
            print_summary(run.config, run.folder, results, run.step - first, seconds)
    return 0 if run.alive else 1


def config_record(config: ConfigDict, setup: Setup, start: Start | None = None) -> dict[str, Any]:
    """What config.json holds of a run."""
    return {"config": config.to_dict(), **setup.record} | ({} if start is None else {"from": start._asdict()})


def finished(folder: Path, steps: int) -> bool:
    """Whether the run in `folder` has ended and been evaluated."""
    return has_ended(read_json(folder / "evaluation.json"), steps)
