"""Trains one model: config -> data -> networks -> variant -> step -> loop.

    python -m experiments.train --config=configs/digits.py --workdir=runs/digits --config.variant.beta=4
    python -m experiments.train --config=configs/digits.py --explain

The same command again goes on where the run stopped, to the same bits. README.md says what a run
leaves in its folder, configs/default.py has every field. On several hosts, one process on each with
--coordinator=HOST:PORT --processes=N --process=I, which SLURM makes needless: docs/sweeps.md.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import measure, settings, workdir
from experiments.evaluate import constants, evaluator, fetcher, settler
from experiments.explain import explain
from experiments.member import Member, versions
from experiments.recorder import conclude, introduce, summarize
from experiments.stopping import Stop, stop_signals
from vae_jax import data, hosts, model, parallel, train, writers
from vae_jax.hosts import ALONE, Group
from vae_jax.registry import UserError


def main(argv: list[str]) -> int:
    """Trains as the command line says; the exit status."""
    config, own = settings.parse(argv, ("config", "workdir", *hosts.FLAGS), switches=("explain",))
    file, _, variant = own.get("config", settings.DEFAULT).partition(":")
    folder = Path(own.get("workdir", f"runs/{Path(file).stem}" + (f"_{variant}" if variant else "")))
    group = hosts.join(own, config.parallel.heartbeat)
    group.alike(
        versions() | {"--workdir": str(folder)} | {f"config.{f}": v for f, v in settings.leaves(config).items()}
    )
    devices = parallel.all_devices(config.parallel.devices)
    dataset, built = group.everywhere(lambda: prepare(config))
    parallel.check_divides("config.train.batch_size", config.train.batch_size, devices)
    if own.get("explain") == "true":
        print(explain(config, built, dataset.image_shape))
        return 0
    with hosts.leaving_at_once(group), hosts.one_voice(group), contextlib.ExitStack() as held:

        def claim() -> bool:
            held.enter_context(workdir.claim(folder, record_of(config, dataset)))
            return finished(folder, config.train.steps)

        if group.of_first(claim):
            print(f"{folder}: this run has finished ({config.train.steps} steps); its results are there")
            return 0
        stop = held.enter_context(stop_signals(group.most))
        return run(config, folder, dataset, built, devices, stop, group)


def prepare(config: ConfigDict) -> tuple[data.Dataset, model.Model]:
    """The data and the model of a config. Raises UserError where they do not fit, or cannot be measured as it asks."""
    dataset = model.load_data(config.data)
    built = model.build(config, dataset.image_shape)
    batch, size = config.train.batch_size, dataset.train.size
    if batch > size:
        raise UserError(
            f"config.train.batch_size: {batch} is more than the {size} training images; give at most {size}"
        )
    for split in (dataset.train, dataset.test):
        built.variant.check(split)
    measure.expand(config.evaluation.metrics, built, dataset)
    return dataset, built


def record_of(config: ConfigDict, dataset: data.Dataset) -> dict[str, Any]:
    """What config.json holds of a run."""
    return {"config": config.to_dict(), "image_shape": list(dataset.image_shape)}


def finished(folder: Path, steps: int) -> bool:
    """Whether the run in `folder` has been evaluated at its last step; metrics alone, asked for later, do not count."""
    found = measure.read(folder / "evaluation.json", steps)
    return "loss" in found


def directly(member: Member, act: Callable[..., Any], *arguments: Any, but: type[Exception]) -> None:
    """In place of Member.try_to for a run of its own: what breaks it is the program's error."""
    act(*arguments)


def run(
    config: ConfigDict,
    folder: Path,
    dataset: data.Dataset,
    built: model.Model,
    devices: list,
    stop: Stop,
    group: Group = ALONE,
    attempt: Callable[..., None] = directly,
) -> int:
    """Trains one run in `folder`, from its newest checkpoint or from the start; the exit status of all of `group`.

    `attempt` calls what may be broken of this run alone, to load and to finish it: Member.try_to where others follow.
    """
    member, status = Member(config, folder, group=group), 1
    like = jax.eval_shape(starting(config, dataset, built), train.root_key(config.seed))
    try:
        attempt(member, member.load, like, but=UserError)
        if member.alive:
            introduce(config, folder, dataset, like.params, devices, member.step)
            status = go_on(member, dataset, built, devices, stop, attempt)
    finally:
        member.close(status)
    return max(group.meet(f"the end of {folder}", status))


def go_on(
    member: Member, dataset: data.Dataset, built: model.Model, devices: list, stop: Stop, attempt: Callable[..., None]
) -> int:
    """Trains and finishes a run that is loaded; the exit status."""
    config, first = member.config, member.step
    progress, began = writers.Progress(first, config.train.steps), time.perf_counter()
    member.say = progress.say
    try:
        placement = parallel.data_parallel(devices)
        (held_out,) = together([member], config.train.steps, dataset, built, placement, progress, stop)
        if member.alive and member.step < config.train.steps:
            progress.say(f"stopped by a signal at step {member.step}, saved; the same command goes on from here")
            return 128 + stop.number
    finally:
        progress.close()
    if member.alive and member.writes:
        seconds = time.perf_counter() - began
        attempt(member, member.finish, dataset, blank_run(config, dataset, built), held_out, but=Exception)
        if member.alive:
            conclude(config, member.folder, held_out, config.train.steps - first, seconds)
    return 0 if member.alive else 1


def blank_run(config: ConfigDict, dataset: data.Dataset, built: model.Model) -> Any:
    """A run without weights, to which those of each member are given: all share what it compiles."""
    from vae_jax.trained import Run

    return Run(config.to_dict(), dataset.image_shape, built, None, 0)


def starting(config: ConfigDict, dataset: data.Dataset, built: model.Model) -> Callable[[jax.Array], train.TrainState]:
    """root key -> the state before the first step, compiled once for all seeds."""
    return jax.jit(lambda key: model.initial_state(built, config, dataset.image_shape, key))


def together(
    members: Sequence[Member],
    until: int,
    dataset: data.Dataset,
    built: model.Model,
    placement: parallel.Placement,
    progress: writers.Progress,
    stop: Stop,
) -> list[dict | None]:
    """Trains members that stand at one step until all stand at `until`, have diverged, or a signal comes.

    Where each stands is then in its `step` and `state`, and saved; returns their held-out numbers if they were
    evaluated there.
    """
    program = assemble([member.config for member in members], dataset, built, placement)
    starter = starting(members[0].config, dataset, built)
    states = [member.state or jax.device_get(starter(train.root_key(member.config.seed))) for member in members]
    for member in members:
        member.begin(progress.report if len(members) == 1 else lambda *report: None)
    step, state, held_out = loop(members, until, program, placement.place(states), progress, stop)
    if step == members[0].config.train.steps and held_out == [None] * len(members):  # ended before all was written
        held_out = program.evaluate(train.evaluated(state), state.step)[: len(members)]
    for member, reached in zip(members, placement.members(state), strict=False):
        member.step, member.state = step, jax.tree.map(np.array, reached)
        member.checkpoints.wait()
    return held_out


class Program(NamedTuple):
    """The compiled parts of runs that train together, and what of their arguments stays the same from call to call."""

    take_steps: Callable
    evaluate: Callable
    settle: Callable[[train.TrainState], train.TrainState]
    members: Callable[[Any], list[Any]]
    split: data.Split
    key: jax.Array
    hyper: train.Hyper


def assemble(
    configs: Sequence[ConfigDict], dataset: data.Dataset, built: model.Model, placement: parallel.Placement
) -> Program:
    """The train steps and the evaluation, lifted; the data on each device, each member's key and numbers at its place.

    Of the configs only the seed and the numbers that are traced may differ.
    """
    config, fetch = configs[0], fetcher(configs[0])
    take_steps = placement.train_steps(
        lambda split: train.make_train_step(built.nets, built.variant, built.optimizer, fetch(split), config.train.ema),
        config.train.dispatch,
    )
    evaluate = evaluator(configs, built, dataset.test, placement)
    settle = settler(configs, dataset, built, placement)
    split = parallel.replicate(dataset.train, placement.devices)
    return Program(take_steps, evaluate, settle, placement.members, split, *constants(configs, built, placement))


def loop(
    members: Sequence[Member],
    until: int,
    program: Program,
    state: train.TrainState,
    progress: writers.Progress,
    stop: Stop,
) -> tuple[int, train.TrainState, list[dict | None]]:
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
            held_out = program.evaluate(train.evaluated(state), state.step)[: len(members)]
            for member, found in zip(members, held_out, strict=True):
                member.try_to(member.recorder.test, step, found)
            summarize(progress, step, held_out)
        stopping = stop.heard()  # once a dispatch: what is said to be saved must be what is saved
        regular = last or step % config.checkpoint.every == 0 or step in config.sweep.halving
        if regular or step == until or stopping:
            if pending:
                record(*pending)
                pending = None
            for member, reached, found in zip(members, program.members(state), held_out, strict=False):
                # Which is the best must not depend on where a run was stopped.
                member.try_to(member.save, step, reached, score(found) if found and regular else None)
        if stopping or not any(member.alive for member in members):
            break
    return step, state, held_out


def score(held_out: dict) -> float:
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


if __name__ == "__main__":
    settings.start(main, __doc__)
