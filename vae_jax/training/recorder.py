"""What a training run tells the world: terminal, metrics.jsonl, W&B and TensorBoard; and that it diverged."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from vae_jax import data
from vae_jax.config.command_line import command
from vae_jax.config.explain import beta_conventions
from vae_jax.phrases import plural
from vae_jax.plots.captions import format_fixed
from vae_jax.screen import TERM, wrap_text
from vae_jax.training import executors, writers
from vae_jax.training.bars import Progress
from vae_jax.training.evaluation import log_metrics
from vae_jax.training.event_files import TensorboardMirror
from vae_jax.training.run_results import TABLE_INDENT, Results, results_table


def print_header(
    config: ConfigDict, folder: Path, dataset: data.Dataset, params: Any, devices: executors.Devices, first: int
) -> None:
    """Prints what is about to be trained, on what, and where its results go."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    shape = "x".join(map(str, dataset.image_shape))
    what = (
        f"images of {shape}" if dataset.columns is None else f"rows of {plural(len(dataset.columns.names), 'column')}"
    )
    processes = len({device.process_index for device in devices})
    machines = plural(len(devices), f"{devices[0].platform} device")
    machines += f" of {processes} processes" if processes > 1 else ""
    lines = [
        f"{config.variant.name} on {config.data.name} ({split_sizes(dataset)} {what}), {config.net.name} of "
        f"{count:,} parameters, {config.latent_dim} latents; {machines}; in {folder}"
    ]
    if "beta" in config.variant:
        lines.append(beta_conventions(config, dataset.image_shape))
    if first:
        lines.append(f"resuming at step {first} of {config.train.steps}")
    print(wrap_text("\n".join(lines)), flush=True)


def split_sizes(dataset: data.Dataset) -> str:
    """How many images each split has, in words."""
    named = {"train": "training"}
    return ", ".join(f"{split.size:,} {named.get(name, name)}" for name, split in dataset.splits.items())


def print_summary(config: ConfigDict, folder: Path, results: Results, steps: int, seconds: float) -> None:
    """Prints the table of test numbers, and where to look further."""
    rate = steps * config.train.batch_size / seconds
    print(f"\n{wrap_text(results_table(results), TABLE_INDENT, TERM)}")
    speed = f"{steps} steps in {seconds:.1f} s, {rate:,.0f} images/s with compiling, evaluation and checkpoints"
    print(f"{wrap_text(speed)}\n")
    if draws_pictures(config):
        print(f"pictures       {folder / 'pictures'}")
    print(f"in Python      run = vae_jax.open_run({str(folder)!r})")
    if results.best is not None and results.best["step"] != results.latest["step"]:
        print(f"of the best    {command('evaluate', [f'--workdir={folder}', '--checkpoint=best'])}")
    sys.stdout.flush()


def report_population(progress: Progress, step: int, evaluated: Sequence[dict[str, Any]]) -> None:
    """Shows how a population stands; a run on its own shows its own records."""
    if len(evaluated) < 2:
        return
    name = next(name for name in ("bound", "elbo", "loss") if name in evaluated[0])
    values = np.array([numbers[name] for numbers in evaluated])
    best, median, worst = (format_fixed(np.nanquantile(values, q), 2) for q in (1, 0.5, 0))
    diverged = f", {np.isnan(values).sum()} diverged" if np.isnan(values).any() else ""
    text = f"validation  {len(values)} members: {name} {median} ({worst} to {best}){diverged}  nats per image"
    progress.report(step, text, lasting=True)


class Diverged(Exception):
    """A loss or a parameter is no longer a number."""


def draws_pictures(config: ConfigDict) -> bool:
    """Whether a run is to have pictures; a config of an earlier version does not say so."""
    return config.log.get("pictures", True)


class Mirrors:
    """W&B and TensorBoard, each where the config asks for it: what is told here goes to both.

    `shows_steps` says whether they are to have pictures of each evaluation.
    """

    def __init__(self, config: ConfigDict, folder: Path, first: int, say: Callable[[str], Any]):
        self.shows_steps = draws_pictures(config) and (config.wandb.mode != "disabled" or config.log.tensorboard)
        self._wandb = writers.WandbMirror(folder, config.wandb.to_dict(), config.to_dict(), say)
        self._tensorboard = TensorboardMirror(folder, first, config.log.tensorboard, say)

    def metrics(self, record: Mapping[str, Any]) -> None:
        """One record of metrics.jsonl."""
        self._wandb.metrics(record)
        self._tensorboard.metrics(record)

    def picture(self, file: Path, step: int) -> None:
        """One PNG file."""
        self._wandb.picture(file, step)
        self._tensorboard.picture(file, step)

    def summary(self, values: Mapping[str, Any], prefix: str = "final") -> None:
        """An evaluation, as prefix/name; of a checkpoint the prefix is "final" or "best"."""
        self._wandb.summary(values, prefix)
        self._tensorboard.summary(values, prefix)

    def artifact(self, folder: Path) -> None:
        """A folder of checkpoints, which only W&B takes."""
        self._wandb.artifact(folder)

    def close(self, exit_code: int) -> None:
        """Finishes both; neither is waited for without limit."""
        self._wandb.close(exit_code)
        self._tensorboard.close()


class Recorder:
    """Writes the records of a run in `folder`, to its mirrors and, where there is one, to `progress`, from step `first`
    on.
    """

    def __init__(
        self,
        config: ConfigDict,
        folder: Path,
        first: int,
        progress: Progress | None,
        say: Callable[[str], Any],
    ):
        self.config, self.progress = config, progress
        self.file = writers.MetricsFile(folder / "metrics.jsonl", first, say)
        self.mirror = Mirrors(config, folder, first, say)
        self.start = self.last_time = time.perf_counter()
        self.last_step: int | None = None

    def train(self, start: int, end: int, metrics: Any) -> None:
        """Records the mean over a dispatch's steps if a record is due. Raises Diverged."""
        metrics = check_train(start, metrics)
        if end % self.config.log.every and end != self.config.train.steps:
            return
        record = {"step": end, "split": "train"} | log_metrics(executors.combine_metrics(metrics, np.ones(end - start)))
        now = time.perf_counter()
        if self.last_step is not None:
            rate = (end - self.last_step) / (now - self.last_time)
            record |= {"steps_per_second": rate, "images_per_second": rate * self.config.train.batch_size}
        self.last_time, self.last_step = now, end
        self._write(record, lasting=False)

    def evaluation(self, step: int, split: str, metrics: dict[str, Any]) -> None:
        """Records an evaluation of a split; its time does not count in steps per second. Raises Diverged."""
        check_evaluation(step, split, metrics)
        self._write({"step": step, "split": split} | metrics, lasting=True)
        self.last_time = time.perf_counter()

    def sync(self) -> None:
        """Returns once all records are on disk, as what is saved after them will be."""
        self.file.sync()

    def close(self, status: int) -> None:
        """Closes the file and the mirrors."""
        self.file.close()
        self.mirror.close(status)

    def _write(self, record: dict[str, Any], lasting: bool) -> None:
        record["seconds"] = time.perf_counter() - self.start
        self.file.write(record)
        self.mirror.metrics(record)
        if self.progress is None:
            return
        names = [name for name in ("loss", "elbo", "distortion", "rate") if name in record]
        words = [f"{name} {format_fixed(record[name], 2)}" for name in names]
        words.append("nats per image")
        if "images_per_second" in record:
            words.append(f"{record['images_per_second']:,.0f} images/s")
        self.progress.report(record["step"], f"{record['split']:<10}  " + "  ".join(words), lasting)


class SilentRecorder:
    """The recorder of a process that is not the first of those that train a run: it writes nothing."""

    def train(self, start: int, end: int, metrics: Any) -> None:
        """Raises Diverged."""
        check_train(start, metrics)

    def evaluation(self, step: int, split: str, metrics: dict[str, Any]) -> None:
        """Raises Diverged."""
        check_evaluation(step, split, metrics)

    def sync(self) -> None:
        """There are no records."""

    def close(self, status: int) -> None:
        """There is no file."""


def check_train(start: int, metrics: Any) -> dict[str, np.ndarray]:
    """The metrics of a dispatch's steps in float64. Raises Diverged."""
    metrics = {name: np.asarray(value, np.float64) for name, value in metrics.items()}
    check_finite(metrics, start)
    return metrics


def check_evaluation(step: int, split: str, metrics: dict[str, Any]) -> None:
    """Raises Diverged where an evaluation is not finite."""
    check_finite({name: np.asarray(value)[None] for name, value in metrics.items()}, step - 1, f"{split} ")


def check_finite(metrics: dict[str, np.ndarray], start: int, where: str = "") -> None:
    """Raises Diverged naming the first step with a number that is not finite, and the terms at fault."""
    bad = {name: ~np.isfinite(value).reshape(len(value), -1).all(axis=1) for name, value in metrics.items()}
    steps = np.flatnonzero(np.any(list(bad.values()), axis=0))
    if len(steps):
        terms = [name for name in bad if bad[name][steps[0]]]
        named = [name for name in ("distortion", "rate") if name in terms] or terms
        loss = metrics["loss"][steps[0]]
        raise Diverged(f"step {start + steps[0] + 1}: {where}{', '.join(named)} not finite (loss {loss:g})")


def check_parameters(step: int, params: Any) -> None:
    """Raises Diverged unless every parameter after `step` is finite: a bad last gradient shows in no loss yet."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise Diverged(f"step {step}: the gradient not finite")
