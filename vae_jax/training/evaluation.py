"""A run's checkpoint to its held-out numbers and pictures.

    python -m experiments.evaluate --workdir=runs/digits [--checkpoint=best] [--metrics=mig,likelihood:k=5000]

The last step's checkpoint gives evaluation.json and pictures/, the best evaluation_best.json and pictures_best/,
the latest of a run that has not finished evaluation_<step>.json and pictures_<step>/. With --metrics (docs/metrics.md)
only those are computed, and join what is in the file; "all" stands for every one that the run can have. What is found
of a finished run goes to its W&B run too, if it has one.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import data, randomness
from vae_jax.inference import TrainedModel
from vae_jax.metrics.active_units import count_active_units
from vae_jax.model import Model
from vae_jax.randomness import stream
from vae_jax.training import executors
from vae_jax.training.step import Fetch, Hyper, TrainState, evaluation_params, make_eval_step
from vae_jax.typing import Config, Params
from vae_jax.variants import leave_as_trained


def make_hyper(config: Config, built: Model) -> Hyper:
    """The traced numbers of a run."""
    as_array = partial(jnp.asarray, dtype=jnp.float32)
    floats = {name: as_array(config["variant"][name]) for name in built.floats}
    return Hyper(as_array(config["train"]["learning_rate"]), floats)


def member_constants(configs: Sequence[Config], built: Model, placement: executors.Placement) -> tuple[Any, Any]:
    """The root key and the traced numbers of each member, where it is computed."""
    return placement.place([(randomness.root_key(config["seed"]), make_hyper(config, built)) for config in configs])


def fetch_fn(config: Config) -> Callable[[data.Split], Fetch]:
    """split -> how its batches are made."""
    binarize = data.binarizer(config["data"]["binarize"])
    return lambda split: partial(data.make_batch, split, binarize)


def evaluator(
    configs: Sequence[Config], built: Model, split: data.Split, placement: executors.Placement
) -> Callable[[Params, Any], list[dict]]:
    """(params, step) -> each member's numbers of the whole held-out split: loss, elbo, distortion, rate, ..."""
    config, (key, floats) = configs[0], member_constants(configs, built, placement)
    fetch = fetch_fn(config)
    whole = placement.evaluation(
        lambda part: make_eval_step(built.nets, built.variant, fetch(part)),
        config["evaluation"]["batch_size"],
        split,
    )
    discrete = built.likelihood.levels == (256 if config["data"]["binarize"] == "none" else 2)
    pixels = math.prod(split.fetch(jnp.zeros(1, jnp.int32)).shape)

    def completed(terms: dict) -> dict:
        found = log_metrics(terms)
        if discrete and "elbo" in found:
            found["bits_per_dim"] = -found["elbo"] / (pixels * math.log(2))
        return found

    return lambda params, step: [completed(terms) for terms in whole(params, key, step, floats)]


MOST_CODES = 10_000
"""Codes of training images that a variant may fit something to."""


def training_codes(run: TrainedModel, split: data.Split) -> np.ndarray:
    """Codes of training images as the model saw them: binarised, where the config says so, by a draw of their own."""
    some = data.some(split, MOST_CODES)
    key = stream(randomness.root_key(run.config["seed"]), "fit")
    seen = jax.jit(data.binarizer(run.config["data"]["binarize"]))(jnp.asarray(split.fetch(some)), key, some)
    return run.encode(np.asarray(seen), None if split.labels is None else np.asarray(split.labels)[some])


def fit_after_training_fn(
    configs: Sequence[Config], dataset: data.Dataset, built: Model, placement: executors.Placement
) -> Callable:
    """state -> the state with what the variant fits to each member's training codes after the last step."""

    def one(blank: TrainedModel, config: Config, state: TrainState) -> TrainState:
        params = evaluation_params(state)
        run = blank.at(config, params, config["train"]["steps"])
        own = built.variant.settle(params, lambda: training_codes(run, dataset.train))["own"]
        # Only what was fitted: the rest of the live weights is not that of their average.
        fitted = lambda live: jax.tree.map(lambda new, old, x: x if new is old else new, own, params["own"], live)  # noqa: E731
        both = [tree and {**tree, "own": fitted(tree["own"])} for tree in (state.params, state.average)]
        return state._replace(params=both[0], average=both[1])

    def settle(state: TrainState) -> TrainState:
        if built.variant.settle is leave_as_trained:
            return state
        states = placement.members(state)[: len(configs)]
        blank = TrainedModel(configs[0], dataset.image_shape, built, None, 0)
        return placement.place([one(blank, config, state) for config, state in zip(configs, states, strict=True)])

    return settle


def log_metrics(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics as they are logged: the codes' variances become the number of active units."""
    shown = {name: value for name, value in terms.items() if name not in ("code_mean", "code_variance")}
    return shown | {"active_units": count_active_units(terms["code_variance"])}


def held_out_table(found: Mapping[str, Any]) -> str:
    """The held-out numbers as a few aligned lines."""
    units = {"active_units": "latents", "bits_per_dim": "bits/dim"}
    rows = [name for name in ("elbo", "distortion", "rate", "loss", "active_units", "bits_per_dim") if name in found]
    lines = [f"  {name:<13}{_number(found[name]):>10}  {units.get(name, 'nats per image')}" for name in rows]
    return "\n".join(["held-out split", *lines])


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"
