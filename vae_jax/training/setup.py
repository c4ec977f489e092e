"""What a config makes before any step: data, model, optimiser. Runs that differ in traced numbers alone share it."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vae_jax import data, model, registry
from vae_jax.config.parse import static_fields
from vae_jax.data._arrays import warn_once
from vae_jax.data._augmentation import check_augmentation
from vae_jax.errors import UserError, errors_of
from vae_jax.inference import TrainedModel
from vae_jax.model import Model
from vae_jax.models import networks
from vae_jax.models.likelihoods._suggestion import mismatch
from vae_jax.randomness import root_key
from vae_jax.training.executors import Devices, MemberParallel, free_bytes, local_devices
from vae_jax.training.metric_runner import expand_metrics
from vae_jax.training.scan import member_map
from vae_jax.training.step import (
    TrainState,
    fetch_fn,
    initial_state,
    make_eval_step,
    make_train_step,
    optimizer_for,
)
from vae_jax.typing import Config, Key, Params

T = TypeVar("T")


def evaluation_draws(config: Config) -> int:
    """Draws of noise for each held-out image; a config of an earlier version does not say so."""
    return config["evaluation"].get("draws", 1)


@dataclass(frozen=True)
class Setup:
    """The data, the model and the optimiser of a config, and the steps made of them.

    `programs` keeps what populations that follow one another have compiled; None where there is one alone.
    """

    config: ConfigDict
    dataset: data.Dataset
    model: Model
    optimizer: optax.GradientTransformation
    programs: dict[Hashable, Any] | None = None

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives: where programs are kept, made once for each key."""
        if self.programs is None:
            return make()
        if key not in self.programs:
            self.programs[key] = make()
        return self.programs[key]

    def train_step(self, split: data.Split) -> Callable:
        """The train step on `split`."""
        fetch, ema = fetch_fn(self.config, is_training=True)(split), self.config.train.ema
        return make_train_step(self.model.nets, self.model.variant, self.optimizer, fetch, ema)

    def evaluation_step(self, split: data.Split) -> Callable:
        """The evaluation step on `split`."""
        fetch, draws = fetch_fn(self.config)(split), evaluation_draws(self.config)
        return make_eval_step(self.model.nets, self.model.variant, fetch, draws)

    @cached_property
    def initial_state(self) -> Callable[[Key], TrainState]:
        """root key -> the state before the first step, compiled once for all seeds."""
        return jax.jit(lambda key: initial_state(self.model, self.config, self.dataset.image_shape, key))

    @cached_property
    def state_shape(self) -> TrainState:
        """The shapes and dtypes of a state."""
        return jax.eval_shape(self.initial_state, root_key(0))

    @cached_property
    def convolves(self) -> bool:
        """Whether its networks convolve."""
        nets, variant = self.model.nets, self.model.variant
        inputs = variant.dummy_inputs(self.dataset.image_shape, self.config.latent_dim)

        def apply(params: Params, x: Any, z: Any) -> Any:
            return nets.encode(params, x), nets.decode(params, z)

        return "conv_general_dilated" in str(jax.make_jaxpr(apply)(self.state_shape.params["nets"], *inputs))

    def member_executor(self, devices: Devices, platform: str = "") -> MemberParallel:
        """How members of it lie on `devices`, which go through them as those of `platform` do: their own by default."""
        return MemberParallel(devices, map=member_map(platform or devices[0].platform, self.convolves))

    @cached_property
    def record(self) -> dict[str, Any]:
        """What config.json holds of a run beside its config: the shape of its images, and what tells data apart."""
        return {"image_shape": list(self.dataset.image_shape), "data": {"digest": data.fingerprint(self.dataset)}}

    @property
    def fits_after_training(self) -> bool:
        """Whether something is fitted to the codes after the last step."""
        return self.model.variant.fit_after_training is not None

    @cached_property
    def template(self) -> TrainedModel:
        """A trained model without weights, to which those of each run are given: all share what it compiles."""
        return TrainedModel(self.config.to_dict(), self.dataset.image_shape, self.model, None, 0)


def make_setup(config: ConfigDict, dataset: data.Dataset) -> Setup:
    """The setup of a config on a dataset. Raises UserError naming the field that is wrong."""
    built = model.build(config, dataset.image_shape)
    return Setup(config, dataset, built, optimizer_for(config, built.variant))


def prepare(config: ConfigDict, dataset: data.Dataset | None = None) -> Setup:
    """The setup of a config. Raises UserError where data and model do not fit, or cannot be measured as it asks.

    `dataset` is that of the config, where it is there already.
    """
    dataset = model.load_data(config.data) if dataset is None else dataset
    _check_table(config, dataset)
    setup = make_setup(config, dataset)
    batch, size = config.train.batch_size, dataset.train.size
    if batch > size:
        raise UserError(
            f"config.train.batch_size: {batch} is more than the {size} training images; give at most {size}"
        )
    with errors_of("config.data."):
        has_factors = dataset.train.factors is not None
        check_augmentation(config.data.flip, config.data.shift, dataset.image_shape, has_factors)
    if dataset.validation is None:
        _check_nothing_decides(config)
    for split in dataset.splits.values():
        with errors_of("config."), registry.users_code("variant.name", config.variant.name):
            setup.model.variant.check(split)
    for words in (config.evaluation.metrics, config.evaluation.validation_metrics):
        expand_metrics(words, setup.model, dataset)
    _check_size(setup)
    _warn_of_mismatch(setup)
    return setup


MOST_SETUPS = 16
"""Setups that are kept with their programs: a search over widths makes one for each."""


@dataclass(frozen=True)
class SetupCache:
    """The setups of populations that follow one another, by the fields that are not traced, with their programs."""

    setups: dict[str, Setup] = field(default_factory=dict)

    def get(self, config: ConfigDict) -> Setup:
        """The setup of a config. Raises UserError as `prepare` does."""
        key = repr(sorted(static_fields(config).items()))
        setup = self.setups.pop(key, None)
        if setup is None:
            same_data = (other.dataset for other in self.setups.values() if other.config.data == config.data)
            setup = replace(prepare(config, next(same_data, None)), programs={})
        if len(self.setups) == MOST_SETUPS:
            del self.setups[next(iter(self.setups))]
        self.setups[key] = setup  # as the one that was asked for last
        return setup


SHOWN = 64
"""Training images by which it is seen whether a likelihood suits them."""


def _warn_of_mismatch(setup: Setup) -> None:
    """Says in a line where the likelihood does not suit the images."""
    train, config = setup.dataset.train, setup.config

    def images() -> np.ndarray:
        return np.asarray(train.fetch(jnp.asarray(data.sample_indices(train, SHOWN))))

    if config.data.binarize == "real":
        return  # what suits grey levels alone is refused
    if line := mismatch(config.likelihood.name, setup.model.likelihood, config.data.binarize, images):
        warn_once(line)


def _check_table(config: ConfigDict, dataset: data.Dataset) -> None:
    """Raises UserError for a network of pictures on the rows of a table."""
    if dataset.columns is not None and not networks.suits_tables(config.net.name):
        raise UserError(
            f"config.net.name: {config.net.name!r} is for pictures, and columns of a table have no neighbours; take mlp"
        )


def _check_nothing_decides(config: ConfigDict) -> None:
    """Raises UserError where something would go by a validation split that is not there."""
    deciding = {
        "sweep.halving": config.sweep.halving,
        "train.patience": config.train.patience,
        "evaluation.validation_metrics": config.evaluation.validation_metrics,
    }
    for name, value in deciding.items():
        if value:
            raise UserError(
                f"config.{name}: {value} needs the validation split, which config.data.validation=0 turns off; "
                "give a fraction or a count there"
            )


def _check_size(setup: Setup) -> None:
    """Raises UserError where the state of one run, with a gradient beside it, is more than a device has free."""
    with registry.users_code("config.net.name", setup.config.net.name):
        state = setup.state_shape
    needed, free = tree_bytes(state) + tree_bytes(state.params), free_bytes(local_devices()[:1])
    if needed > free:
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        raise UserError(
            f"this config makes {count:,} parameters, which take {needed / 2**30:,.1f} GiB to train, and "
            f"{free / 2**30:,.1f} GiB are free; make config.latent_dim, config.net or the images smaller"
        )


def tree_bytes(tree: Any) -> int:
    """The size of a tree's arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype"))
