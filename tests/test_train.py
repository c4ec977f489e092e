import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import data, distributions, networks, train, variants
from vae_jax.typing import AXIS
from vae_jax.variants import beta

SHAPE, LATENT = (4, 4, 1), 3


def small(ema=0.0, variant=None, **optimizer):
    """A tiny VAE on noisy copies of ten patterns: (split, state, step under the device axis)."""
    likelihood = distributions.bernoulli()
    nets = networks.mlp(SHAPE, LATENT, 1, hidden=(8,))
    variant = variant or beta.make(likelihood)
    labels = np.arange(64) % 10
    images = np.random.default_rng(0).integers(0, 2, (10, *SHAPE)).astype(np.uint8)[labels] * 200 + 20
    split = jax.device_put(data.split(images.astype(np.uint8), labels))
    adam = train.make_optimizer(**optimizer)
    state = train.init_state(train.root_key(0), nets, variant, adam, SHAPE, LATENT, ema)
    step = train.make_train_step(nets, variant, adam, partial(data.make_batch, split, data.draw), ema)
    lifted = jax.jit(jax.vmap(step, in_axes=(None, 0, None, None), out_axes=None, axis_name=AXIS))
    return split, state, lifted


def hyper(rate=1e-2, **floats):
    return train.Hyper(jnp.float32(rate), {name: jnp.float32(value) for name, value in floats.items()})


def run(step, state, steps, hyper, devices=1, batch=16):
    for i in range(steps):
        indices = jnp.asarray(data.index_stream(0, i, 1, 64, batch)).reshape(devices, -1)
        state, metrics = step(state, indices, train.root_key(0), hyper)
    return state, metrics


def test_a_step_descends_and_counts():
    _, state, step = small()
    first = run(step, state, 1, hyper(beta=1.0))[1]["loss"]
    last_state, last = run(step, state, 200, hyper(beta=1.0))
    assert last_state.step == 200
    assert last["loss"] < first - 1


def test_metrics_are_means_over_the_batch_in_nats():
    _, state, step = small()
    metrics = run(step, state, 1, hyper(beta=3.0))[1]
    np.testing.assert_allclose(metrics["loss"], metrics["distortion"] + 3 * metrics["rate"], rtol=1e-5)
    np.testing.assert_allclose(metrics["elbo"], -metrics["distortion"] - metrics["rate"], rtol=1e-5)
    np.testing.assert_allclose(metrics["rate"], metrics["kl"].sum(), rtol=1e-5)
    # An untrained network's pixels are near-fair coins: log 2 nats each, summed and not averaged.
    np.testing.assert_allclose(metrics["distortion"], 16 * math.log(2), rtol=0.2)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_an_axis_of_several_equals_an_axis_of_one(devices):
    _, state, step = small()
    one, metrics_one = run(step, state, 5, hyper(beta=1.0))
    many, metrics_many = run(step, state, 5, hyper(beta=1.0), devices)
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-6, rtol=2e-4), one.params, many.params)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-4), metrics_one, metrics_many)


def test_changing_a_float_never_recompiles():
    _, state, step = small()
    for value in (0.0, 1.0, 4.0):
        run(step, state, 1, hyper(rate=value + 1e-3, beta=value))
    assert step._cache_size() == 1


def test_clipping_bounds_the_gradient_adam_sees():
    clipped = train.make_optimizer(clip=1.0)
    gradient = {"w": jnp.full((4,), 100.0)}
    state = clipped.update(gradient, clipped.init(gradient))[1]
    (mu,) = [leaf.mu["w"] for leaf in state if hasattr(leaf, "mu")]
    np.testing.assert_allclose(np.linalg.norm(mu), 0.1, rtol=1e-5)  # (1 - b1) of a unit gradient


def test_the_schedule_rises_and_falls():
    # A constant gradient makes every Adam update 1, so what is left is the schedule.
    adam = train.make_optimizer(warmup_steps=10, cosine_steps=100)
    gradient, factors = {"w": jnp.ones(())}, []
    state = adam.init(gradient)
    update = jax.jit(adam.update)
    for _ in range(101):
        updates, state = update(gradient, state)
        factors.append(float(updates["w"]))
    warmup = [(i + 1) / 11 * 0.5 * (1 + math.cos(math.pi * i / 100)) for i in range(11)]
    np.testing.assert_allclose(factors[:11], warmup, rtol=1e-4)
    np.testing.assert_allclose(factors[50], 0.5, rtol=1e-4)
    np.testing.assert_allclose(factors[100], 0.0, atol=1e-6)


def test_the_moving_average_follows_and_is_what_is_evaluated():
    _, state, step = small(ema=0.9)
    after, _ = run(step, state, 1, hyper(beta=1.0))
    expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, state.params, after.params)  # decay (1 + 0) / (10 + 0)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-7), after.average, expected)
    assert train.evaluated(after) is after.average
    assert train.evaluated(state._replace(average=None)) is state.params


def test_evaluation_does_not_depend_on_the_batch():
    split, state, _ = small()
    nets, variant = networks.mlp(SHAPE, LATENT, 1, hidden=(8,)), beta.make(distributions.bernoulli())
    step = train.make_eval_step(nets, variant, partial(data.make_batch, split, data.draw))
    step = jax.jit(jax.vmap(step, in_axes=(None, 0, None, None, None), out_axes=None, axis_name=AXIS))
    arguments = train.root_key(0), jnp.int32(0), hyper(beta=1.0)
    whole = step(state.params, jnp.arange(64)[None], *arguments)["elbo"]
    halves = [step(state.params, part[None], *arguments)["elbo"] for part in (jnp.arange(32), jnp.arange(32, 64))]
    np.testing.assert_allclose(whole, np.mean(halves), rtol=1e-5)


def test_a_variant_is_found_by_its_file_name():
    assert variants.defaults("beta") == {"name": "beta", "beta": 1.0}
    assert variants.defaults("autoencoder") == {"name": "autoencoder"}
