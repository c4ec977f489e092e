"""The smallest run on digits, trained in this process."""

from pathlib import Path

from vae_jax import cli

SMALL = {
    "train.steps": 60,
    "train.batch_size": 20,
    "train.dispatch": 10,
    "log.every": 20,
    "evaluation.every": 30,
    "evaluation.batch_size": 300,
    "checkpoint.every": 20,
    "net.hidden": "(8,)",
    "latent_dim": 3,
    "parallel.devices": 1,
}
"""A call takes ten steps whatever is due, so that one compiled program does for all; what is held out is one batch."""


AS_MANY = {"data.validation": 300}
"""As many images of digits validate as test, so that one compiled program does for both."""


def small(**fields) -> dict:
    """The fields of the smallest run, of digits or of other data."""
    return SMALL | ({} if "data.name" in fields else AS_MANY) | fields


def words(config: str = "digits", **fields) -> list[str]:
    """The command line of a config with fields set: words("digits:vq", **{"train.steps": 2})."""
    return [f"--config={config}", *(f"--config.{name}={value}" for name, value in fields.items())]


def small_words(**fields) -> list[str]:
    """The command line of the smallest run."""
    return words(**small(**fields))


def train(folder: Path, config: str = "digits", **fields) -> int:
    """Trains a config in a folder; the exit status."""
    return cli.train([*words(config, **fields), f"--workdir={folder}"])


def train_small(folder: Path, **fields) -> int:
    """Trains the smallest run in a folder; the exit status."""
    return train(folder, **small(**fields))
