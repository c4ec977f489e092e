"""Runs of no step, and data to show them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import data, model
from vae_jax.config.parse import parse_config
from vae_jax.inference import TrainedModel
from vae_jax.plots import spread
from vae_jax.training.step import evaluation_params, initial_state


@functools.cache
def untrained(shape=(8, 8, 1), size=1.0, **fields) -> TrainedModel:
    """A run of no step whose weights, biases too, are noise."""
    fields = {"net.hidden": "(12, 9)", "latent_dim": 4, **fields}
    words = [f"--config.{name}={value}" for name, value in fields.items() if value is not None]
    config = parse_config(["--config=digits", *words])
    built = model.build(config, shape)
    # Only the shapes are of the initial state: to compile what draws it takes longer than all that is tested.
    shapes = jax.eval_shape(lambda: evaluation_params(initial_state(built, config, shape)))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.asarray(size * noise(rng, leaf.shape)), shapes)
    return TrainedModel(config.to_dict(), shape, built, params, 0)


def noise(rng, shape):
    """Weights of about the size that they start with, and biases that are not zero."""
    scale = 1 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.1
    return np.float32(scale * rng.normal(size=shape))


def some_data(shape=(8, 8, 1), n=30, labels=True):
    draw = np.random.default_rng(2)
    images, label = draw.integers(0, 256, (n, *shape)).astype(np.uint8), np.arange(n) % 10 if labels else None
    return data.from_arrays(images, label, images, label)


def on_the_page(dataset, count):
    """The first images of a page."""
    indices = spread.spread_positions(dataset.test, np.arange(dataset.test.size), dataset.test.size)
    return np.asarray(dataset.test.fetch(indices[:count]))
