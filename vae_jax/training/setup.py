"""What a config makes before any step: data, model, optimiser, initial state."""

from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from vae_jax import data, model
from vae_jax.errors import UserError
from vae_jax.training.metric_runner import expand_metrics
from vae_jax.training.step import TrainState, initial_state


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
    expand_metrics(config.evaluation.metrics, built, dataset)
    return dataset, built


def blank_run(config: ConfigDict, dataset: data.Dataset, built: model.Model) -> Any:
    """A run without weights, to which those of each member are given: all share what it compiles."""
    from vae_jax.inference import TrainedModel

    return TrainedModel(config.to_dict(), dataset.image_shape, built, None, 0)


def initial_state_fn(
    config: ConfigDict, dataset: data.Dataset, built: model.Model
) -> Callable[[jax.Array], TrainState]:
    """root key -> the state before the first step, compiled once for all seeds."""
    return jax.jit(lambda key: initial_state(built, config, dataset.image_shape, key))
