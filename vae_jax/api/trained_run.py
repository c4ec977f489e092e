"""A trained model with the folder that it lies in: its records, its scores, its pictures, more steps."""

import functools
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from vae_jax import model, samplers
from vae_jax.api.history import History
from vae_jax.api.image_source import DATA_FILE, LABELS_FILE
from vae_jax.api.keywords import python_errors, set_fields
from vae_jax.api.run_plots import RunPlots
from vae_jax.config.free_fields import decisive_fields
from vae_jax.config.parse import check_config, read_config
from vae_jax.data import Dataset
from vae_jax.errors import UserError, errors_of
from vae_jax.files import read_json, read_records, user_path, write_json
from vae_jax.inference import TrainedModel
from vae_jax.plots.captions import variant_caption
from vae_jax.training import open_run as checkpoints
from vae_jax.training.evaluate_run import evaluate_run
from vae_jax.training.train_run import train_in_folder
from vae_jax.typing import Key


class TrainedRun(TrainedModel):
    """A trained model, and the folder of its run.

    Attributes:
        folder: where its checkpoints and records are (docs/runs.md).
        checkpoint: "latest" or "best", the checkpoint of its weights.
        config: the whole config, as nested dicts; params, nets, step, latent_dim: the model's.
    """

    def __init__(self, trained: TrainedModel, folder: Path, checkpoint: str = "latest"):
        self.__dict__.update(trained.__dict__)
        self.folder, self.checkpoint = folder, checkpoint

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (*super().__reduce__(), self.folder, self.checkpoint)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        return (
            f"TrainedRun: {variant_caption(self.config)}, seed {self.config['seed']}, on {self.config['data']['name']} "
            f"({shape}); {self.config['net']['name']}, {self.config['likelihood']['name']}, {self.latent_dim} latents; "
            f"step {self.step:,} of {self.config['train']['steps']:,} ({self.checkpoint} checkpoint); in {self.folder}"
        )

    @property
    def history(self) -> History:
        """The records of its training so far, as metrics.jsonl has them; a list of dicts, which pandas takes too."""
        return History(read_records(self._existing_folder() / "metrics.jsonl"))

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The data that it was trained on, loaded at first use. Raises UserError if they are not there."""
        with python_errors():
            return model.load_data(self.config["data"])

    def sample(
        self, key: Key | int, n: int, labels: ArrayLike | None = None, sampler: str = samplers.PRIOR
    ) -> np.ndarray:
        """Expected images at draws from the prior, or from a sampler fitted to the codes of its training images.

        Args:
            key: a JAX key, or a seed.
            n: how many draws.
            labels: (n,) class numbers, if the prior depends on a label.
            sampler: "prior", "gmm", "two_stage", "coupling_flow" (docs/samplers.md), fitted at first use.

        Returns:
            (n, height, width, channels) float32.

        Raises:
            UserError: as `TrainedModel.sample` and `fit_sampler` do, or if the data for a sampler are not there.
        """
        if sampler != samplers.PRIOR:
            self.fit_sampler(sampler, self.dataset.train)
        return super().sample(key, n, labels, sampler)

    @property
    def plot(self) -> RunPlots:
        """Its pictures: `plot.samples()`, `plot.traversals()`, `plot.reconstructions()`, `plot.curves()`."""
        return RunPlots(self)

    def evaluate(self, *metrics: str) -> dict[str, Any]:
        """Computes the numbers of its checkpoint, and writes them into its folder too.

        Args:
            metrics: names of docs/metrics.md, "mig", "likelihood:k=500", or "all"; none for the test numbers and
                pictures.

        Returns:
            All numbers of the checkpoint by name; losses, bounds and likelihoods in nats per image.

        Raises:
            UserError: if a metric is unknown or cannot be computed for this run, or if its data are not there.
        """
        return evaluate_folder(self._existing_folder(), self.checkpoint, ",".join(metrics))

    def continue_training(self, steps: int | None = None) -> "TrainedRun":
        """Trains on from its newest checkpoint, and becomes the model of its last step.

        The run ends as if it had been this long from the start.

        Args:
            steps: how many steps it has in all, including those already taken; by default the number in its config.

        Raises:
            UserError: if `steps` is fewer than in its config, or if its learning rate depends on their number.
            KeyboardInterrupt: if it was stopped, once all is saved.
        """
        config = read_config(str(self._existing_folder() / "config.json"))
        with python_errors():
            if steps is not None:
                _check_steps(config, steps)
                set_fields(config, {"train.steps": steps})
            check_config(config)
        self.__dict__.update(train_folder(config, self.folder).__dict__)
        return self

    def save(self, folder: str | Path) -> None:
        """Copies its folder and its data to `folder`, where the run is from now on: open, compare and train it there.

        Args:
            folder: a new or empty folder. A W&B run stays with the first folder.

        Raises:
            UserError: if the folder is in use or cannot be made.
        """
        with errors_of("folder: "):
            target = user_path(folder)
        source = self._existing_folder()
        if target.resolve() == source.resolve():
            return
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError(f"folder: {str(target)!r} is there already; give a new one")
        moved = _copy_run(source, target)
        self.config = {**dict(self.config.items()), "data": {**self.config["data"], **moved}}
        self.folder = target

    def _existing_folder(self) -> Path:
        if not (self.folder / "config.json").is_file():
            raise UserError(f"{self.folder}: the folder of this run is not here; open it where it lies")
        return self.folder


def _rebuild(build: Callable[..., TrainedModel], parts: tuple[Any, ...], folder: Path, checkpoint: str) -> TrainedRun:
    return TrainedRun(build(*parts), folder, checkpoint)


def _check_steps(config: ConfigDict, steps: Any) -> None:
    """Raises UserError unless a run of this config may have so many steps in all."""
    known = config.train.steps
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < known:
        raise UserError(f"steps: {steps!r} is not allowed; give a whole number, in all, of at least this run's {known}")
    if steps > known and "train.steps" in decisive_fields(config.to_dict()):
        raise UserError(
            f"steps: the learning rate of this run falls over all its {known}, so a longer run differs from the start; "
            "begin a new one with its weights: vae_jax.train(config, workdir, start=folder)"
        )


def _copy_run(source: Path, target: Path) -> dict[str, str]:
    """Copies the folder of a run, whole or not at all; the fields of its data whose files lie elsewhere now."""
    temporary = target.with_name(f".{secrets.token_hex(4)}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, temporary, ignore=shutil.ignore_patterns("wandb"))
        moved = _take_arrays_along(temporary, target)
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"folder: {str(target)!r} cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return moved


WRITTEN = {"path": DATA_FILE, "labels": LABELS_FILE}
"""The fields of a run's data that name a file which was written for it, and that file's name."""


def _take_arrays_along(copy: Path, target: Path) -> dict[str, str]:
    """Puts the arrays that were written for a run into its copy, whose config names them where it will lie."""
    record = read_json(copy / "config.json")
    section = record["config"]["data"]
    moved = {}
    for field, name in WRITTEN.items():
        arrays = Path(section.get(field) or "")
        if section["name"] not in ("arrays", "table") or arrays.name != name or not arrays.is_file():
            continue
        if not (copy / name).exists():
            shutil.copy(arrays, copy / name)
        moved[field] = str(target.resolve() / name)
    if moved:
        record["config"]["data"] |= moved
        write_json(copy / "config.json", record)
    return moved


def evaluate_folder(folder: Path, checkpoint: str, metrics: str) -> dict[str, Any]:
    """All that is known of a run's checkpoint. Raises UserError where a metric cannot be computed."""
    with python_errors():
        found, failed = evaluate_run(folder, checkpoint, metrics)
    if failed:
        raise UserError(f"metrics: {', '.join(failed)} could not be computed for this run")
    return found


def open_folder(folder: Path, checkpoint: str = "latest") -> TrainedRun:
    """The run in `folder`. Raises UserError where there is none."""
    with python_errors():
        return TrainedRun(checkpoints.open_run(folder, checkpoint), folder, checkpoint)


def train_folder(config: ConfigDict, folder: Path, start: str = "", again: str = "") -> TrainedRun:
    """Trains the run of `config` in `folder`, and opens it.

    Args:
        config: checked.
        folder: of the run.
        start: RUN or RUN:best, whose weights it begins with; random ones where it is empty.
        again: what goes on with it once it has been stopped, in Python.

    Raises:
        UserError: naming what is wrong with the config, the folder or the machine, and where the run diverged.
        KeyboardInterrupt: where it was stopped, once all is saved.
    """
    with python_errors():
        status = train_in_folder(config, folder, start=start)
    if status > 128:
        raise KeyboardInterrupt(f"stopped by signal {status - 128}, all is saved; to go on: {again or _again(folder)}")
    if status:
        raise UserError(f"{folder}: the run diverged; failed.json there says where")
    return open_folder(folder)


def _again(folder: Path) -> str:
    return f"vae_jax.open_run({str(folder)!r}).continue_training()"
