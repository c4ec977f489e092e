import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_vae

from vae_jax import randomness, variants
from vae_jax.models.optimizers import make_optimizer
from vae_jax.training.step import evaluation_params

SPLIT = tiny_vae.split()


@pytest.fixture(scope="module")
def step():
    return tiny_vae.over_axis(tiny_vae.make_step()(SPLIT), None, 0, None, None)


def run(step, state, steps, hyper, devices=1):
    for i in range(steps):
        share = jnp.asarray(tiny_vae.indices(i, 1)).reshape(devices, -1)
        state, metrics = step(state, share, randomness.root_key(0), hyper)
    return state, metrics


def test_a_step_descends_and_counts(step):
    first = run(step, tiny_vae.state(), 1, tiny_vae.hyper())[1]["loss"]
    state, last = run(step, tiny_vae.state(), 200, tiny_vae.hyper())
    assert state.step == 200
    assert last["loss"] < first - 1


def test_metrics_are_means_over_the_batch_in_nats(step):
    metrics = run(step, tiny_vae.state(), 1, tiny_vae.hyper(beta=3.0))[1]
    np.testing.assert_allclose(metrics["loss"], metrics["distortion"] + 3 * metrics["rate"], rtol=1e-5)
    np.testing.assert_allclose(metrics["elbo"], -metrics["distortion"] - metrics["rate"], rtol=1e-5)
    np.testing.assert_allclose(metrics["rate"], metrics["kl"].sum(), rtol=1e-5)
    # An untrained network's pixels are near-fair coins: log 2 nats each, summed and not averaged.
    np.testing.assert_allclose(metrics["distortion"], 16 * math.log(2), rtol=0.2)


@pytest.mark.parametrize("devices", [2, 8])
def test_an_axis_of_several_equals_an_axis_of_one(step, devices):
    one, metrics_one = run(step, tiny_vae.state(), 5, tiny_vae.hyper())
    many, metrics_many = run(step, tiny_vae.state(), 5, tiny_vae.hyper(), devices)
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-6, rtol=2e-4), one.params, many.params)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-5, rtol=1e-4), metrics_one, metrics_many)


def test_changing_a_float_never_recompiles(step):
    run(step, tiny_vae.state(), 1, tiny_vae.hyper())
    compiled = step._cache_size()
    for value in (0.0, 0.5, 4.0):
        run(step, tiny_vae.state(), 1, tiny_vae.hyper(rate=value + 1e-3, beta=value))
    assert step._cache_size() == compiled


def test_clipping_bounds_the_gradient_adam_sees():
    clipped = make_optimizer(clip=1.0)
    gradient = {"w": jnp.full((4,), 100.0)}
    state = clipped.update(gradient, clipped.init(gradient), learning_rate=1.0)[1]
    (mu,) = [leaf.mu["w"] for leaf in state if hasattr(leaf, "mu")]
    np.testing.assert_allclose(np.linalg.norm(mu), 0.1, rtol=1e-5)  # (1 - b1) of a unit gradient


def test_the_schedule_rises_and_falls():
    # A constant gradient makes every Adam update 1, so what is left is the schedule.
    adam = make_optimizer(warmup_steps=10, cosine_steps=100)
    gradient, factors = {"w": jnp.ones(())}, []
    state = adam.init(gradient)
    update = jax.jit(adam.update)
    for _ in range(101):
        updates, state = update(gradient, state, learning_rate=jnp.float32(1.0))
        factors.append(-float(updates["w"]))
    warmup = [(i + 1) / 11 * 0.5 * (1 + math.cos(math.pi * i / 100)) for i in range(11)]
    np.testing.assert_allclose(factors[:11], warmup, rtol=1e-4)
    np.testing.assert_allclose(factors[50], 0.5, rtol=1e-4)
    np.testing.assert_allclose(factors[100], 0.0, atol=1e-6)


def test_the_moving_average_follows_and_is_what_is_evaluated():
    step = tiny_vae.over_axis(tiny_vae.make_step(ema=0.9)(SPLIT), None, 0, None, None)
    before = tiny_vae.state(ema=0.9)
    after, _ = run(step, before, 1, tiny_vae.hyper())
    expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, before.params, after.params)  # decay (1 + 0) / (10 + 0)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-7), after.average, expected)
    assert evaluation_params(after) is after.average
    assert evaluation_params(before._replace(average=None)) is before.params


def test_evaluation_does_not_depend_on_the_batch():
    step = tiny_vae.over_axis(tiny_vae.make_eval_step(SPLIT), None, 0, None, None, None)
    arguments = randomness.root_key(0), jnp.int32(0), tiny_vae.hyper()

    def elbo(share):
        return step(tiny_vae.state().params, share[None], *arguments)["elbo"]

    np.testing.assert_allclose(
        elbo(jnp.arange(60)), np.mean([elbo(jnp.arange(30)), elbo(jnp.arange(30, 60))]), rtol=1e-5
    )


def test_a_variant_is_found_by_its_file_name():
    assert variants.defaults("beta") == {"name": "beta", "beta": 1.0, "free_bits": 0.0}
    assert variants.defaults("autoencoder") == {"name": "autoencoder", "noise": 0.0}
