"""Evaluates the checkpoint of a run."""

from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from ml_collections import ConfigDict

from vae_jax import data, model
from vae_jax.config.run_end import has_ended
from vae_jax.files import read_json, write_json
from vae_jax.inference import TrainedModel
from vae_jax.jax_flags import pinned_flags
from vae_jax.metrics._requests import parse_requests
from vae_jax.screen import TERM, wrap_text
from vae_jax.training import writers
from vae_jax.training.evaluation import make_evaluation, training_codes
from vae_jax.training.executors import DataParallel, local_devices
from vae_jax.training.metric_runner import expand_metrics, read_evaluation, run_metrics
from vae_jax.training.open_run import open_run
from vae_jax.training.run_results import TABLE_INDENT, merge_splits, numbers_table
from vae_jax.training.setup import Setup
from vae_jax.training.step import optimizer_for
from vae_jax.typing import Config


@pinned_flags()
def evaluate_run(
    folder: Path, checkpoint: str = "latest", metrics: str = "", missing_only: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """The numbers of a run's checkpoint, written beside those that its folder has, and its pictures.

    The last step's checkpoint gives evaluation.json and pictures/, the best evaluation_best.json and pictures_best/,
    the latest of a run that has not finished evaluation_<step>.json and pictures_<step>/.

    Args:
        folder: the folder of a run.
        checkpoint: "latest" or "best".
        metrics: in place of the numbers of the splits and pictures: "mig,likelihood:k=5000", or "all".
        missing_only: whether metrics that are in the file already are left as they are.

    Returns:
        All that is known of the checkpoint (nats per image), and the metrics that could not be computed.

    Raises:
        UserError: where the folder holds no run, no whole checkpoint, or a metric is unknown or not for this run.
    """
    run = open_run(folder, checkpoint)
    dataset = model.load_data(run.config["data"])
    words = expand_metrics(metrics, run.model, dataset)
    steps, ended = run.config["train"]["steps"], read_json(folder / "evaluation.json")
    finished = run.step == steps or (run.step == ended.get("step") and has_ended(ended, steps))
    if not finished and run.model.variant.fit_after_training is not None:
        run.params = run.model.variant.fit_after_training(run.params, lambda: training_codes(run, dataset.train))
    unfinished = "" if finished else f"_{run.step}"
    suffix = unfinished if checkpoint == "latest" else f"_{checkpoint}"
    file = folder / f"evaluation{suffix}.json"
    if missing_only:
        known = read_evaluation(file, run.step)
        words = ",".join(request.word for request in parse_requests(words) if request.label not in known)
        if not words:
            return known, []
    print(wrap_text(f"{folder} at step {run.step} ({checkpoint} checkpoint), into {file}"), flush=True)
    if words:
        evaluation, failed = run_metrics(words, run, dataset, file, partial(print, flush=True))
    else:
        evaluation, failed = evaluate_held_out(run, dataset, file, folder / f"pictures{suffix}"), []
    if (folder / "evaluation.json").exists():  # or the run still writes there itself
        mirror_evaluation(folder, run.config, evaluation, "final" if checkpoint == "latest" else checkpoint)
    return evaluation, failed


def evaluate_held_out(run: TrainedModel, dataset: data.Dataset, file: Path, folder: Path) -> dict[str, Any]:
    """The test numbers of a run into `file`, those of validation beside them, and its pictures into `folder`."""
    from vae_jax.plots import run_pictures  # brings matplotlib

    executor = DataParallel(local_devices()[:1])
    setup = Setup(ConfigDict(run.config), dataset, run.model, optimizer_for(run.config, run.model.variant))
    state = executor.to_devices([(run.params, jnp.int32(run.step))])
    by_split = {}
    for name, split in dataset.splits.items():
        if name != "train":
            (by_split[name],) = make_evaluation(setup, [run.config], split, executor)(*state)
    numbers = merge_splits(by_split["test"], by_split.get("validation"), run.step)
    write_json(file, read_evaluation(file, run.step) | numbers)
    run_pictures.draw(run, dataset, numbers, folder)
    print(wrap_text(numbers_table({f"step {run.step}": numbers}), TABLE_INDENT, TERM))
    print(f"pictures in {folder}")
    return read_evaluation(file, run.step)


def mirror_evaluation(folder: Path, config: Config, evaluation: dict[str, Any], checkpoint: str) -> None:
    """Sends an evaluation to the W&B run that mirrors this one, where the config asks for it."""
    mirror = writers.WandbMirror(folder, config["wandb"], config)
    mirror.summary(evaluation, checkpoint)
    mirror.close()
