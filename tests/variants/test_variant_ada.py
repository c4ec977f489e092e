"""Ada-GVAE and Ada-ML-VAE: divergences, averages, which latents are shared, and what pairs teach."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from helpers.drawn_params import drawn_params
from helpers.variant_loss import assert_close, loss_and_gradient

from vae_jax import data, randomness
from vae_jax.data import digits, sprites
from vae_jax.errors import UserError
from vae_jax.models import distributions
from vae_jax.models.distributions import Gaussian
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import mlp
from vae_jax.models.optimizers import make_optimizer
from vae_jax.training.step import Hyper, init_state, make_train_step
from vae_jax.typing import AXIS
from vae_jax.variants import ada, beta

SHAPE, LATENT, BATCH = (4, 4, 1), 3, 8
NETS = mlp.make(SHAPE, LATENT, 1, hidden=(8,))
LIKELIHOOD = bernoulli.make()
VAE, VARIANTS = beta.make(LIKELIHOOD), {average: ada.make(LIKELIHOOD, average=average) for average in ada.AVERAGES}
IMAGES = np.random.default_rng(0).integers(0, 2, (2, BATCH, *SHAPE)).astype(np.float32)
PARAMS = {
    "nets": drawn_params(NETS.init, jnp.zeros((1, *SHAPE)), jnp.zeros((1, LATENT))),
    "own": {},
}


def gaussians(count=64, spread=2.0):
    """Two posteriors of `count` images."""
    values = np.random.default_rng(1).normal(0, spread, (4, count, LATENT)).astype(np.float32)
    return Gaussian(*map(jnp.asarray, values[:2])), Gaussian(*map(jnp.asarray, values[2:]))


def evaluate(variant, pair, devices=1, **floats):
    """(loss, terms, gradient), the batch cut over `devices`."""
    batch = {"image": IMAGES[0], "pair": pair, "index": np.arange(BATCH)}
    return loss_and_gradient(variant.loss, NETS, PARAMS, batch, floats, devices=devices)


def test_the_divergence_is_its_integral():
    one, other = gaussians(4, 0.7)
    divergence = np.asarray(distributions.kl(one, other))
    for (i, j), value in np.ndenumerate(divergence):
        q, p = (scipy.stats.norm(float(g.mean[i, j]), float(np.exp(g.logvar[i, j] / 2))) for g in (one, other))
        expected = scipy.integrate.quad(
            lambda z, q=q, p=p: q.pdf(z) * (q.logpdf(z) - p.logpdf(z)), *q.interval(1 - 1e-14)
        )
        np.testing.assert_allclose(value, expected[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(distributions.kl(one, one), 0)


def test_averages_are_moments_and_a_geometric_mean_of_densities():
    one, other = gaussians()
    of_moments = ada.group_average(one, other)
    np.testing.assert_allclose(np.exp(of_moments.logvar), (np.exp(one.logvar) + np.exp(other.logvar)) / 2, rtol=1e-5)
    np.testing.assert_allclose(of_moments.mean, (one.mean + other.mean) / 2, rtol=1e-6)
    mixed = ada.product_average(one, other)

    def log_density(g, z):
        return scipy.stats.norm.logpdf(z, g.mean, np.exp(np.asarray(g.logvar, np.float64) / 2))

    # log N(z; mixed) - 1/2 (log N_1 + log N_2) is the same at every z, latent by latent.
    deviation = np.exp(np.asarray(mixed.logvar) / 2)
    constants = [
        log_density(mixed, z) - 0.5 * (log_density(one, z) + log_density(other, z))
        for z in (np.asarray(mixed.mean) + step * deviation for step in (-2.0, 0.0, 1.0))
    ]
    np.testing.assert_allclose(constants[1], constants[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(constants[2], constants[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("average", ada.AVERAGES)
def test_equal_posteriors_are_left_as_they_are_and_order_does_not_matter(average):
    one, other = gaussians()
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
    jax.tree.map(close, ada.AVERAGES[average](one, one), one)
    jax.tree.map(close, ada.AVERAGES[average](one, other), ada.AVERAGES[average](other, one))


def test_the_nearer_half_of_the_range_is_shared():
    zeros = jnp.zeros((2, 4))
    # KL = square / 2 at unit variances: 0, 0.5, 2, 4.5 with the threshold at 2.25; and all alike.
    moved = Gaussian(jnp.float32([[0, 1, 2, 3], [1, 1, 1, 1]]), zeros)
    shared = ada.shared_latents(Gaussian(zeros, zeros), moved)
    np.testing.assert_array_equal(shared, [[True, True, True, False], [False] * 4])


@jax.jit
@partial(jax.vmap, in_axes=(None, 0), axis_name=AXIS)
@jax.value_and_grad
def vae_draw(params, key):
    batch = {"image": jnp.asarray(IMAGES[0]), "index": jnp.arange(BATCH)}
    return VAE.loss(NETS, params, batch, key, jnp.int32(0), beta=3.0, free_bits=0.0)[0]


@pytest.mark.parametrize("average", ada.AVERAGES)
def test_a_pair_of_equal_images_is_the_beta_vae_with_two_draws(average):
    variant = VARIANTS[average]
    loss, terms, gradient = evaluate(variant, IMAGES[0], beta=3.0, free_bits=0.0)
    second = randomness.stream(randomness.root_key(2), "ada/second")
    draws = [vae_draw(PARAMS, key[None]) for key in (randomness.root_key(2), second)]
    np.testing.assert_allclose(loss, np.mean([value[0] for value, _ in draws]), rtol=1e-5)
    expected = jax.tree.map(lambda a, b: (a[0] + b[0]) / 2, draws[0][1], draws[1][1])
    assert_close(gradient, expected)
    np.testing.assert_array_equal(terms["shared"], 0)


@pytest.mark.parametrize("average", ada.AVERAGES)
def test_shared_latents_are_equal_for_the_two_images_and_others_their_own(average):
    # Seen through the KL, averaged over the two: by hand from the encoder's posteriors.
    variant = VARIANTS[average]
    _, terms, _ = evaluate(variant, IMAGES[1], beta=1.0, free_bits=0.0)
    one, other = (Gaussian(*NETS.encode(PARAMS["nets"], jnp.asarray(images))) for images in IMAGES)
    distance = np.asarray(distributions.kl(one, other))
    same = distance < (distance.max(1, keepdims=True) + distance.min(1, keepdims=True)) / 2
    mixed = ada.AVERAGES[average](one, other).kl()
    expected = np.where(same, mixed, (one.kl() + other.kl()) / 2)
    np.testing.assert_allclose(terms["kl"][0], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(terms["shared"][0], same.sum(axis=1))
    assert 0 < same.sum() < same.size


@pytest.mark.full
@pytest.mark.parametrize("devices", [2, 4])
def test_devices_agree_with_one(devices):
    variant = VARIANTS["group"]
    one = evaluate(variant, IMAGES[1], beta=2.0, free_bits=0.1)
    many = evaluate(variant, IMAGES[1], devices, beta=2.0, free_bits=0.1)
    assert_close((one[0], one[2]), (many[0], many[2]))


@pytest.mark.parametrize("average", ada.AVERAGES)
def test_averages_are_finite_at_extremes(average):
    values = jnp.float32([-80, -10, 0, 10, 80])
    one = Gaussian(jnp.tile(jnp.float32([[1e3]]), (5, 5)), jnp.tile(values[None], (5, 1)))
    other = Gaussian(jnp.tile(jnp.float32([[-1e3]]), (5, 5)), jnp.tile(values[:, None], (1, 5)))

    def total(a, b):
        return sum(jnp.sum(leaf) for leaf in ada.AVERAGES[average](a, b))

    value, gradient = jax.value_and_grad(total)(one, other)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in gradient)


def test_data_without_factors_and_unknown_averages_are_refused():
    with pytest.raises(UserError, match=r"^variant.name: 'ada' learns from pairs .*=sprites or dsprites"):
        ada.make(LIKELIHOOD).check(digits.load().train)
    ada.make(LIKELIHOOD).check(sprites.load(sizes=(3, 2, 5, 3, 3)).train)
    with pytest.raises(UserError, match=r"^average: 'mean' is unknown; known: group, product"):
        ada.make(LIKELIHOOD, average="mean")


def informed(codes, classes):
    """(factor, latent): the share of each latent's variance that lies between the values of each factor."""
    explained = []
    for factor in classes.T:
        means = np.stack([codes[factor == value].mean(axis=0) for value in np.unique(factor)])
        counts = np.array([np.sum(factor == value) for value in np.unique(factor)])
        between = np.average((means - codes.mean(axis=0)) ** 2, axis=0, weights=counts)
        explained.append(between / codes.var(axis=0))
    return np.array(explained)


@pytest.mark.slow
def test_pairs_lead_latents_to_single_factors():
    # Places of one shape: with pairs each latent answers to one of x and y, without them to both alike.
    steps, dataset = 1200, sprites.load(sizes=(1, 1, 1, 16, 16), resolution=16, split="random 0.1")
    split, adam, root = jax.device_put(dataset.train), make_optimizer(), randomness.root_key(0)
    nets = mlp.make(dataset.image_shape, 4, 1, hidden=(128,))
    indices = jnp.asarray(data.index_stream(0, 0, steps, split.size, 64))
    every = jnp.arange(split.size)
    images, classes = dataset.train.fetch(every).astype(jnp.float32) / 255, np.asarray(dataset.train.factors(every))

    def answers(variant):
        step = make_train_step(nets, variant, adam, partial(data.make_batch, split, data.threshold_levels))
        state = init_state(root, nets, variant, adam, dataset.image_shape, 4, 0.0)
        hyper = Hyper(jnp.float32(2e-3), {"beta": jnp.float32(1.0), "free_bits": jnp.float32(0.0)})

        def train(state):
            return jax.lax.scan(lambda state, share: step(state, share, root, hyper), state, indices)

        state, terms = jax.jit(jax.vmap(train, axis_name=AXIS))(jax.tree.map(lambda leaf: leaf[None], state))
        params = jax.tree.map(lambda leaf: leaf[0], state.params)
        explained = informed(np.asarray(nets.encode(params["nets"], images)[0]), classes[:, 3:])
        used = np.asarray(terms["kl"][0, -100:].mean(axis=0)) > 0.1
        # How much of what a used latent answers to is one place: 1 for x or y alone, 1/2 for both alike.
        return float(np.mean((explained.max(axis=0) / explained.sum(axis=0))[used]))

    with jax.debug_key_reuse(False):
        with_pairs, without = answers(VARIANTS["group"]), answers(VAE)
    assert with_pairs > 0.9, (with_pairs, without)
    assert with_pairs > without + 0.1, (with_pairs, without)
