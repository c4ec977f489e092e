"""Kim & Mnih 2018: two players in one scalar, the known density ratio, codes permuted as they should be."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import trained_digits
from helpers.total_correlation import exact_total_correlation
from helpers.variant_loss import assert_close as trees_close
from helpers.variant_loss import loss_and_gradient, whole_batch

from vae_jax import randomness
from vae_jax.errors import UserError
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import Nets, mlp
from vae_jax.models.networks._parts import dense
from vae_jax.typing import AXIS
from vae_jax.variants import beta, factor

SHAPE, LATENT, BATCH = (4, 4, 1), 3, 8
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
LIKELIHOOD = bernoulli.make()
VARIANT = factor.make(LIKELIHOOD, width=8, depth=2)
VAE = beta.make(LIKELIHOOD)
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 2, (60, *SHAPE)), jnp.float32)
ADVERSARY = dense(8, 8, 2, activation=lambda x: jnp.maximum(x, 0.2 * x))


@pytest.fixture(scope="module")
def params():
    """Codes that differ, and an adversary that has opinions on them but is sure of none."""
    nets = NETS.init(jax.random.key(1), jnp.zeros((1, *SHAPE)), jnp.zeros((1, LATENT)))
    return {"nets": jax.tree.map(lambda leaf: 1.5 * leaf, nets), "own": VARIANT.init(jax.random.key(2), SHAPE, LATENT)}


def evaluated(loss, params, floats, devices=1):
    """Loss, terms of the whole batch and gradient, the batch cut over an axis of `devices`."""
    batch = {"image": IMAGES[:BATCH], "index": np.arange(BATCH)}
    value, terms, gradient = loss_and_gradient(loss, NETS, params, batch, floats, seed=0, devices=devices)
    return value, whole_batch(terms), gradient


def floats(gamma=0.0, weight=1.0, free_bits=0.0):
    return {"gamma": jnp.float32(gamma), "beta": jnp.float32(weight), "free_bits": jnp.float32(free_bits)}


assert_close = partial(trees_close, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("weight", "free_bits"), [(1.0, 0.0), (4.0, 0.3)])
def test_without_gamma_the_networks_are_the_beta_vaes_and_the_scalar_has_the_adversarys_loss_on_top(
    params, weight, free_bits
):
    known = floats(weight=weight, free_bits=free_bits)
    value, terms, gradient = evaluated(VARIANT.loss, params, known)
    known.pop("gamma")
    vae_value, vae_terms, vae_gradient = evaluated(VAE.loss, params, known)
    assert_close(gradient["nets"], vae_gradient["nets"])
    assert_close({name: terms[name] for name in vae_terms}, vae_terms)
    np.testing.assert_allclose(value - np.mean(terms["adversary_loss"]), vae_value, rtol=1e-5)


def test_the_adversarys_gradient_is_that_of_its_own_loss_alone(params):
    one, other = (evaluated(VARIANT.loss, params, floats(gamma))[2]["own"] for gamma in (0.0, 100.0))
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(one)) > 0.01
    assert_close(one, other)


def test_the_networks_gradient_is_that_of_the_penalty_and_through_the_encoder_alone(params):
    plain, weighed = (evaluated(VARIANT.loss, params, floats(gamma))[2]["nets"] for gamma in (0.0, 5.0))
    assert_close(plain["decoder"], weighed["decoder"])
    slope = jax.tree.map(lambda a, b: (b - a) / 5, plain["encoder"], weighed["encoder"])

    def penalty(encoder):
        posterior = Gaussian(*NETS.encode({**params["nets"], "encoder": encoder}, IMAGES[:BATCH]))
        logits = ADVERSARY.apply(params["own"], posterior.sample(randomness.root_key(0), jnp.arange(BATCH)))
        return jnp.mean(logits[:, 0] - logits[:, 1])

    expected = jax.jit(jax.grad(penalty))(params["nets"]["encoder"])
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected)) > 0.05
    assert_close(slope, expected, rtol=1e-3, atol=1e-4)


def test_the_adversary_is_asked_about_both_kinds(params):
    # What the tests around stand on: neither kind's logits are where a loss or its gradient would be zero.
    _, terms, _ = evaluated(VARIANT.loss, params, floats())
    of_joint = 0.5 * np.log1p(np.exp(-terms["total_correlation"]))
    of_permuted = terms["adversary_loss"] - of_joint
    assert 0.01 < of_joint.min() < of_joint.max() < 3
    assert 0.01 < of_permuted.min() < of_permuted.max() < 3
    assert np.std(of_permuted) > 0.02


@pytest.mark.full
@pytest.mark.parametrize("devices", [2, 4])
def test_devices_agree_with_one(params, devices):
    one, many = (evaluated(VARIANT.loss, params, floats(5.0), devices=d) for d in (1, devices))
    assert_close(one, many, rtol=1e-4, atol=1e-4)


def test_permuting_keeps_each_marginal_and_breaks_the_joint():
    column = np.random.default_rng(1).normal(size=(4000, 1)).astype(np.float32)
    codes = jnp.asarray(np.concatenate([column, column, -column], axis=1))
    permuted = np.asarray(factor.permute_latents(randomness.root_key(0), codes))
    np.testing.assert_array_equal(np.sort(permuted, axis=0), np.sort(codes, axis=0))
    assert np.abs(np.corrcoef(permuted.T) - np.eye(3)).max() < 0.06  # four deviations of 4,000 pairs
    np.testing.assert_array_equal(permuted, factor.permute_latents(randomness.root_key(0), codes))


def test_every_order_is_as_likely_and_each_latent_has_its_own():
    rows = jnp.broadcast_to(jnp.arange(3.0).reshape(3, 1), (3, 2))
    permuted = np.asarray(
        jax.vmap(lambda key: factor.permute_latents(key, rows))(jax.random.split(jax.random.key(4), 6000))
    )
    orders = (permuted * np.float32([9, 3, 1]).reshape(1, 3, 1)).sum(axis=1)  # an order as one number
    pairs = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(pairs) == 36
    assert np.all(np.abs(pairs - 6000 / 36) < 5 * math.sqrt(6000 / 36))


def test_one_batch_of_images_gives_the_adversary_the_expected_gradient_of_two(params):
    # Images of ten kinds: a batch of eight has few of them, and a second batch has others.
    patterns = jnp.repeat(IMAGES[:10], 6, axis=0)

    def two_batches(own, images, other, key):
        first, second, order = jax.random.split(key, 3)
        posteriors = (Gaussian(*NETS.encode(params["nets"], x)) for x in (images, other))
        z, z2 = (q.sample(k, jnp.arange(BATCH)) for q, k in zip(posteriors, (first, second), strict=True))
        columns = [jax.random.permutation(k, z2[:, j]) for j, k in enumerate(jax.random.split(order, LATENT))]
        kinds = ((z, 0), (jnp.stack(columns, axis=1), 1))
        return -0.5 * sum(jnp.mean(jax.nn.log_softmax(ADVERSARY.apply(own, x))[:, kind]) for x, kind in kinds)

    def one_batch(own, images, key):
        batch = {"image": images, "index": jnp.arange(BATCH)}
        return VARIANT.loss(NETS, {**params, "own": own}, batch, key, jnp.int32(0), **floats(3.0))[0]

    def gradients(key):
        chosen, *noise = jax.random.split(key, 3)
        images, other = (patterns[jax.random.choice(k, 60, (BATCH,), replace=False)] for k in jax.random.split(chosen))
        one = jax.grad(one_batch)(params["own"], images, noise[0])
        return one, jax.grad(two_batches)(params["own"], images, other, noise[1])

    draws = 4000
    with jax.debug_key_reuse(False):
        trees = jax.jit(jax.vmap(jax.vmap(gradients), axis_name=AXIS))(jax.random.split(jax.random.key(5), (1, draws)))
    one, two = (
        np.concatenate([np.asarray(leaf).reshape(draws, -1) for leaf in jax.tree.leaves(tree)], axis=1)
        for tree in trees
    )
    deviation = np.sqrt((one.var(axis=0) + two.var(axis=0)) / draws)
    assert np.max(np.abs(two.mean(axis=0)) / (deviation + 1e-6)) > 20
    assert np.all(np.abs(one.mean(axis=0) - two.mean(axis=0)) < 5 * deviation + 1e-6)


COVARIANCE = np.array([[1.0, 0.7, 0.2], [0.7, 1.0, -0.3], [0.2, -0.3, 0.8]])
TC = 0.5 * (np.log(np.diag(COVARIANCE)).sum() - np.linalg.slogdet(COVARIANCE)[1])


@pytest.mark.full
def test_a_trained_adversarys_estimate_is_the_known_total_correlation():
    width = 0.2  # of each posterior; the images are the means, and q(z) is N(0, COVARIANCE)

    def encode(params, x):
        return x.reshape(len(x), 3), jnp.full((len(x), 3), 2 * math.log(width))

    nets = Nets(lambda *_: {}, encode, lambda params, z: jnp.zeros((len(z), 1, 3, 1)))
    variant = factor.make(LIKELIHOOD, width=32, depth=2, adversary_learning_rate=2e-3)
    root = jnp.asarray(np.linalg.cholesky(COVARIANCE - width**2 * np.eye(3)), jnp.float32)

    def loss(own, key, size):
        draw, noise = jax.random.split(key)
        batch = {
            "image": (jax.random.normal(draw, (size, 3)) @ root.T).reshape(size, 1, 3, 1),
            "index": jnp.arange(size),
        }
        return variant.loss(nets, {"nets": {}, "own": own}, batch, noise, jnp.int32(0), **floats(1.0))

    def step(carry, key):
        own, state = carry
        updates, state = variant.own_optimizer.update(jax.grad(lambda own: loss(own, key, 128)[0])(own), state)
        return (optax.apply_updates(own, updates), state), None

    @partial(jax.vmap, axis_name=AXIS)
    def trained(keys):
        own = variant.init(jax.random.key(6), (1, 3, 1), 3)
        (own, _), _ = jax.lax.scan(step, (own, variant.own_optimizer.init(own)), keys)
        return loss(own, jax.random.key(7), 20_000)[1]

    with jax.debug_key_reuse(False):
        terms = jax.jit(trained)(jax.random.split(jax.random.key(8), (1, 2500)))
    np.testing.assert_allclose(np.mean(terms["total_correlation"]), TC, atol=0.06)
    assert TC > 0.5
    assert np.mean(terms["adversary_accuracy"]) > 0.6
    assert np.mean(terms["adversary_loss"]) < math.log(2) - 0.05


def test_logits_at_extremes_are_finite_and_chance_is_log_two():
    odds = jnp.float32([-1e30, -1e4, -90.0, 0.0, 90.0, 1e4, 1e30])
    pairs = [grid.ravel() for grid in np.meshgrid(odds, odds)]

    def loss(joint, permuted):
        return jnp.sum(factor.adversary_scores(joint, permuted).loss)

    values = jax.value_and_grad(loss, (0, 1))(*map(jnp.asarray, pairs))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))
    blind = factor.adversary_scores(jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_allclose(blind.loss, math.log(2), rtol=1e-6)
    np.testing.assert_allclose(blind.accuracy, 0.5)
    sure = factor.adversary_scores(jnp.float32([90.0, -90.0]), jnp.float32([-90.0, 90.0]))
    np.testing.assert_allclose(sure.accuracy, [1, 0])
    np.testing.assert_allclose(sure.loss, [0, 90], atol=1e-6)


def test_what_cannot_be_is_refused():
    for field, value in {"width": 0, "depth": 0, "adversary_learning_rate": -1.0}.items():
        with pytest.raises(UserError, match=rf"^{field}: {value} is not allowed"):
            factor.make(LIKELIHOOD, **{field: value})


def trained(steps, **fields):
    """A run on digits, its exact TC on the training images and its distortion on the held-out ones."""
    run = trained_digits.on_digits(steps, **fields)
    images = jnp.asarray(run.dataset.train.fetch(np.arange(run.dataset.train.size)), jnp.float32) / 255
    return run, exact_total_correlation(run.built.nets, run.params, images), run.test["distortion"]


@pytest.mark.parametrize("length", trained_digits.LENGTHS)
def test_the_penalty_lowers_the_exact_total_correlation(length):
    # Any loss of rate lowers TC, so long runs are held against a beta that costs more in distortion.
    small = {"latent_dim": 6, "net.hidden": "(128,)"}
    steps, model, control, ratio, cost = {
        "short": (800, small, 1.0, 0.7, 1.3),  # three seeds: ratios of 0.27 to 0.50 at a cost of 0.5 to 0.9
        "long": (4000, {}, 1.2, 0.95, 0.0),  # 0.76 to 0.85 at a gain of 0.3 to 0.6
    }[length]
    _, plain_tc, plain_distortion = trained(steps, **model, **{"variant.name": "beta", "variant.beta": control})
    run, tc, distortion = trained(steps, **model, **{"variant.name": "factor", "variant.gamma": 4})
    assert tc < ratio * plain_tc
    assert distortion < plain_distortion + cost
    # Against codes that evade it; 256 codes a step, so chance would be within 0.002.
    assert np.mean(run.train["adversary_accuracy"][100:]) > 0.515
    assert np.mean(run.train["total_correlation"][100:]) > 0
