"""What a program or a notebook calls: train, evaluate, compare, load_config, open_run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax.comparison.analyse import compare_folders
from vae_jax.comparison.results import Comparison
from vae_jax.config.parse import load_config
from vae_jax.errors import UserError, errors_of
from vae_jax.files import user_path
from vae_jax.inference import TrainedModel
from vae_jax.report.comparison_files import write_files
from vae_jax.training.evaluate_run import evaluate_run
from vae_jax.training.open_run import open_run
from vae_jax.training.train_run import train_in_folder

__all__ = ["compare", "evaluate", "load_config", "open_run", "train"]


def train(config: ConfigDict, workdir: str | Path, start: str = "") -> TrainedModel:
    """Trains the run of `config` in `workdir`, from its newest checkpoint or from the start.

    The same call again goes on where the run stopped, to the same bits; a run that has finished is opened.

    Args:
        config: a whole config, as `load_config` gives it.
        workdir: the folder of the run, made where it is not there. README.md says what it holds afterwards.
        start: "runs/other" or "runs/other:best", whose weights a new run begins with; random ones where it is empty.

    Returns:
        The model at its last step.

    Raises:
        UserError: naming what is wrong with the config, the folder or the machine, and where the run diverged.
        KeyboardInterrupt: where Ctrl-C stopped it, once all is saved.
    """
    with errors_of("workdir: "):
        folder = user_path(workdir)
    status = train_in_folder(config, folder, start=start)
    if status > 128:
        raise KeyboardInterrupt(f"stopped by signal {status - 128}; the same call goes on from the last checkpoint")
    if status:
        raise UserError(f"{workdir}: the run diverged; failed.json there says where")
    return open_run(folder)


def evaluate(workdir: str | Path, checkpoint: str = "latest", metrics: str = "") -> dict[str, Any]:
    """The numbers of a run's checkpoint, which are written into its folder too.

    Args:
        workdir: the folder of a run.
        checkpoint: "latest" or "best".
        metrics: in place of the held-out numbers and pictures: "mig,likelihood:k=5000" (docs/metrics.md), or "all".

    Returns:
        All that is known of the checkpoint by name; losses, bounds and likelihoods in nats per image.

    Raises:
        UserError: where the folder holds no run, no whole checkpoint, or a metric cannot be computed of it.
    """
    with errors_of("workdir: "):
        folder = user_path(workdir)
    found, failed = evaluate_run(folder, checkpoint, metrics)
    if failed:
        raise UserError(f"metrics: {', '.join(failed)} could not be computed of this run")
    return found


def compare(
    runs: str | Path | Sequence[str | Path],
    by: Sequence[str] = (),
    metrics: Sequence[str] = (),
    baseline: str | None = None,
    out: str | Path | None = None,
) -> Comparison:
    """Which runs are better, by how much, and how sure that is.

    Args:
        runs: folders of runs, or of studies.
        by: fields whose values make the groups; those in which the runs differ unless given.
        metrics: the metrics, the score of choice first; the ELBO, its parts and what was evaluated unless given.
        baseline: the group that the others are held against; the VAE's unless given.
        out: where tables, pictures and the report go; none are written unless given.

    Raises:
        UserError: for a folder, field, metric or group that is not there, and where no run has finished.
    """
    folders = [runs] if isinstance(runs, (str, Path)) else list(runs)
    with errors_of("runs: "):
        names = [str(user_path(folder)) for folder in folders]
    comparison = compare_folders(names, tuple(by), tuple(metrics), baseline)
    if out is not None:
        with errors_of("out: "):
            out = user_path(out)
        write_files(out, comparison)
    return comparison
