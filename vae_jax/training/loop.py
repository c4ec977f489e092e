"""The loop: take steps, record them, evaluate, save. Runs that train together go through it as one."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jax import data
from vae_jax.training.evaluation import Evaluation, fit_after_training, make_evaluation, member_constants
from vae_jax.training.executors import Executor, StepProgram, replicate
from vae_jax.training.recorder import Diverged, report_population
from vae_jax.training.run import TrainingRun
from vae_jax.training.setup import Setup
from vae_jax.training.signals import StopSignal
from vae_jax.training.step import Hyper, TrainState, evaluation_params
from vae_jax.training.writers import Progress

T = TypeVar("T")


def train_until(
    runs: Sequence[TrainingRun], until: int, setup: Setup, executor: Executor, progress: Progress, stop: StopSignal
) -> list[Any]:
    """Trains runs that stand at one step until all stand at `until`, have diverged, or a signal comes.

    The metrics of a call are fetched while the devices work on the next one, unless that one must wait: nothing is
    saved before it is known to be finite. Where each run stands is then in its `step` and `state`, and saved.

    Returns:
        The held-out numbers of each run if the last step was evaluated, else None.
    """
    config, first = setup.config, runs[0].step
    program = compile_program(setup, [run.config for run in runs], executor)
    state = executor.to_devices([run.state or jax.device_get(setup.initial_state(run.root_key)) for run in runs])
    for run in runs:
        run.open_records(progress if len(runs) == 1 else None)
    step, unread, held_out = first, None, unevaluated(runs)

    for start, step in dispatches(first, until, config):
        state, metrics = program.train_steps(runs, state, start, step)
        record_steps(runs, executor, progress, unread)
        unread, held_out = (start, step, metrics), unevaluated(runs)

        last, halving = step == config.train.steps, step in config.sweep.halving
        evaluation_due = last or halving or step % config.evaluation.every == 0
        if evaluation_due:
            record_steps(runs, executor, progress, unread)
            unread = None
        if last:
            state = fit_after_training(setup, program.configs, state, executor)
        if evaluation_due:
            held_out = program.evaluate(state)
            record_evaluation(runs, step, held_out, progress)

        stopping = stop.requested()  # once a call: what is said to be saved must be what is saved
        regular = last or halving or step % config.checkpoint.every == 0
        if regular or stopping or step == until:
            record_steps(runs, executor, progress, unread)
            unread = None
            # Which is the best must not depend on where a run was stopped.
            save(runs, step, executor.to_host(state), held_out if regular else unevaluated(runs))
        if stopping or not any(run.alive for run in runs):
            break

    if step == config.train.steps and held_out == unevaluated(runs):  # ended before all was written
        held_out = program.evaluate(state)
    for run, host_state in zip(runs, executor.to_host(state), strict=False):
        run.step, run.state = step, jax.tree.map(np.array, host_state)
    for run in runs:
        with run.isolate_failure(OSError):
            run.checkpoints.wait()
    return held_out


def unevaluated(runs: Sequence[TrainingRun]) -> list[Any]:
    """No held-out numbers of any run."""
    return [None] * len(runs)


@dataclass(frozen=True)
class CompiledProgram:
    """The compiled parts of runs that train together, and what of their arguments stays the same from call to call."""

    configs: Sequence[ConfigDict]
    steps: StepProgram
    evaluation: Evaluation
    split: data.Split
    key: jax.Array
    hyper: Hyper

    def train_steps(
        self, runs: Sequence[TrainingRun], state: TrainState, start: int, end: int
    ) -> tuple[TrainState, Any]:
        """The state after the steps from `start` to `end`, and their metrics; runs that diverged stay as they are."""
        size, batch = self.split.size, self.configs[0].train.batch_size
        streams = {
            seed: data.index_stream(seed, start, end - start, size, batch)
            for seed in dict.fromkeys(config.seed for config in self.configs)
        }
        indices = np.stack([streams[config.seed] for config in self.configs])
        alive = np.array([run.alive for run in runs])
        return self.steps(self.split, state, indices, self.key, self.hyper, alive)

    def evaluate(self, state: TrainState) -> list[Any]:
        """The held-out numbers of each run."""
        return self.evaluation(evaluation_params(state), state.step)[: len(self.configs)]


def compile_program(setup: Setup, configs: Sequence[ConfigDict], executor: Executor) -> CompiledProgram:
    """The train steps and the evaluation, lifted; the data on each device, each run's key and numbers where it lies.

    Of the configs only the seed and the numbers that are traced may differ.
    """
    steps = executor.train_steps(setup.train_step, setup.config.train.dispatch)
    evaluation = make_evaluation(setup, configs, setup.dataset.test, executor)
    split = replicate(setup.dataset.train, executor.devices)
    return CompiledProgram(configs, steps, evaluation, split, *member_constants(setup, configs, executor))


def dispatches(first: int, until: int, config: ConfigDict) -> Iterator[tuple[int, int]]:
    """(start, end) of each compiled call: cut where anything is due, so a function of the step alone."""
    periods = (config.train.dispatch, config.log.every, config.evaluation.every, config.checkpoint.every)
    start = first
    while start < until:
        due = [(start // period + 1) * period for period in periods]
        end = min(until, *due, *(rung for rung in config.sweep.halving if rung > start))
        yield start, end
        start = end


def record_steps(
    runs: Sequence[TrainingRun], executor: Executor, progress: Progress, unread: tuple[int, int, Any] | None
) -> None:
    """Records the metrics of a call, (start, end, metrics), in every run; ends those that have diverged in it."""
    if unread is None:
        return
    start, end, metrics = unread
    progress.advance(end)
    for run, rows in alive(runs, executor.to_host(metrics)):
        with run.isolate_failure((Diverged, OSError)):
            run.recorder.train(start, end, rows)


def record_evaluation(runs: Sequence[TrainingRun], step: int, held_out: Sequence[Any], progress: Progress) -> None:
    """Records an evaluation in every run; ends those that have diverged."""
    for run, numbers in alive(runs, held_out):
        with run.isolate_failure((Diverged, OSError)):
            run.recorder.test(step, numbers)
    report_population(progress, step, held_out)


def save(
    runs: Sequence[TrainingRun], step: int, states: Sequence[TrainState], held_out: Sequence[dict[str, Any] | None]
) -> None:
    """Saves every run with the score of its held-out numbers; ends those whose parameters are not finite."""
    scores = [None if numbers is None else checkpoint_score(numbers) for numbers in held_out]
    for run, (state, score) in alive(runs, zip(states, scores, strict=False)):
        with run.isolate_failure((Diverged, OSError)):
            run.save(step, state, score)


def alive(runs: Sequence[TrainingRun], values: Iterable[T]) -> Iterator[tuple[TrainingRun, T]]:
    """The runs that have not diverged, each with its value; values beyond are of copies that fill up a device."""
    return ((run, value) for run, value in zip(runs, values, strict=False) if run.alive)


def checkpoint_score(held_out: dict[str, Any]) -> float:
    """What the best checkpoint is best by: the tightest bound that is logged; the loss where there is none."""
    for name in ("bound", "elbo"):
        if name in held_out:
            return held_out[name]
    return -held_out["loss"]


def finite_score(record: dict[str, Any]) -> float | None:
    """The score of a record that was read back; None where it has none that is a finite number."""
    try:
        score = float(checkpoint_score(record))
    except (KeyError, TypeError, ValueError):
        return None
    return score if math.isfinite(score) else None
