"""Trains one model: config -> data -> networks -> variant -> step -> loop.

    python -m experiments.train --config=configs/digits.py --workdir=runs/digits --config.variant.beta=4
    python -m experiments.train --config=configs/digits.py --explain

The same command again goes on where the run stopped, to the same bits. README.md says what a run
leaves in its folder, configs/default.py has every field.
"""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import measure, settings, workdir
from experiments.evaluate import evaluator, fetcher, hyper, training_codes
from experiments.explain import explain
from experiments.recorder import Diverged, Recorder, check_parameters, conclude, introduce
from vae_jax import data, model, parallel, train, writers
from vae_jax.registry import UserError


def main(argv: list[str]) -> int:
    """Trains as the command line says; the exit status."""
    config, own = settings.parse(argv, switches=("explain",))
    file, _, variant = own.get("config", settings.DEFAULT).partition(":")
    folder = Path(own.get("workdir", f"runs/{Path(file).stem}" + (f"_{variant}" if variant else "")))
    devices = parallel.local_devices(config.parallel.devices)
    dataset = model.load_data(config.data)
    built = model.build(config, dataset.image_shape)
    check_batches(config, dataset, devices)
    for split in (dataset.train, dataset.test):
        built.variant.check(split)
    measure.check(config.evaluation.metrics, built, dataset)
    if own.get("explain") == "true":
        print(explain(config, built, dataset.image_shape))
        return 0
    with workdir.claim(folder, {"config": config.to_dict(), "image_shape": list(dataset.image_shape)}):
        if finished(folder, config.train.steps):
            print(f"{folder}: this run has finished ({config.train.steps} steps); its results are there")
            return 0
        return run(config, folder, dataset, built, devices)


def finished(folder: Path, steps: int) -> bool:
    """Whether the run in `folder` has been evaluated at its last step; metrics alone, asked for later, do not count."""
    found = measure.read(folder / "evaluation.json", steps)
    return "loss" in found


def check_batches(config: ConfigDict, dataset: data.Dataset, devices: list) -> None:
    """Raises UserError unless batches fit the data and divide over the devices."""
    batch, size = config.train.batch_size, dataset.train.size
    if batch > size:
        raise UserError(
            f"config.train.batch_size: {batch} is more than the {size} training images; give at most {size}"
        )
    parallel.check_divides("config.train.batch_size", batch, devices)


def run(config: ConfigDict, folder: Path, dataset: data.Dataset, built: model.Model, devices: list) -> int:
    """Trains in `folder`, from its newest checkpoint or from the start; the exit status."""
    from vae_jax.checkpoint import Checkpoints

    program = assemble(config, dataset, built, devices)
    checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint.keep)
    initial = jax.jit(lambda: model.initial_state(built, config, dataset.image_shape))
    first, state = checkpoints.restore(jax.eval_shape(initial)) or (0, initial())
    introduce(config, folder, dataset, state, devices, first)
    recorder, began, status = Recorder(config, folder, first), time.perf_counter(), 1
    try:
        with stop_signals() as stop:
            state = parallel.replicate(state, devices)
            step, state, held_out = loop(config, program, state, first, recorder, checkpoints, stop)
            checkpoints.wait()
            if held_out is None:
                recorder.progress.say(f"stopped by a signal at step {step}, saved; the same command goes on from here")
                status = 128 + stop[0]
                return status
            seconds = time.perf_counter() - began
            recorder.progress.close()
            finish(config, folder, dataset, built, state, held_out, recorder.mirror)
        conclude(config, folder, held_out, config.train.steps - first, seconds)
        status = 0
    except Diverged as error:
        checkpoints.wait()
        steps = checkpoints.steps()
        kept = f"the last good checkpoint is that of step {steps[-1]}" if steps else "no checkpoint had been saved yet"
        recorder.progress.say(f"error: {error}; training stopped, {kept}")
    finally:
        recorder.close(status)
        checkpoints.close()
    return status


class Program(NamedTuple):
    """The compiled parts of a run, and what of its arguments stays the same from call to call."""

    take_steps: Callable
    evaluate: Callable
    settle: Callable[[train.TrainState], train.TrainState]
    split: data.Split
    key: jax.Array
    hyper: train.Hyper


def assemble(config: ConfigDict, dataset: data.Dataset, built: model.Model, devices: list) -> Program:
    """The train steps and the evaluation over `devices`, with the data and the root key on each."""
    fetch = fetcher(config)
    take_steps = parallel.train_steps(
        lambda split: train.make_train_step(built.nets, built.variant, built.optimizer, fetch(split), config.train.ema),
        devices,
        config.train.dispatch,
    )
    evaluate = evaluator(config, built, dataset.test, devices)
    constant = dataset.train, train.root_key(config.seed), hyper(config, built)
    settle = settler(config, dataset, built, devices)
    return Program(take_steps, evaluate, settle, *parallel.replicate(constant, devices))


def settler(config: ConfigDict, dataset: data.Dataset, built: model.Model, devices: list) -> Callable:
    """state -> the state with what the variant fits to the training codes after the last step."""
    from vae_jax.trained import Run

    def settle(state: train.TrainState) -> train.TrainState:
        params = jax.tree.map(np.asarray, train.evaluated(state))
        run = Run(config.to_dict(), dataset.image_shape, built, params, config.train.steps)
        own = built.variant.settle(params, lambda: training_codes(run, dataset.train))["own"]
        if own is params["own"]:
            return state
        # Only what was fitted: the rest of the live weights is not that of their average.
        fitted = lambda live: jax.tree.map(lambda new, old, x: x if new is old else new, own, params["own"], live)  # noqa: E731
        both = [tree and {**tree, "own": fitted(tree["own"])} for tree in (state.params, state.average)]
        return parallel.replicate(state._replace(params=both[0], average=both[1]), devices)

    return settle


def loop(
    config: ConfigDict,
    program: Program,
    state: train.TrainState,
    first: int,
    recorder: Recorder,
    checkpoints: Any,
    stop: list[int],
) -> tuple[int, train.TrainState, dict | None]:
    """Step, log, evaluate, save: (last step, state, its held-out numbers), or None for those at a signal.

    A dispatch's metrics are fetched while the device works on the next one, unless that one must
    wait: nothing is saved before it is known to be finite.
    """
    step, pending, held_out = first, None, None
    for start, step in dispatches(first, config):
        indices = data.index_stream(config.seed, start, step - start, program.split.size, config.train.batch_size)
        state, metrics = program.take_steps(program.split, state, indices, program.key, program.hyper)
        if pending:
            recorder.train(*pending)
        pending, held_out = (start, step, metrics), None

        last = step == config.train.steps
        if last or step % config.evaluation.every == 0:
            recorder.train(*pending)
            pending = None
            state = program.settle(state) if last else state
            held_out = program.evaluate(train.evaluated(state), state.step)
            recorder.test(step, held_out)
        stopping = bool(stop)  # read once: what is said to be saved must be what is saved
        if last or stopping or step % config.checkpoint.every == 0:
            if pending:
                recorder.train(*pending)
                pending = None
            check_parameters(step, state)
            recorder.file.sync()
            checkpoints.save(step, state, held_out and score(held_out))
        if stopping and not last:
            return step, state, None
    return step, state, held_out or program.evaluate(train.evaluated(state), state.step)


def score(held_out: dict) -> float:
    """What the best checkpoint is best by: the tightest bound that is logged; the loss where there is none."""
    return held_out.get("bound", held_out.get("elbo", -held_out["loss"]))


def dispatches(first: int, config: ConfigDict) -> Iterator[tuple[int, int]]:
    """(start, end) of each compiled call: cut where anything is due, so a function of the step alone."""
    periods = (config.train.dispatch, config.log.every, config.evaluation.every, config.checkpoint.every)
    start = first
    while start < config.train.steps:
        end = min(config.train.steps, *((start // period + 1) * period for period in periods))
        yield start, end
        start = end


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that gains the signal's number on SIGTERM or SIGINT; a second one acts as it always does."""
    caught: list[int] = []

    def catch(number, frame):
        caught.append(number)
        signal.signal(number, previous[number])

    previous = {number: signal.signal(number, catch) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def finish(
    config: ConfigDict,
    folder: Path,
    dataset: data.Dataset,
    built: model.Model,
    state: train.TrainState,
    held_out: dict,
    mirror: writers.WandbMirror,
) -> None:
    """Pictures, then evaluation.json, whose presence says that the run is whole."""
    from experiments import pictures
    from vae_jax.trained import Run

    params = jax.tree.map(np.asarray, train.evaluated(state))
    trained = Run(config.to_dict(), dataset.image_shape, built, params, config.train.steps)
    for file in pictures.draw(trained, dataset, held_out, folder / "pictures"):
        mirror.picture(file, config.train.steps)
    # Under another name until it is whole.
    file = folder / "evaluation.unfinished.json"
    writers.write_json(file, held_out | {"step": config.train.steps})
    found = measure.measure(config.evaluation.metrics, trained, dataset, file)
    mirror.summary(found)
    mirror.artifact(folder / "checkpoints")
    file.replace(folder / "evaluation.json")


if __name__ == "__main__":
    settings.start(main, __doc__)
