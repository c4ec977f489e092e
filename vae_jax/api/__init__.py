"""What a program or a notebook calls: fit, train, sweep, open_run, evaluate, compare, load_config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from vae_jax.api import objects
from vae_jax.api.fit_run import fit
from vae_jax.api.keywords import python_errors
from vae_jax.api.run_comparison import RunComparison, make_comparison
from vae_jax.api.sweep_runs import Runs, sweep
from vae_jax.api.trained_run import TrainedRun, evaluate_folder, open_folder, train_folder
from vae_jax.config import parse
from vae_jax.errors import errors_of
from vae_jax.files import read_json, user_path
from vae_jax.report.comparison_files import write_files

__all__ = ["compare", "evaluate", "fit", "load_config", "open_run", "sweep", "train"]

Runlike = str | Path | TrainedRun
"""A run: its folder, or a model that lies in one."""


def load_config(name_or_path: str = parse.DEFAULT, **fields: Any) -> ConfigDict:
    """The config of NAME|FILE.py[:ARGUMENT] with `fields` set, checked.

    Args:
        name_or_path: a packaged config ("digits", "digits:factor") or a file ("my/file.py") with get_config().
        fields: values by dotted name, as in `load_config("digits", seed=1, **{"variant.beta": 4})`.

    Raises:
        UserError: naming the field, the file or the name that is wrong.
    """
    with python_errors():
        return parse.load_config(name_or_path, **fields)


def train(config: ConfigDict, workdir: str | Path, start: str = "") -> TrainedRun:
    """Trains the run of `config` in `workdir`, from its newest checkpoint or from the start.

    The same call resumes a stopped run, to the same bits, and opens a finished one.

    Args:
        config: a whole config, as `load_config` gives it.
        workdir: the folder of the run, made if it does not exist. docs/runs.md says what it holds afterwards.
        start: "runs/other" or "runs/other:best", a run whose weights a new one begins with; empty for random weights.

    Returns:
        The model at its last step.

    Raises:
        UserError: naming what is wrong with the config, the folder or the machine, or if the run diverged.
        KeyboardInterrupt: if Ctrl-C stopped it, once all is saved.
    """
    with errors_of("workdir: "):
        folder = user_path(workdir)
    return train_folder(config, folder, start)


def open_run(
    folder: str | Path,
    checkpoint: str = "latest",
    *,
    net: Any = None,
    variant: Any = None,
    likelihood: Any = None,
    data: Any = None,
) -> TrainedRun:
    """Opens the run in `folder`; its data are not needed.

    A variant that fits something after the last step (the mixture of rae, the tree of vq) has it in the last checkpoint
    only. An earlier checkpoint has the prior of training.

    Args:
        folder: the folder of a run.
        checkpoint: "latest", or "best" by the bound on its validation split.
        net: the networks that it was fitted with, if they were an object that cannot be imported.
        variant: its objective, likewise.
        likelihood: its likelihood, likewise.
        data: its Dataset, or the function that loads it, likewise; needed only to train or evaluate the run.

    Raises:
        UserError: if the folder holds no run, no checkpoint or only damaged ones, or if an object is missing.
    """
    with errors_of("folder: "):
        path = user_path(folder)
    config = read_json(path / "config.json").get("config")
    given = {"net": net, "variant": variant, "likelihood": likelihood, "data": data}
    objects.supply(config if isinstance(config, dict) else {}, given)
    return open_folder(path, checkpoint)


def evaluate(workdir: str | Path, checkpoint: str = "latest", metrics: str = "") -> dict[str, Any]:
    """Computes the numbers of a run's checkpoint, and writes them into its folder too.

    Args:
        workdir: the folder of a run.
        checkpoint: "latest" or "best".
        metrics: which to compute, "mig,likelihood:k=5000" or "all" (docs/metrics.md); empty for the test numbers and
            pictures.

    Returns:
        All numbers of the checkpoint by name; losses, bounds and likelihoods in nats per image.

    Raises:
        UserError: if the folder holds no run or no whole checkpoint, or if a metric cannot be computed for it.
    """
    with errors_of("workdir: "):
        folder = user_path(workdir)
    return evaluate_folder(folder, checkpoint, metrics)


def compare(
    runs: Runlike | Runs | Sequence[Runlike],
    by: Sequence[str] = (),
    metrics: Sequence[str] = (),
    baseline: str | None = None,
    out: str | Path | None = None,
    checkpoint: str = "latest",
) -> RunComparison:
    """Which runs are better, by how much, and how sure that is; a table in a notebook and in a terminal.

    Args:
        runs: the result of `sweep`; or one or several models, or folders of runs or studies.
        by: fields whose values make the groups; by default those in which the runs differ.
        metrics: the metrics, the score of choice first; by default the ELBO, its parts and all evaluated metrics.
        baseline: the group that the others are compared with; by default the VAE's.
        out: the folder for tables, pictures and the report; by default none are written.
        checkpoint: of each run: "latest", that of the last step, or "best" by its validation split.

    Raises:
        UserError: if a folder, field, metric or group does not exist, or if no run has finished.
    """
    with errors_of("out: "):
        out = out if out is None else user_path(out)
    with python_errors():
        comparison = make_comparison(*_folders(runs), tuple(by), tuple(metrics), baseline, checkpoint)
        if out is not None:
            write_files(out, comparison)
    return comparison


def _folders(runs: Runlike | Runs | Sequence[Runlike]) -> tuple[list[Path], str]:
    """The folders of runs and of studies, and what they are called together."""
    if isinstance(runs, Runs):
        return [folder for folder in runs.folders if folder.exists()], str(runs.folder)
    items = [runs] if isinstance(runs, (str, Path, TrainedRun)) else runs
    with errors_of("runs: "):
        folders = [user_path(item.folder if isinstance(item, TrainedRun) else item) for item in items]
    return folders, ",".join(map(str, folders))
