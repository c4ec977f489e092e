"""Trains one run."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jax import data, model, randomness
from vae_jax.config.parse import flatten
from vae_jax.errors import UserError
from vae_jax.training import executors, processes, workdir, writers
from vae_jax.training.loop import train_until
from vae_jax.training.metric_runner import read_evaluation
from vae_jax.training.processes import SINGLE_PROCESS, ProcessGroup
from vae_jax.training.recorder import print_header, print_summary
from vae_jax.training.run import TrainingRun, versions
from vae_jax.training.setup import blank_run, initial_state_fn, prepare
from vae_jax.training.signals import StopSignal, stop_signals


def config_record(config: ConfigDict, dataset: data.Dataset) -> dict[str, Any]:
    """What config.json holds of a run."""
    return {"config": config.to_dict(), "image_shape": list(dataset.image_shape)}


def finished(folder: Path, steps: int) -> bool:
    """Whether the run in `folder` has been evaluated at its last step; metrics alone, asked for later, do not count."""
    found = read_evaluation(folder / "evaluation.json", steps)
    return "loss" in found


def train_in_folder(config: ConfigDict, folder: Path, process_flags: Mapping[str, str] = MappingProxyType({})) -> int:
    """Trains the run of `config` in `folder`, from its newest checkpoint or from the start; the exit status.

    Args:
        process_flags: those of processes.FLAGS that were given, where this process is one of several of a job.

    Returns:
        0 where the run has finished, 1 where it diverged, 128 + n where signal n stopped it.

    Raises:
        UserError: naming what is wrong with the config, the folder or the machine.
    """
    group = processes.join(process_flags, config.parallel.heartbeat)
    fields = {f"config.{field}": value for field, value in flatten(config).items()}
    group.alike(versions() | {"--workdir": str(folder)} | fields)
    devices = executors.all_devices(config.parallel.devices)
    dataset, built = group.everywhere(lambda: prepare(config))
    executors.check_divides("config.train.batch_size", config.train.batch_size, devices)
    with processes.abort_on_failure(group), processes.silence_non_primary(group), contextlib.ExitStack() as held:

        def claim() -> bool:
            held.enter_context(workdir.claim(folder, config_record(config, dataset)))
            return finished(folder, config.train.steps)

        if group.of_first(claim):
            print(f"{folder}: this run has finished ({config.train.steps} steps); its results are there")
            return 0
        stop = held.enter_context(stop_signals(group.most))
        return train_run(config, folder, dataset, built, devices, stop, group)


def directly(member: TrainingRun, act: Callable[..., Any], *arguments: Any, but: type[Exception]) -> None:
    """In place of Member.try_to for a run of its own: what breaks it is the program's error."""
    act(*arguments)


def train_run(
    config: ConfigDict,
    folder: Path,
    dataset: data.Dataset,
    built: model.Model,
    devices: list,
    stop: StopSignal,
    group: ProcessGroup = SINGLE_PROCESS,
    attempt: Callable[..., None] = directly,
) -> int:
    """Trains one run in `folder`, from its newest checkpoint or from the start; the exit status of all of `group`.

    `attempt` calls what may be broken of this run alone, to load and to finish it: Member.try_to where others follow.
    """
    member, status = TrainingRun(config, folder, group=group), 1
    like = jax.eval_shape(initial_state_fn(config, dataset, built), randomness.root_key(config.seed))
    try:
        attempt(member, member.load, like, but=UserError)
        if member.alive:
            print_header(config, folder, dataset, like.params, devices, member.step)
            status = train_to_end(member, dataset, built, devices, stop, attempt)
    finally:
        member.close(status)
    return max(group.meet(f"the end of {folder}", status))


def train_to_end(
    member: TrainingRun,
    dataset: data.Dataset,
    built: model.Model,
    devices: list,
    stop: StopSignal,
    attempt: Callable[..., None],
) -> int:
    """Trains and finishes a run that is loaded; the exit status."""
    config, first = member.config, member.step
    progress, began = writers.Progress(first, config.train.steps), time.perf_counter()
    member.say = progress.say
    try:
        placement = executors.data_parallel(devices)
        (held_out,) = train_until([member], config.train.steps, dataset, built, placement, progress, stop)
        if member.alive and member.step < config.train.steps:
            progress.say(f"stopped by a signal at step {member.step}, saved; the same command goes on from here")
            return 128 + stop.number
    finally:
        progress.close()
    if member.alive and member.writes:
        seconds = time.perf_counter() - began
        attempt(member, member.finish, dataset, blank_run(config, dataset, built), held_out, but=Exception)
        if member.alive:
            print_summary(config, member.folder, held_out, config.train.steps - first, seconds)
    return 0 if member.alive else 1
