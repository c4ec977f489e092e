"""The train step and the evaluation step: pure functions of (state, indices, key, hyper).

Both run under the named axis AXIS; parallel.py lifts them over devices and steps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Int

from vae_jax.divergences import gather, mean_over_devices, places
from vae_jax.networks import Nets
from vae_jax.typing import Batch, Indices, Key, Metrics, Params, Scalar
from vae_jax.variants import Variant

BINARIZE, NOISE = range(2)
"""Purposes: each use of randomness folds its own number into the step's key."""
INIT, EVALUATION, PICTURES, SETTLING, MEASURING = (2**32 - 1 - i for i in range(5))
"""What stands for the step where there is none: beyond any step that a run reaches."""

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


def root_key(seed: int) -> Key:
    """The key from which all randomness of a run follows; threefry, whatever JAX's default is."""
    return jax.random.key(seed, impl="threefry2x32")


def make_optimizer(*, warmup_steps: int = 0, cosine_steps: int = 0, clip: float = 0.0) -> optax.GradientTransformation:
    """Adam: clip by global norm, scale by Adam, then by minus the learning rate and the schedule.

    `update` takes `learning_rate` as an argument, so that it may be traced. The
    schedule rises linearly over `warmup_steps` and falls as a cosine to 0 at `cosine_steps`; 0 leaves
    a part out.
    """
    warmup = (
        optax.linear_schedule(1 / (warmup_steps + 1), 1.0, warmup_steps)
        if warmup_steps
        else optax.constant_schedule(1.0)
    )
    cosine = optax.cosine_decay_schedule(1.0, cosine_steps) if cosine_steps else optax.constant_schedule(1.0)
    return optax.chain(
        optax.clip_by_global_norm(clip) if clip else optax.identity(),
        optax.scale_by_adam(),
        _descend(lambda step: warmup(step) * cosine(step)),
    )


def _descend(schedule: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """Scales by -learning_rate * schedule(step); optax.inject_hyperparams would drift numerically."""

    def update(updates, step, params=None, *, learning_rate, **extra):
        rate = -learning_rate * schedule(step)
        return jax.tree.map(lambda u: rate * u, updates), step + 1

    return optax.GradientTransformationExtraArgs(lambda params: jnp.int32(0), update)


def with_own(shared: optax.GradientTransformation, variant: Variant) -> optax.GradientTransformation:
    """The optimiser of {"nets", "own"}: the variant's own for its own parameters where it has one."""
    if variant.own_optimizer is None:
        return shared
    return optax.partition({"nets": shared, "own": variant.own_optimizer}, {"nets": "nets", "own": "own"})


def init_state(
    key: Key, nets: Nets, variant: Variant, optimizer, image_shape, latent_dim: int, ema: float
) -> TrainState:
    """The state before the first step, a function of the root key alone."""
    nets_key, own_key = jax.random.split(jax.random.fold_in(key, INIT))
    examples = variant.examples(image_shape, latent_dim)
    params = {"nets": nets.init(nets_key, *examples), "own": variant.init(own_key, image_shape, latent_dim)}
    # Weak types, which constants without a dtype have, would become strong in a step: another program to compile.
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), params)
    average = jax.tree.map(jnp.copy, params) if ema else None
    return TrainState(jnp.int32(0), params, optimizer.init(params), average)


def evaluated(state: TrainState) -> Params:
    """The weights that evaluation and samples use: the moving average where there is one."""
    return state.params if state.average is None else state.average


def summarize(terms: Metrics) -> Metrics:
    """Per-example terms to means over the whole batch; "code" to the batch's mean and variance of each latent."""
    terms = dict(terms)
    code = gather(terms.pop("code"))
    means = mean_over_devices(
        {name: jnp.mean(term, axis=0) if jnp.ndim(term) else term for name, term in terms.items()}
    )
    return means | {"code_mean": jnp.mean(code, axis=0), "code_variance": jnp.var(code, axis=0)}


def _average(state: TrainState, params: Params, ema: float) -> Params | None:
    if state.average is None:
        return None
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
        batch = fetch(batch_indices, places(len(batch_indices)), jax.random.fold_in(key, BINARIZE))

        def objective(params):
            noise_key = jax.random.fold_in(key, NOISE)
            return variant.loss(nets, params, batch, noise_key, state.step, **hyper.variant)

        (loss, terms), gradient = jax.value_and_grad(objective, has_aux=True)(state.params)
        loss, gradient = mean_over_devices((loss, gradient))
        updates, optimizer_state = optimizer.update(
            gradient, state.optimizer, state.params, learning_rate=hyper.learning_rate
        )
        params = optax.apply_updates(state.params, updates)
        metrics = summarize(terms) | {"loss": loss}
        return TrainState(state.step + 1, params, optimizer_state, _average(state, params, ema)), metrics

    return step


def make_eval_step(nets: Nets, variant: Variant, fetch: Fetch) -> Callable[..., Metrics]:
    """The same loss, with the same weights, on held-out examples: (params, indices, key, step, hyper) -> metrics.

    An example's noise folds in its place in the data, so it does not depend on the batch size, and
    is the same at every evaluation of a run.
    """

    def step(params, indices, key, step, hyper):
        key = jax.random.fold_in(key, EVALUATION)
        batch = fetch(indices, indices, jax.random.fold_in(key, BINARIZE))
        loss, terms = variant.loss(nets, params, batch, jax.random.fold_in(key, NOISE), step, **hyper.variant)
        return summarize(terms) | {"loss": mean_over_devices(loss)}

    return step
