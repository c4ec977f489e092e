"""The train step and the evaluation step: pure functions of (state, indices, key, hyper).

Both run under the named axis AXIS; executors.py lifts them over devices and steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Int

from vae_jax import data, randomness
from vae_jax.data._augmentation import augmentation
from vae_jax.errors import errors_of
from vae_jax.model import Model
from vae_jax.models.collectives import all_gather, batch_positions, mean_over_devices
from vae_jax.models.learning_rates import make_schedule
from vae_jax.models.networks import Nets, refuse_collections
from vae_jax.models.optimizers import averaged, check_decay, check_ema, make_optimizer, partition_optimizers
from vae_jax.typing import Batch, Config, Images, Indices, Key, Metrics, Params, Scalar, StoredImages
from vae_jax.variants import Variant

Fetch = Callable[[Indices, Indices, Key], Batch]
"""fetch(data indices, global indices in the batch, key) -> batch."""


class TrainState(NamedTuple):
    """All that a run carries from step to step; no keys, which follow from the step."""

    step: Int[jax.Array, ""]
    params: Params
    optimizer: optax.OptState
    average: Params | None


class Hyper(NamedTuple):
    """The traced numbers of a run: changing one never recompiles."""

    learning_rate: Scalar
    variant: dict[str, Scalar]
    weight_decay: Scalar | np.float32 = np.float32(0.0)


def init_state(
    key: Key,
    nets: Nets,
    variant: Variant,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    latent_dim: int,
    ema: float,
) -> TrainState:
    """The state before the first step, a function of the root key alone."""
    nets_key, own_key = jax.random.split(randomness.stream(key, "init"))
    dummy_inputs = variant.dummy_inputs(image_shape, latent_dim)
    with errors_of("config.net."):
        nets_params = nets.init(nets_key, *dummy_inputs)
        refuse_collections(nets_params)
    params = {"nets": nets_params, "own": variant.init(own_key, image_shape, latent_dim)}
    # Weak types, which constants without a dtype have, would become strong in a step: another program to compile.
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), params)
    optimizer_state = optimizer.init(params)
    averages = bool(ema) or averaged(optimizer_state, params) is not None
    return TrainState(jnp.int32(0), params, optimizer_state, jax.tree.map(jnp.copy, params) if averages else None)


def evaluation_params(state: TrainState) -> Params:
    """The weights that evaluation and samples use: the moving average where there is one."""
    return state.params if state.average is None else state.average


def summarize_terms(terms: Metrics) -> Metrics:
    """Per-example terms to means over the whole batch; "code" to the batch's mean and variance of each latent."""
    terms = dict(terms)
    code = all_gather(terms.pop("code"))
    means = mean_over_devices(
        {name: jnp.mean(term, axis=0) if jnp.ndim(term) else term for name, term in terms.items()}
    )
    return means | {"code_mean": jnp.mean(code, axis=0), "code_variance": jnp.var(code, axis=0)}


def _average(state: TrainState, params: Params, optimizer_state: optax.OptState, ema: float) -> Params | None:
    if state.average is None:
        return None
    if (average := averaged(optimizer_state, params)) is not None:
        return average
    # The first steps count for more, or the average would remember the random start.
    decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
    return optax.incremental_update(params, state.average, 1.0 - decay)


def make_train_step(
    nets: Nets, variant: Variant, optimizer: optax.GradientTransformation, fetch: Fetch, ema: float = 0.0
) -> Callable[[TrainState, Indices, Key, Hyper], tuple[TrainState, Metrics]]:
    """One step of gradient descent on `variant.loss`: (state, batch_indices, key, hyper) -> (state, metrics).

    `batch_indices` is this device's share of the batch; `key` is the run's root key; metrics are
    means over the whole batch, in nats per image.
    """

    def step(state, batch_indices, key, hyper):
        key = jax.random.fold_in(key, state.step)
        batch = fetch(batch_indices, batch_positions(len(batch_indices)), randomness.stream(key, "binarize"))

        def objective(params):
            noise_key = randomness.stream(key, "noise")
            return variant.loss(nets, params, batch, noise_key, state.step, **hyper.variant)

        (loss, terms), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        loss, gradient = mean_over_devices((loss, gradient))
        rates = {"learning_rate": hyper.learning_rate, "weight_decay": hyper.weight_decay}
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params, **rates)
        params = optax.apply_updates(state.params, updates)
        metrics = summarize_terms(terms) | {"loss": loss}
        return TrainState(
            state.step + 1, params, optimizer_state, _average(state, params, optimizer_state, ema)
        ), metrics

    return step


BOUNDS = ("elbo", "bound")
"""Terms whose errors are estimated in an evaluation."""


def make_eval_step(nets: Nets, variant: Variant, fetch: Fetch, draws: int = 1) -> Callable[..., Metrics]:
    """The same loss, with the same weights, of another split: (params, indices, key, step, hyper) -> metrics.

    An example's noise folds in its place in the data, so it does not depend on the batch size, and
    is the same at every evaluation. Terms are means over `draws` of it. With each of BOUNDS come its variance over
    images ("elbo_variance") and, of several draws, the images' mean variance over those ("elbo_draw_variance").
    """

    def step(params, indices, key, step, hyper):
        key = randomness.stream(key, "evaluation")
        batch = fetch(indices, indices, randomness.stream(key, "binarize"))

        def draw(noise_key):
            return variant.loss(nets, params, batch, noise_key, step, **hyper.variant)

        noise_key = randomness.stream(key, "noise")
        if draws == 1:
            loss, terms = draw(noise_key)
            return summarize_terms(terms) | bound_variances(terms) | {"loss": mean_over_devices(loss)}
        # The first draw is that of an evaluation with one.
        others = [randomness.stream(noise_key, "evaluation/draw", n) for n in range(1, draws)]
        losses, rows = jax.lax.map(draw, jnp.stack([noise_key, *others]))
        terms = jax.tree.map(lambda row: jnp.mean(row, axis=0), rows)
        noise = {f"{name}_draw_variance": jnp.var(rows[name], axis=0, ddof=1) for name in _bounds(terms)}
        return summarize_terms(terms | noise) | bound_variances(terms) | {"loss": mean_over_devices(jnp.mean(losses))}

    return step


def bound_variances(terms: Metrics) -> Metrics:
    """The variance over the whole batch of each of BOUNDS that a loss has, nats squared."""
    return {f"{name}_variance": jnp.var(all_gather(terms[name])) for name in _bounds(terms)}


def _bounds(terms: Metrics) -> list[str]:
    return [name for name in BOUNDS if jnp.ndim(terms.get(name, 0.0)) == 1]


MISSING_FIELDS: dict[str, Any] = {"optimizer": "adam", "momentum": 0.9, "weight_decay": 0.0}
"""What runs did whose configs, of an earlier version, do not say so."""


def train_section(config: Config) -> dict[str, Any]:
    """The fields of config.train, those of an earlier version's too. Raises UserError where two of them clash."""
    section = MISSING_FIELDS | dict(config["train"].items())
    with errors_of("config.train."):
        check_decay(section["optimizer"], section["weight_decay"])
        check_ema(section["optimizer"], section["ema"])
    return section


def optimizer_for(config: Config, variant: Variant) -> optax.GradientTransformation:
    """The optimiser that a config asks for, beside the variant's own where that has one.

    Raises UserError for an optimiser that is unknown or would not read the weight decay.
    """
    section = train_section(config)
    with errors_of("config.train."):
        shared = make_optimizer(
            name=section["optimizer"],
            momentum=section["momentum"],
            schedule=make_schedule(**section),
            clip=section["clip"],
        )
    return partition_optimizers(shared, variant.own_optimizer)


def initial_state(
    model: Model, config: Config, image_shape: tuple[int, int, int], key: Key | None = None
) -> TrainState:
    """The state of a run before its first step: a function of the config and the root key, by default its seed's."""
    key = randomness.root_key(config["seed"]) if key is None else key
    optimizer, ema = optimizer_for(config, model.variant), config["train"]["ema"]
    return init_state(key, model.nets, model.variant, optimizer, image_shape, config["latent_dim"], ema)


def make_hyper(config: Config, model: Model) -> Hyper:
    """The traced numbers of a run. Raises UserError for a weight decay that its optimiser would not read."""
    section, given = train_section(config), dict(config["variant"].items())
    floats = {name: jnp.asarray(given.get(name, value), jnp.float32) for name, value in model.floats.items()}
    rate, decay = (jnp.asarray(section[name], jnp.float32) for name in ("learning_rate", "weight_decay"))
    return Hyper(rate, floats, decay)


def fetch_fn(config: Config, is_training: bool = False) -> Callable[[data.Split], Fetch]:
    """split -> how its batches are made; those that are trained on are augmented first."""
    section: dict[str, Any] = {"flip": False, "shift": 0} | dict(config["data"].items())
    binarize = data.binarizer(section["binarize"])
    if not is_training or not (section["flip"] or section["shift"]):
        return lambda split: partial(data.make_batch, split, binarize)
    augment = augmentation(section["flip"], section["shift"])

    def prepare_images(images: StoredImages, key: Key, index: Indices) -> Images:
        return binarize(augment(images, key, index), key, index)

    return lambda split: partial(data.make_batch, split, prepare_images)
