"""The loop: take steps, record them, evaluate, save, report. Runs that train together go through it as one."""

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from vae_jax import data
from vae_jax.data._splits import on_host
from vae_jax.training.bars import Progress
from vae_jax.training.evaluation import Evaluation, fit_after_training, make_evaluation, member_constants
from vae_jax.training.executors import Executor, StepProgram, replicate, spread
from vae_jax.training.placement import place
from vae_jax.training.prefetch import batches_at_once, block_positions, prefetch, read_block, send_whole
from vae_jax.training.recorder import Diverged, report_population
from vae_jax.training.run import TrainingRun
from vae_jax.training.run_results import Results, merge_splits
from vae_jax.training.selection import checkpoint_score
from vae_jax.training.setup import Setup
from vae_jax.training.signals import StopSignal
from vae_jax.training.step import Hyper, TrainState, evaluation_params

T = TypeVar("T")


def train_until(
    runs: Sequence[TrainingRun], until: int, setup: Setup, executor: Executor, progress: Progress, stop: StopSignal
) -> list[Any]:
    """Trains runs that stand at one step until all stand at `until`, have diverged, or a signal comes.

    The metrics of a call are fetched while the devices work on the next one, unless that one must wait: nothing is
    saved before it is known to be finite. Where each run stands is then in its `step` and `state`, and saved.

    Returns:
        What is reported of each run, where one of them is complete, else None of all.
    """
    program = compile_program(setup, [run.config for run in runs], executor)
    state = executor.to_devices([run.state or jax.device_get(setup.initial_state(run.root_key)) for run in runs])
    for run in runs:
        run.open_records(progress if len(runs) == 1 else None)
    if not any(run.active for run in runs):  # they were restored where their patience had run out
        until = runs[0].step
    # What reads ahead ends with the calls, however they end.
    with contextlib.closing(program.calls(dispatches(runs[0].step, until, setup.config))) as calls:
        state = take_calls(runs, state, calls, until, setup, program, progress, stop)

    for run, host_state in zip(runs, executor.to_host(state), strict=False):
        run.state = jax.tree.map(np.array, host_state)
        run.step = int(run.state.step)
    for run in runs:
        with run.isolate_failure(OSError):
            run.checkpoints.wait()
    if not any(run.alive and run.complete for run in runs):
        return unevaluated(runs)
    return report_results(runs, setup, program, executor, state)


def take_calls(
    runs: Sequence[TrainingRun],
    state: TrainState,
    calls: Iterable[tuple[int, int, Iterable[Any]]],
    until: int,
    setup: Setup,
    program: "CompiledProgram",
    progress: Progress,
    stop: StopSignal,
) -> TrainState:
    """The state after the compiled calls (start, end, inputs), or after those before a signal or the runs' end."""
    config, executor, unread = setup.config, program.executor, None
    for start, step, inputs in calls:
        state, metrics = program.train_steps(runs, state, inputs)
        record_steps(runs, executor, progress, unread)
        unread, numbers = (start, step, metrics), unevaluated(runs)

        last, halving = step == config.train.steps, step in config.sweep.halving
        evaluation_due = last or halving or step % config.evaluation.every == 0
        if evaluation_due:
            record_steps(runs, executor, progress, unread)
            unread = None
        if evaluation_due and program.validation is not None:
            numbers = program.validate(state)
            record_validation(runs, step, numbers, progress)
            draw_steps(runs, setup, step, executor, state)
        # What is fitted then counts in no score: earlier checkpoints are without it.
        ending = [run.active if last else run.stop_early() for run in runs]
        state = fit_after_training(setup, program.configs, state, executor, ending)

        stopping = stop.requested()  # once a call: what is said to be saved must be what is saved
        regular = last or halving or step % config.checkpoint.every == 0
        if regular or stopping or step == until or any(ending):
            record_steps(runs, executor, progress, unread)
            unread = None
            # Which is the best must not depend on where a run was stopped.
            save(runs, step, executor.to_host(state), numbers if regular else unevaluated(runs))
        if stopping or not any(run.active for run in runs):
            break
    return state


def unevaluated(runs: Sequence[TrainingRun]) -> list[Any]:
    """No numbers of any run."""
    return [None] * len(runs)


def report_results(
    runs: Sequence[TrainingRun], setup: Setup, program: "CompiledProgram", executor: Executor, state: TrainState
) -> list[Results]:
    """What is reported of runs that have ended: the test split is read here alone, and nothing is chosen by it.

    Runs that go on beside one that has ended get numbers that nobody reads.
    """
    test = make_evaluation(setup, program.configs, setup.dataset.test, executor)
    steps = [run.step for run in runs]
    latest = program.merged_numbers(test, state, steps)
    if program.validation is None:
        results = [Results(numbers, None) for numbers in latest]
    else:
        best_steps, best_state = best_states(runs, setup, executor)
        best = latest if best_steps == steps else program.merged_numbers(test, best_state, best_steps)
        pairs = zip(latest, best, strict=True)
        results = [Results(last, last if last["step"] == other["step"] else other) for last, other in pairs]
    ended = [(run, result) for run, result in zip(runs, results, strict=True) if run.alive and run.complete]
    for run, result in ended:
        with run.isolate_failure((Diverged, OSError)):
            run.record_results(result)
    return results


def best_states(runs: Sequence[TrainingRun], setup: Setup, executor: Executor) -> tuple[list[int], TrainState]:
    """The steps of the best checkpoints by validation, and their states, on the devices."""
    steps, states = zip(*[run.best_checkpoint(setup.state_shape) for run in runs], strict=True)
    earlier = [step != run.step for step, run in zip(steps, runs, strict=True)]
    configs, state = [run.config for run in runs], executor.to_devices(states)
    return list(steps), fit_after_training(setup, configs, state, executor, earlier)


@dataclass(frozen=True)
class CompiledProgram:
    """The compiled parts of runs that train together, and what of their arguments stays the same from call to call.

    `split` is on the devices, or on the host, where a call is given the images of its steps alone.
    """

    configs: Sequence[ConfigDict]
    executor: Executor
    steps: StepProgram
    validation: Evaluation | None
    split: data.Split
    key: jax.Array
    hyper: Hyper

    def calls(self, spans: Iterable[tuple[int, int]]) -> Generator[tuple[int, int, Iterable[Any]]]:
        """(start, end, inputs) of steps by their (start, end): what `train_steps` takes, the next read meanwhile."""
        spans, ahead = itertools.tee(spans)
        parts = itertools.chain.from_iterable(map(self._parts, ahead))
        with contextlib.closing(prefetch(self._read, parts) if on_host(self.split) else self._given(parts)) as inputs:
            for span in spans:
                yield *span, itertools.islice(inputs, len(self._parts(span)))

    def _parts(self, span: tuple[int, int]) -> list[tuple[int, int]]:
        """(start, end) of the steps of a span that are taken at once: fewer where a block has no room for more."""
        (start, end), most = span, self.steps.steps_per_call
        return [(first, min(first + most, end)) for first in range(start, end, most)]

    def _given(self, parts: Iterable[tuple[int, int]]) -> Generator[tuple[Any, np.ndarray]]:
        """(split, indices (member, steps, batch)) of steps of a split that is on the devices."""
        for part in parts:
            streams, members = self._streams(part)
            yield self.split, streams[members]

    def _read(self, part: tuple[int, int]) -> tuple[Any, np.ndarray]:
        """The same of a split that is on the host: a split for each device, and positions in it."""
        streams, members = self._streams(part)
        ids, slots = self.executor.block_indices(streams, members)
        block = read_block(self.split, ids, self.steps.steps_per_call)
        positions = block_positions(ids, slots, self.steps.steps_per_call, streams.shape[2])
        return spread(block, self.executor.devices), positions

    def _streams(self, part: tuple[int, int]) -> tuple[np.ndarray, list[int]]:
        """The index streams of the steps of a part, one for each seed, and by which each member goes."""
        (start, end), batch = part, self.configs[0].train.batch_size
        seeds, members = streams_by_seed(self.configs)
        streams = [data.index_stream(seed, start, end - start, self.split.size, batch) for seed in seeds]
        return np.stack(streams), members

    def train_steps(
        self, runs: Sequence[TrainingRun], state: TrainState, inputs: Iterable[Any]
    ) -> tuple[TrainState, Any]:
        """The state after the steps of a call, and their metrics; runs that have ended stay as they are."""
        active = np.array([run.active for run in runs])
        rows: list[Any] = []
        for split, indices in inputs:
            jax.block_until_ready(rows[-2:-1])  # or blocks that wait for the devices fill them
            state, metrics = self.steps(split, state, indices, self.key, self.hyper, active)
            rows.append(metrics)
        if len(rows) == 1:
            return state, rows[0]
        return state, jax.tree.map(lambda *leaves: jnp.concatenate(leaves, self.steps.step_axis), *rows)

    def validate(self, state: TrainState) -> list[Any]:
        """The validation numbers of each run; None where there is no such split."""
        if self.validation is None:
            return [None] * len(self.configs)
        return self.validation(evaluation_params(state), state.step)[: len(self.configs)]

    def merged_numbers(self, test: Evaluation, state: TrainState, steps: Sequence[int]) -> list[dict[str, Any]]:
        """The test numbers of each run, and beside them those of the validation split."""
        numbers = test(evaluation_params(state), state.step)[: len(self.configs)]
        return [merge_splits(*each) for each in zip(numbers, self.validate(state), steps, strict=True)]


def compile_program(setup: Setup, configs: Sequence[ConfigDict], executor: Executor) -> CompiledProgram:
    """The train steps and the validation, lifted; the data on each device, each run's key and numbers where it lies.

    Of the configs only the seed and the numbers that are traced may differ.
    """
    config, validation = setup.config, setup.dataset.validation
    split, most = place(setup.dataset.train, config, executor.devices), config.train.dispatch
    if on_host(split):
        most = batches_at_once(split, _examples_at_once(configs, executor), most)
    blocks = on_host(split)
    steps = setup.once(
        ("train", executor, most, blocks), lambda: executor.train_steps(setup.train_step, most, blocks=blocks)
    )
    evaluate = None if validation is None else make_evaluation(setup, configs, validation, executor)
    split = send_whole(split, partial(replicate, devices=executor.devices))
    return CompiledProgram(configs, executor, steps, evaluate, split, *member_constants(setup, configs, executor))


def _examples_at_once(configs: Sequence[ConfigDict], executor: Executor) -> int:
    """How many examples of a step a device reads: those of each stream that its members go by."""
    seeds, members = streams_by_seed(configs)
    ids, _ = executor.block_indices(np.zeros((len(seeds), 1, configs[0].train.batch_size), np.int32), members)
    return ids[0].size


def streams_by_seed(configs: Sequence[ConfigDict]) -> tuple[list[int], list[int]]:
    """The seeds of the members' index streams, each of them once, and by which of them each member goes."""
    seeds = list(dict.fromkeys(config.seed for config in configs))
    return seeds, [seeds.index(config.seed) for config in configs]


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
    for run, rows in active(runs, executor.to_host(metrics)):
        with run.isolate_failure((Diverged, OSError)):
            run.recorder.train(start, end, rows)


def record_validation(runs: Sequence[TrainingRun], step: int, numbers: Sequence[Any], progress: Progress) -> None:
    """Records an evaluation of the validation split in every run; ends those that have diverged."""
    for run, own in active(runs, numbers):
        with run.isolate_failure((Diverged, OSError)):
            run.record_validation(step, own)
    report_population(progress, step, numbers)


def draw_steps(runs: Sequence[TrainingRun], setup: Setup, step: int, executor: Executor, state: TrainState) -> None:
    """Draws how each run stands where something is to show it; after the last step all pictures are drawn."""
    if step == setup.config.train.steps or not any(run.shows_steps for run in runs):
        return
    for run, own in active(runs, executor.to_host(state)):
        run.draw_step(setup, step, own)


def save(
    runs: Sequence[TrainingRun], step: int, states: Sequence[TrainState], numbers: Sequence[dict[str, Any] | None]
) -> None:
    """Saves every run that stands at `step`, with the score of its numbers; ends those with no finite parameters."""
    scores = [None if own is None else checkpoint_score(own) for own in numbers]
    standing = [run.alive and run.stopped_at in (None, step) for run in runs]
    for run, state, score in itertools.compress(zip(runs, states, scores, strict=False), standing):
        with run.isolate_failure((Diverged, OSError)):
            run.save(step, state, score)


def active(runs: Sequence[TrainingRun], values: Iterable[T]) -> Iterator[tuple[TrainingRun, T]]:
    """The runs that still train, each with its value; values beyond are of copies that fill up a device."""
    return ((run, value) for run, value in zip(runs, values, strict=False) if run.active)
