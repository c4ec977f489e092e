"""Trains one model: config -> data -> networks -> variant -> step -> loop.

    python -m experiments.train --config=configs/digits.py --workdir=runs/digits --config.variant.beta=4
    python -m experiments.train --config=configs/digits.py --explain

The same command again goes on where the run stopped, to the same bits. README.md says what a run
leaves in its folder, configs/default.py has every field. On several hosts, one process on each with
--coordinator=HOST:PORT --processes=N --process=I, which SLURM makes needless: docs/sweeps.md.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jax import data, model, randomness
from vae_jax.training import executors, writers
from vae_jax.training.evaluation import evaluator, fetch_fn, fit_after_training_fn, member_constants
from vae_jax.training.recorder import report_population
from vae_jax.training.run import TrainingRun
from vae_jax.training.setup import initial_state_fn
from vae_jax.training.signals import StopSignal
from vae_jax.training.step import Hyper, TrainState, evaluation_params, make_train_step


def train_until(
    members: Sequence[TrainingRun],
    until: int,
    dataset: data.Dataset,
    built: model.Model,
    placement: executors.Placement,
    progress: writers.Progress,
    stop: StopSignal,
) -> list[dict | None]:
    """Trains members that stand at one step until all stand at `until`, have diverged, or a signal comes.

    Where each stands is then in its `step` and `state`, and saved; returns their held-out numbers if they were
    evaluated there.
    """
    program = compile_program([member.config for member in members], dataset, built, placement)
    starter = initial_state_fn(members[0].config, dataset, built)
    states = [member.state or jax.device_get(starter(randomness.root_key(member.config.seed))) for member in members]
    for member in members:
        member.begin(progress.report if len(members) == 1 else lambda *report: None)
    step, state, held_out = loop(members, until, program, placement.place(states), progress, stop)
    if step == members[0].config.train.steps and held_out == [None] * len(members):  # ended before all was written
        held_out = program.evaluate(evaluation_params(state), state.step)[: len(members)]
    for member, reached in zip(members, placement.members(state), strict=False):
        member.step, member.state = step, jax.tree.map(np.array, reached)
        member.checkpoints.wait()
    return held_out


class CompiledProgram(NamedTuple):
    """The compiled parts of runs that train together, and what of their arguments stays the same from call to call."""

    take_steps: Callable
    evaluate: Callable
    settle: Callable[[TrainState], TrainState]
    members: Callable[[Any], list[Any]]
    split: data.Split
    key: jax.Array
    hyper: Hyper


def compile_program(
    configs: Sequence[ConfigDict], dataset: data.Dataset, built: model.Model, placement: executors.Placement
) -> CompiledProgram:
    """The train steps and the evaluation, lifted; the data on each device, each member's key and numbers at its place.

    Of the configs only the seed and the numbers that are traced may differ.
    """
    config, fetch = configs[0], fetch_fn(configs[0])
    take_steps = placement.train_steps(
        lambda split: make_train_step(built.nets, built.variant, built.optimizer, fetch(split), config.train.ema),
        config.train.dispatch,
    )
    evaluate = evaluator(configs, built, dataset.test, placement)
    settle = fit_after_training_fn(configs, dataset, built, placement)
    split = executors.replicate(dataset.train, placement.devices)
    return CompiledProgram(
        take_steps, evaluate, settle, placement.members, split, *member_constants(configs, built, placement)
    )


def loop(
    members: Sequence[TrainingRun],
    until: int,
    program: CompiledProgram,
    state: TrainState,
    progress: writers.Progress,
    stop: StopSignal,
) -> tuple[int, TrainState, list[dict | None]]:
    """Step, log, evaluate, save: (last step, state, each member's held-out numbers if the last step was evaluated).

    A dispatch's metrics are fetched while the devices work on the next one, unless that one must
    wait: nothing is saved before it is known to be finite.
    """
    config, first = members[0].config, members[0].step
    step, pending, held_out = first, None, [None] * len(members)

    def record(start, end, metrics):
        progress.advance(end)
        for member, of_member in zip(members, program.members(metrics), strict=False):
            member.try_to(member.recorder.train, start, end, of_member)

    for start, step in dispatches(first, until, config):
        size, batch = program.split.size, config.train.batch_size
        of_seed = {
            seed: data.index_stream(seed, start, step - start, size, batch)
            for seed in dict.fromkeys(member.config.seed for member in members)
        }
        streams = [of_seed[member.config.seed] for member in members]
        alive = np.array([member.alive for member in members])
        state, metrics = program.take_steps(program.split, state, np.stack(streams), program.key, program.hyper, alive)
        if pending:
            record(*pending)
        pending, held_out = (start, step, metrics), [None] * len(members)

        last = step == config.train.steps
        if last or step % config.evaluation.every == 0 or step in config.sweep.halving:
            record(*pending)
            pending = None
            state = program.settle(state) if last else state
            held_out = program.evaluate(evaluation_params(state), state.step)[: len(members)]
            for member, found in zip(members, held_out, strict=True):
                member.try_to(member.recorder.test, step, found)
            report_population(progress, step, held_out)
        stopping = stop.heard()  # once a dispatch: what is said to be saved must be what is saved
        regular = last or step % config.checkpoint.every == 0 or step in config.sweep.halving
        if regular or step == until or stopping:
            if pending:
                record(*pending)
                pending = None
            for member, reached, found in zip(members, program.members(state), held_out, strict=False):
                # Which is the best must not depend on where a run was stopped.
                member.try_to(member.save, step, reached, checkpoint_score(found) if found and regular else None)
        if stopping or not any(member.alive for member in members):
            break
    return step, state, held_out


def checkpoint_score(held_out: dict) -> float:
    """What the best checkpoint is best by: the tightest bound that is logged; the loss where there is none."""
    return held_out.get("bound", held_out.get("elbo", -held_out["loss"]))


def dispatches(first: int, until: int, config: ConfigDict) -> Iterator[tuple[int, int]]:
    """(start, end) of each compiled call: cut where anything is due, so a function of the step alone."""
    periods = (config.train.dispatch, config.log.every, config.evaluation.every, config.checkpoint.every)
    start = first
    while start < until:
        due = [(start // period + 1) * period for period in periods]
        end = min(until, *due, *(rung for rung in config.sweep.halving if rung > start))
        yield start, end
        start = end
