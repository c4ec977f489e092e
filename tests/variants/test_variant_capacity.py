"""Burgess et al. 2018: where C is, where the KL goes, and that C = 0 is the beta-VAE."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.drawn_params import drawn_params
from helpers.variant_loss import assert_close, loss_and_gradient

from vae_jax import data, randomness
from vae_jax.data import digits
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import mlp
from vae_jax.models.optimizers import make_optimizer
from vae_jax.training.step import Hyper, init_state, make_train_step
from vae_jax.typing import AXIS
from vae_jax.variants import beta, capacity

SHAPE, LATENT = (4, 4, 1), 3
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
LIKELIHOOD = bernoulli.make()
CAPACITY, BETA = capacity.make(LIKELIHOOD), beta.make(LIKELIHOOD)
IMAGES = np.random.default_rng(0).uniform(size=(8, *SHAPE)).astype(np.float32)
NETS_PARAMS = drawn_params(NETS.init, jnp.zeros((1, *SHAPE)), jnp.zeros((1, LATENT)))
PARAMS = {"nets": NETS_PARAMS, "own": {}}


BATCH = {"image": IMAGES, "index": np.arange(8)}


def evaluate(loss, params, floats, step=0, devices=1):
    """(loss, terms, gradient) as NumPy arrays, losses and gradients averaged over `devices`."""
    known = {"beta": 1.0} if loss is BETA.loss else {"gamma": 1.0, "capacity": 0.0, "ramp_steps": 1.0}
    floats = {**known, "free_bits": 0.0, **floats}
    return loss_and_gradient(loss, NETS, params, BATCH, floats, step=step, devices=devices)


@pytest.mark.parametrize(("gamma", "free_bits"), [(1.0, 0.0), (4.0, 0.0), (1.0, 0.1)])
def test_without_capacity_it_is_the_beta_vae(gamma, free_bits):
    floats = {"gamma": gamma, "capacity": 0.0, "ramp_steps": 10.0, "free_bits": free_bits}
    one = evaluate(CAPACITY.loss, PARAMS, floats, step=7)
    other = evaluate(BETA.loss, PARAMS, {"beta": gamma, "free_bits": free_bits})
    assert one[0] > 5
    assert_close((one[0], one[2]), (other[0], other[2]), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.0), (25, 1.25), (100, 5.0), (10_000, 5.0)])
def test_the_target_rises_in_a_line_and_stays(step, expected):
    floats = {"gamma": 3.0, "capacity": 5.0, "ramp_steps": 100.0}
    loss, terms, _ = evaluate(CAPACITY.loss, PARAMS, floats, step)
    np.testing.assert_allclose(terms["capacity"], [expected], rtol=1e-6)
    by_hand = np.mean(terms["distortion"]) + 3 * abs(np.mean(terms["rate"]) - expected)
    np.testing.assert_allclose(loss, by_hand, rtol=1e-5)


def test_below_the_target_the_rate_is_pushed_up_as_hard_as_it_is_pushed_down_above():
    def gradient(gamma, target):
        floats = {"gamma": gamma, "capacity": target, "ramp_steps": 1.0}
        return evaluate(CAPACITY.loss, PARAMS, floats, step=1)[2]["nets"]["encoder"]

    free = gradient(0.0, 0.0)
    above, below = (jax.tree.map(np.subtract, gradient(10.0, target), free) for target in (0.0, 50.0))
    assert max(np.max(np.abs(leaf)) for leaf in jax.tree.leaves(above)) > 0.1
    assert_close(above, jax.tree.map(np.negative, below))


@pytest.mark.full
@pytest.mark.parametrize("devices", [2, 4])
def test_the_kl_is_the_mean_of_the_whole_batch(devices):
    # A target between the shares' means: |mean over the batch| is not the mean of |shares|.
    rates = evaluate(CAPACITY.loss, PARAMS, {})[1]["rate"][0]
    shares = np.mean(rates.reshape(2, 4), axis=1)
    assert abs(shares[0] - shares[1]) > 1e-2
    floats = {"gamma": 50.0, "capacity": 0.9 * np.min(shares) + 0.1 * np.max(shares), "ramp_steps": 1.0}
    one = evaluate(CAPACITY.loss, PARAMS, floats, step=5)
    many = evaluate(CAPACITY.loss, PARAMS, floats, step=5, devices=devices)
    assert_close((one[0], one[2]), (many[0], many[2]))


def test_extremes_are_finite():
    far = jax.tree.map(lambda leaf: 6 * leaf, PARAMS)
    for floats in ({"gamma": 1e5, "capacity": 1e4, "ramp_steps": 0.0}, {"gamma": 0.0, "capacity": 0.0}):
        loss, _, gradient = evaluate(CAPACITY.loss, far, floats, step=1)
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((loss, gradient)))


@pytest.mark.full
def test_the_rate_lands_on_the_capacity_on_digits():
    # The VAE's own rate here is near 6 nats: one target below it, one above; two members of one program.
    dataset, steps, targets = digits.load(), 600, np.float32([3.0, 9.0])
    split = jax.device_put(dataset.train)
    nets = mlp.make(dataset.image_shape, 8, 1, hidden=(64,))
    adam = make_optimizer()
    root = randomness.root_key(0)
    step = make_train_step(nets, CAPACITY, adam, partial(data.make_batch, split, data.sample_pixels))
    indices = data.index_stream(0, 0, steps, split.size, 64)

    def rates(target):
        state = init_state(root, nets, CAPACITY, adam, dataset.image_shape, 8, 0.0)
        floats = {"gamma": jnp.float32(100), "capacity": target, "ramp_steps": jnp.float32(300), "free_bits": 0.0}
        hyper = Hyper(jnp.float32(2e-3), floats)
        return jax.lax.scan(lambda state, share: step(state, share, root, hyper), state, indices)[1]["rate"]

    members = np.asarray(jax.jit(jax.vmap(jax.vmap(rates), axis_name=AXIS))(targets[None]))[0]
    np.testing.assert_allclose(np.mean(members[:, -200:], axis=1), targets, atol=0.25)
    np.testing.assert_allclose(np.mean(members[:, 140:160], axis=1), targets / 2, atol=0.5)
