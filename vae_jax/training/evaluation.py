"""The numbers of a split that is not trained on, what is reported of them, and what is fitted after the last step."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import data
from vae_jax.inference import TrainedModel
from vae_jax.metrics.active_units import count_active_units
from vae_jax.randomness import evaluation_key, root_key, stream
from vae_jax.training.executors import MEAN_OF, Executor
from vae_jax.training.placement import place
from vae_jax.training.setup import Setup, evaluation_draws
from vae_jax.training.step import BOUNDS, TrainState, evaluation_params, make_hyper
from vae_jax.typing import Config, Metrics, Params


def member_constants(setup: Setup, configs: Sequence[Config], executor: Executor) -> tuple[Any, Any]:
    """The root key and the traced numbers of each member, where it is computed."""
    return executor.to_devices([(root_key(config["seed"]), make_hyper(config, setup.model)) for config in configs])


@dataclass(frozen=True)
class Evaluation:
    """(params, step) -> each member's numbers of the whole split: loss, elbo, distortion, rate, ...

    `metrics` is an executor's evaluation of the split, of `images` images with `draws` of noise for each;
    `bits_per_dim` is nats an image to bits a dimension, None where the likelihood is no probability of the values that
    a pixel has.
    """

    metrics: Callable[..., list[Metrics]]
    key: Any
    hyper: Any
    images: int
    draws: int
    bits_per_dim: float | None

    def __call__(self, params: Params, step: Any) -> list[dict[str, Any]]:
        """Nats per image, and bits/dim, of each member."""
        return [self._named(terms) for terms in self.metrics(params, self.key, step, self.hyper)]

    def _named(self, terms: Metrics) -> dict[str, Any]:
        numbers = log_metrics(terms) | standard_errors(terms, self.images, self.draws)
        if self.bits_per_dim is not None and "elbo" in numbers:
            numbers["bits_per_dim"] = -numbers["elbo"] / self.bits_per_dim
        return numbers


def make_evaluation(setup: Setup, configs: Sequence[Config], split: data.Split, executor: Executor) -> Evaluation:
    """The evaluation of members with these configs on `split`."""
    config, likelihood = setup.config, setup.model.likelihood
    placed = place(split, config, executor.devices)
    metrics = executor.evaluation(setup.evaluation_step, config["evaluation"]["batch_size"], placed, setup.once)
    levels = 256 if config["data"]["binarize"] == "none" else 2
    nats = math.prod(setup.dataset.image_shape) * math.log(2) if likelihood.levels == levels else None
    # The key of training is the run's own, this one is of the data.
    key, hyper = executor.to_devices([(evaluation_key(), make_hyper(each, setup.model)) for each in configs])
    return Evaluation(metrics, key, hyper, split.size, evaluation_draws(config), bits_per_dim=nats)


def standard_errors(terms: Mapping[str, Any], images: int, draws: int) -> dict[str, float]:
    """The standard error of the mean of each bound over images, and of its part that more draws would lower, nats.

        standard_error = s / sqrt(images),    s^2 the variance of the images' values, each a mean over its draws
        draw_error = sqrt(mean over images of s_i^2 / (draws images)),    s_i^2 the variance of an image's draws

    The first takes the images for draws of what there could be, and has the second in it.
    """
    squares = {}
    for name in BOUNDS:
        if f"{name}_variance" in terms and images > 1:
            squares[f"{name}.standard_error"] = terms[f"{name}_variance"] / (images - 1)
        if f"{name}_draw_variance" in terms:
            squares[f"{name}.draw_error"] = terms[f"{name}_draw_variance"] / (draws * images)
    return {name: math.sqrt(square) for name, square in squares.items() if math.isfinite(square)}


MOST_CODES = 10_000
"""Codes of training images that a variant may fit something to."""


def training_codes(run: TrainedModel, split: data.Split) -> np.ndarray:
    """Codes of training images as the model saw them: binarised, where the config says so, by a draw of their own."""
    indices = data.sample_indices(split, MOST_CODES)
    key = stream(root_key(run.config["seed"]), "fit")
    images = jax.jit(data.binarizer(run.config["data"]["binarize"]))(
        jnp.asarray(split.fetch(jnp.asarray(indices))), key, jnp.asarray(indices)
    )
    return run.encode(np.asarray(images), None if split.labels is None else np.asarray(split.labels)[indices])


def fit_after_training(
    setup: Setup, configs: Sequence[Config], state: TrainState, executor: Executor, ended: Sequence[bool]
) -> TrainState:
    """The state of members, of those that have `ended` with what the variant fits to each one's training codes."""
    fit = setup.model.variant.fit_after_training
    if fit is None or not any(ended):
        return state
    states = zip(configs, executor.to_host(state)[: len(configs)], ended, strict=True)
    return executor.to_devices(
        [_fitted(setup, fit, config, state) if ends else state for config, state, ends in states]
    )


def _fitted(setup: Setup, fit: Callable, config: Config, state: TrainState) -> TrainState:
    params = evaluation_params(state)
    run = setup.template.with_params(config, params, config["train"]["steps"])
    own = fit(params, lambda: training_codes(run, setup.dataset.train))["own"]

    def with_fit(tree: Params) -> Params:
        # Only what was fitted: the rest of the live weights is not that of their average.
        leaves = jax.tree.map(lambda new, old, live: live if new is old else new, own, params["own"], tree["own"])
        return {**tree, "own": leaves}

    average = None if state.average is None else with_fit(state.average)
    return state._replace(params=with_fit(state.params), average=average)


MOMENTS = {"code_mean", *(f"{name}_draw_variance" for name in BOUNDS), *MEAN_OF}
"""Metrics of a step from which others are made, and which are not logged."""


def log_metrics(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as they are logged: the codes' variances become the number of active units."""
    logged = {name: value for name, value in terms.items() if name not in MOMENTS}
    return logged | {"active_units": count_active_units(terms["code_variance"])}
