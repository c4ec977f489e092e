"""What a variant does to a model that is trained: short runs on real digits, whole runs compiled as one program."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from helpers import tiny_vae
from vae_jax import data, model, randomness
from vae_jax.config.parse import parse_config
from vae_jax.inference import TrainedModel
from vae_jax.model import Model
from vae_jax.training.evaluation import training_codes
from vae_jax.training.step import (
    evaluation_params,
    fetch_fn,
    initial_state,
    make_eval_step,
    make_hyper,
    make_train_step,
    optimizer_for,
)

CONFIG = Path(__file__).parents[2] / "configs/digits.py"
LENGTHS = [
    pytest.param("short", id="short", marks=pytest.mark.full),
    pytest.param("long", id="long", marks=pytest.mark.slow),
]
"""A test of an effect takes `length`: the short form trains for seconds, the long one for a minute or so."""


class Trained(NamedTuple):
    """A finished run on digits: what a user opens, and its numbers as arrays over steps (train) and means (test)."""

    run: TrainedModel
    built: Model
    params: Any
    train: dict[str, np.ndarray]
    test: dict[str, np.ndarray]
    dataset: data.Dataset


def on_digits(steps: int, **overrides) -> Trained:
    """Trains configs/digits.py for `steps` with fields set as on the command line ("variant.beta": 4 and so on).

    Takes seconds: two hidden layers of 128 unless net.hidden says otherwise. The held-out numbers are of
    the last step's weights, the mean of eight draws of the noise.
    """
    fields = {"net.hidden": "(128, 128)", "train.learning_rate": 2e-3, "train.steps": steps, **overrides}
    config = parse_config([f"--config={CONFIG}", *(f"--config.{name}={value}" for name, value in fields.items())])
    dataset = model.load_data(config.data)
    built = model.build(config, dataset.image_shape)
    built.variant.check(dataset.train)
    key, hyper, fetch = randomness.root_key(config.seed), make_hyper(config, built), fetch_fn(config)
    split = jax.device_put(dataset.train)
    one = make_train_step(
        built.nets, built.variant, optimizer_for(config, built.variant), fetch(split), config.train.ema
    )
    indices = data.index_stream(config.seed, 0, steps, split.size, config.train.batch_size)

    def whole(state, indices):
        return jax.lax.scan(lambda state, share: one(state, share, key, hyper), state, indices)

    with jax.debug_key_reuse(False):  # the steps are checked in test_variants.py; here it only slows compiling
        state = jax.jit(lambda: initial_state(built, config, dataset.image_shape))()
        state, metrics = tiny_vae.over_axis(whole, None, 0, **tiny_vae.COMPILER_OPTIONS)(
            state, jnp.asarray(indices)[None]
        )
        params = jax.tree.map(np.asarray, evaluation_params(state))
        run = TrainedModel(config.to_dict(), dataset.image_shape, built, params, steps)
        if built.variant.fit_after_training is not None:
            params = built.variant.fit_after_training(params, lambda: training_codes(run, dataset.train))
        run = TrainedModel(config.to_dict(), dataset.image_shape, built, params, steps)
        test = held_out(built, params, dataset.test, fetch, hyper, steps)
    return Trained(run, built, params, jax.tree.map(np.asarray, metrics), test, dataset)


def held_out(built: Model, params: Any, split: data.Split, fetch, hyper, step: int) -> dict[str, np.ndarray]:
    """The mean metrics of all of `split` as one batch, over eight draws of the noise."""
    step_of = make_eval_step(built.nets, built.variant, fetch(jax.device_put(split)))
    evaluated = tiny_vae.over_axis(partial(step_of), None, 0, None, None, None)
    indices = jnp.arange(split.size)[None]
    draws = [evaluated(params, indices, randomness.root_key(seed), jnp.int32(step), hyper) for seed in range(8)]
    return {name: np.mean([draw[name] for draw in draws], axis=0) for name in draws[0]}
