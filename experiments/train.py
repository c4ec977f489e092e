"""Trains one model: config -> data -> networks -> variant -> step -> loop.

    python -m experiments.train --config=configs/digits.py --workdir=runs/digits --config.variant.beta=4

The same command again goes on where the run stopped, to the same bits. See README.md for what a
run leaves in its folder, configs/default.py for every field.
"""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import settings, workdir
from experiments.evaluate import evaluator, fetcher, hyper, summary, table
from vae_jax import data, model, parallel, train, writers
from vae_jax.registry import UserError


class Diverged(Exception):
    """A loss or a gradient is no longer a number."""


def main(argv: list[str]) -> int:
    """Trains as the command line says; the exit status."""
    config, own = settings.parse(argv)
    stem = Path(own.get("config", "configs/digits.py").partition(":")[0]).stem
    folder = Path(own.get("workdir", f"runs/{stem}"))
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--workdir: {str(folder)!r} is a file; give a folder")
    devices = parallel.local_devices(config.parallel.devices)
    dataset = model.load_data(config.data)
    built = model.build(config, dataset.image_shape)
    check_batches(config, dataset, devices)
    with workdir.claim(folder, {"config": config.to_dict(), "image_shape": list(dataset.image_shape)}):
        if (folder / "evaluation.json").exists():
            print(f"{folder}: this run has finished ({config.train.steps} steps); its results are there")
            return 0
        return run(config, folder, dataset, built, devices)


def check_batches(config: ConfigDict, dataset: data.Dataset, devices: list) -> None:
    """Raises UserError unless batches fit the data and divide over the devices."""
    batch, size = config.train.batch_size, dataset.train.size
    if batch > size:
        raise UserError(
            f"config.train.batch_size: {batch} is more than the {size} training images; give at most {size}"
        )
    parallel.check_divides("config.train.batch_size", batch, devices)
    parallel.check_divides("config.evaluation.batch_size", config.evaluation.batch_size, devices)


def run(config: ConfigDict, folder: Path, dataset: data.Dataset, built: model.Model, devices: list) -> int:
    """Trains in `folder`, from its newest checkpoint or from the start; the exit status."""
    from vae_jax.checkpoint import Checkpoints

    fetch = fetcher(config)
    take_steps = parallel.train_steps(
        lambda split: train.make_train_step(built.nets, built.variant, built.optimizer, fetch(split), config.train.ema),
        devices,
        config.train.dispatch,
    )
    evaluate = evaluator(config, built, dataset.test, devices)
    split, key, floats = parallel.replicate((dataset.train, train.root_key(config.seed), hyper(config, built)), devices)

    checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint.keep)
    like = jax.eval_shape(lambda: model.initial_state(built, config, dataset.image_shape))
    restored = checkpoints.restore(like)
    first, state = restored or (0, jax.jit(lambda: model.initial_state(built, config, dataset.image_shape))())
    state = parallel.replicate(state, devices)
    introduce(config, folder, dataset, state, devices, first)

    progress = writers.Progress(first, config.train.steps)
    file = writers.MetricsFile(folder / "metrics.jsonl", first)
    mirror = writers.WandbMirror(folder, config.wandb.to_dict(), config.to_dict(), progress.say)
    record = Recorder(config, progress, file, mirror)
    pending, began, status = None, time.perf_counter(), 1
    try:
        with stop_signals() as stop:
            for start, end in dispatches(first, config):
                indices = data.index_stream(config.seed, start, end - start, split.size, config.train.batch_size)
                state, metrics = take_steps(split, state, indices, key, floats)
                if pending:
                    record.train(*pending)  # while the device works on the next steps
                pending = start, end, metrics

                last = end == config.train.steps
                evaluate_now = last or end % config.evaluation.every == 0
                save_now = last or stop or end % config.checkpoint.every == 0
                if evaluate_now or save_now:
                    record.train(*pending)
                    pending, score = None, None
                if evaluate_now:
                    held_out = evaluate(train.evaluated(state), state.step)
                    score = held_out.get("elbo", -held_out["loss"])
                    record.test(end, held_out)
                if save_now:
                    checkpoints.save(end, state, score)
                if stop:
                    checkpoints.wait()
                    progress.say(f"stopped by signal at step {end}, saved; the same command goes on from here")
                    status = 128 + stop[0]
                    return status
            checkpoints.wait()
            seconds = time.perf_counter() - began
            if first < config.train.steps:
                progress.close()
            else:
                held_out = evaluate(train.evaluated(state), state.step)
            finish(config, folder, dataset, built, state, held_out, mirror)
            status = 0
            conclude(folder, held_out, config, config.train.steps - first, seconds)
            return status
    except Diverged as error:
        checkpoints.wait()
        good = max((step for step in checkpoints.steps()), default=None)
        kept = (
            "no checkpoint had been saved yet" if good is None else f"the last good checkpoint is that of step {good}"
        )
        progress.say(f"error: {error}; training stopped, {kept}")
        return status
    finally:
        progress.close()
        file.close()
        mirror.close(status)
        checkpoints.close()


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


class Recorder:
    """Writes records to the terminal, metrics.jsonl and W&B, and stops a run that diverged."""

    def __init__(
        self, config: ConfigDict, progress: writers.Progress, file: writers.MetricsFile, mirror: writers.WandbMirror
    ):
        self.config, self.progress, self.file, self.mirror = config, progress, file, mirror
        self.began = self.clock = time.perf_counter()
        self.since = None

    def train(self, start: int, end: int, metrics: Any) -> None:
        """Records the mean of a dispatch's metrics if a record is due. Raises Diverged."""
        metrics = {name: np.asarray(value, np.float64) for name, value in jax.device_get(metrics).items()}
        check_finite(metrics, start)
        self.progress.advance(end)
        if end % self.config.log.every and end != self.config.train.steps:
            return
        counts = np.ones(end - start)
        record = {"step": end, "split": "train"} | summary(parallel.combine(metrics, counts))
        now = time.perf_counter()
        if self.since is not None:
            rate = (end - self.since) / (now - self.clock)
            record |= {"steps_per_second": rate, "images_per_second": rate * self.config.train.batch_size}
        self.clock, self.since = now, end
        self._write(record, lasting=False)

    def test(self, step: int, metrics: dict[str, Any]) -> None:
        """Records an evaluation; its time does not count in steps per second."""
        self._write({"step": step, "split": "test"} | metrics, lasting=True)
        self.clock = time.perf_counter()

    def _write(self, record: dict[str, Any], lasting: bool) -> None:
        record["seconds"] = time.perf_counter() - self.began
        self.file.write(record)
        self.mirror.metrics(record)
        shown = [f"{name} {record[name]:.2f}" for name in ("loss", "elbo", "distortion", "rate") if name in record]
        if "images_per_second" in record:
            shown.append(f"{record['images_per_second']:,.0f} images/s")
        self.progress.report(record["step"], f"{record['split']:<5}  " + "  ".join(shown), lasting)


def check_finite(metrics: dict[str, np.ndarray], start: int) -> None:
    """Raises Diverged naming the first step with a number that is not finite, and the terms at fault."""
    bad = {name: ~np.isfinite(value).reshape(len(value), -1).all(axis=1) for name, value in metrics.items()}
    steps = np.flatnonzero(np.any(list(bad.values()), axis=0))
    if len(steps):
        terms = [name for name in bad if bad[name][steps[0]]]
        named = [name for name in ("distortion", "rate", "gradient_norm") if name in terms] or terms
        raise Diverged(
            f"step {start + steps[0] + 1}: {', '.join(named)} not finite (loss {metrics['loss'][steps[0]]:g})"
        )


def introduce(
    config: ConfigDict, folder: Path, dataset: data.Dataset, state: train.TrainState, devices: list, first: int
) -> None:
    """Prints what is about to be trained, on what, and where its results go."""
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    shape = "x".join(map(str, dataset.image_shape))
    print(
        f"{config.variant.name} on {config.data.name} ({dataset.train.size:,} training, {dataset.test.size:,} held-out "
        f"images of {shape}), {config.net.name} of {count:,} parameters, {config.latent_dim} latents; "
        f"{len(devices)} {devices[0].platform} device{'s' * (len(devices) > 1)}; in {folder}"
    )
    if "beta" in config.variant:
        print(settings.other_conventions(config, dataset.image_shape))
    if first:
        print(f"resuming at step {first} of {config.train.steps}", flush=True)


def finish(config, folder, dataset, built, state, held_out, mirror) -> None:
    """Pictures, then evaluation.json, whose presence says that the run is whole."""
    from experiments import pictures
    from vae_jax.trained import Run

    params = jax.tree.map(np.asarray, train.evaluated(state))
    trained = Run(config.to_dict(), dataset.image_shape, built, params, config.train.steps)
    for file in pictures.draw(trained, dataset, held_out, folder / "pictures"):
        mirror.picture(file, config.train.steps)
    mirror.summary(held_out)
    mirror.artifact(folder / "checkpoints")
    writers.write_json(folder / "evaluation.json", held_out | {"step": config.train.steps})


def conclude(folder: Path, held_out: dict, config: ConfigDict, steps: int, seconds: float) -> None:
    """Prints the table of held-out numbers, and where to look further."""
    rate = steps * config.train.batch_size / seconds
    print(f"\n{table(held_out)}")
    print(f"{steps} steps in {seconds:.1f} s, {rate:,.0f} images/s with compiling, evaluation and checkpoints")
    print(f"pictures       {folder / 'pictures'}")
    print(f"in Python      run = vae_jax.open_run({str(folder)!r})")
    print(f"best instead   python -m experiments.evaluate --workdir={folder} --checkpoint=best")


if __name__ == "__main__":
    settings.use_compilation_cache()
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        settings.leave(error)
