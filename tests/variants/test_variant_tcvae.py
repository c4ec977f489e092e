import itertools
import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_vae
from helpers.total_correlation import exact_total_correlation
from helpers.variant_loss import assert_close, loss_and_gradient, whole_batch

from vae_jax import data, randomness
from vae_jax.data import digits
from vae_jax.errors import UserError
from vae_jax.models.distributions import Gaussian, standard_normal
from vae_jax.models.likelihoods import bernoulli
from vae_jax.models.networks import mlp
from vae_jax.models.optimizers import make_optimizer
from vae_jax.training.step import Hyper, init_state, make_train_step
from vae_jax.typing import AXIS
from vae_jax.variants import beta, tcvae

NETS = mlp.make((4, 4, 1), 3, 1, hidden=(8,))
BATCH = 8
IMAGES = np.random.default_rng(0).integers(0, 2, (BATCH, 4, 4, 1)).astype(np.float32)
VAE = beta.make(bernoulli.make())
ONES = {"alpha": 1.0, "beta": 1.0, "gamma": 1.0}
WEIGHTS = {**ONES, "beta": 6.0}


@pytest.fixture(scope="module")
def params():
    return {"nets": NETS.init(jax.random.key(1), jnp.zeros((1, 4, 4, 1)), jnp.zeros((1, 3))), "own": {}}


@cache
def make(estimator="mss"):
    return tcvae.make(bernoulli.make(), estimator=estimator)


def over_devices(variant, params, devices=1, size=60, **floats):
    """Loss, terms as (batch, ...) and gradient, the batch cut over an axis of `devices`."""
    batch = {"image": IMAGES, "index": np.arange(BATCH)}
    loss, terms, gradient = loss_and_gradient(
        variant.loss, NETS, params, batch, floats, seed=0, devices=devices, size=size
    )
    return loss, whole_batch(terms), gradient


@pytest.mark.parametrize(("whole", "size"), [(2, 2), (2, 9), (6, 6), (6, 7), (128, 1497)])
def test_stratified_weights_sum_to_one_and_sit_on_the_diagonal(whole, size):
    rows = [jnp.arange(whole // 2), jnp.arange(whole // 2, whole)]  # as two devices hold them
    weights = np.concatenate([np.exp(tcvae.log_weights("mss", own, whole, size)) for own in rows])
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.diag(weights), 1 / size, rtol=1e-5)
    others = whole - 1
    expected = [(size - others) / (size * others)] + [1 / others] * (others - 1)
    for i, row in enumerate(weights):
        np.testing.assert_allclose(np.sort(np.delete(row, i)), np.sort(expected), rtol=1e-4)


def mean_estimate(estimator, densities, batch, place):
    """E of the estimate of q(z) over every ordered batch that has image 0 at `place`."""
    size = len(densities)
    orders = np.array(list(itertools.permutations(range(1, size), batch - 1)))
    orders = np.insert(orders, place, 0, axis=1)
    weights = np.exp(np.asarray(tcvae.log_weights(estimator, jnp.asarray([place]), batch, size), np.float64))
    return (weights * densities[orders]).sum(axis=1).mean()


@pytest.mark.parametrize(("batch", "place"), [(2, 1), (3, 0), (3, 1), (5, 4), (6, 2)])
def test_stratified_density_is_unbiased_and_weighted_density_is_low_as_stated(batch, place):
    densities = np.array([5.0, 0.1, 0.7, 0.2, 1.3, 0.4])
    np.testing.assert_allclose(mean_estimate("mss", densities, batch, place), densities.mean(), rtol=1e-5)
    weighted = (densities[0] + (batch - 1) * densities[1:].mean()) / (6 * batch)
    np.testing.assert_allclose(mean_estimate("mws", densities, batch, place), weighted, rtol=1e-5)
    assert weighted <= densities.mean() / batch


LATENT, SIZE, WIDTH = 3, 2048, 0.5
COVARIANCE = np.array([[1.0, 0.6, 0.2], [0.6, 1.0, -0.2], [0.2, -0.2, 0.8]])


def correlated(batch, estimator, steps=40):
    """Mean parts on batches of an aggregate posterior that is N(0, COVARIANCE), each q(z|x) of variance WIDTH^2."""
    random = np.random.default_rng(0)
    means = random.normal(size=(SIZE, LATENT))
    # Whitened, so that q(z) has exactly the covariance that the answers are for.
    means = (means - means.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(means.T, bias=True))).T
    means = means @ np.linalg.cholesky(COVARIANCE - WIDTH**2 * np.eye(LATENT)).T
    logvar = jnp.full((batch, LATENT), 2 * math.log(WIDTH))

    @jax.jit
    def parts(mean, noise):
        posterior = Gaussian(mean, logvar)
        z = mean + WIDTH * noise
        return tcvae.decompose(z, jnp.arange(batch), posterior, posterior, estimator, SIZE)

    rows = []
    for _ in range(steps):
        mean = means[random.choice(SIZE, batch, replace=False)].astype(np.float32)
        rows.append([np.mean(part) for part in parts(mean, random.normal(size=mean.shape).astype(np.float32))])
    return np.mean(rows, axis=0)


TC = 0.5 * (np.log(np.diag(COVARIANCE)).sum() - np.linalg.slogdet(COVARIANCE)[1])
MI = 0.5 * np.linalg.slogdet(COVARIANCE)[1] - LATENT * math.log(WIDTH)
DWKL = 0.5 * (np.diag(COVARIANCE) - 1 - np.log(np.diag(COVARIANCE))).sum()


def test_stratified_parts_of_correlated_gaussians_are_the_known_ones():
    mutual_information, total_correlation, dimension_wise_kl = correlated(512, "mss")
    np.testing.assert_allclose(total_correlation, TC, atol=0.04)
    np.testing.assert_allclose(mutual_information, MI, atol=0.05)
    np.testing.assert_allclose(dimension_wise_kl, DWKL, atol=0.03)


def test_stratified_bias_has_the_stated_sign_and_shrinks_with_the_batch():
    small, large = (correlated(batch, "mss", steps)[0] - MI for batch, steps in ((8, 400), (256, 40)))
    assert 0.3 < small < 0.9
    assert abs(large) < 0.5 * small


def test_weighted_parts_of_correlated_gaussians_are_off_by_the_stated_constants():
    mutual_information, total_correlation, dimension_wise_kl = correlated(512, "mws")
    np.testing.assert_allclose(total_correlation - TC, (LATENT - 1) * math.log(SIZE), atol=0.06)
    np.testing.assert_allclose(mutual_information - MI, math.log(SIZE), atol=0.06)
    assert math.log(512) <= mutual_information - MI <= math.log(512 * SIZE) - MI
    np.testing.assert_allclose(dimension_wise_kl - DWKL, -LATENT * math.log(SIZE), atol=0.06)


@partial(jax.jit, static_argnames="estimator")
def decompose(z, posterior, estimator):
    """The parts at codes of a whole batch, of 60 images."""
    return tcvae.decompose(z, jnp.arange(len(z)), posterior, posterior, estimator, 60)


@pytest.mark.parametrize("estimator", tcvae.ESTIMATORS)
def test_mutual_information_is_at_most_what_the_weights_allow(estimator):
    # Posteriors so narrow that no two meet: only image i's own weight is left.
    mean = 10.0 * jnp.arange(4 * 3).reshape(4, 3)
    posterior = Gaussian(mean, jnp.full((4, 3), -6.0))
    parts = decompose(mean, posterior, estimator)
    np.testing.assert_allclose(parts.mutual_information, math.log({"mss": 60, "mws": 240}[estimator]), rtol=1e-5)


@pytest.mark.parametrize("estimator", tcvae.ESTIMATORS)
def test_unit_weights_are_the_vae_with_a_one_sample_rate(estimator, params):
    def one_sample(nets, params, batch, key, step):
        posterior = Gaussian(*nets.encode(params["nets"], batch["image"]))
        z = posterior.sample(key, batch["index"])
        distortion = -bernoulli.make().log_prob(nets.decode(params["nets"], z), batch["image"])
        return jnp.mean(distortion + posterior.log_prob(z) - standard_normal(z).log_prob(z)), {}

    loss, _, gradient = over_devices(make(estimator), params, **ONES)
    expected, _, expected_gradient = over_devices(VAE._replace(loss=one_sample), params)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=2e-5), gradient, expected_gradient)


def test_unit_weights_are_the_vae_in_expectation(params):
    def difference(key):
        batch = {"image": jnp.asarray(IMAGES), "index": jnp.arange(BATCH), "size": 60}

        def values(variant, **floats):
            return jax.value_and_grad(lambda p: variant.loss(NETS, p, batch, key, jnp.int32(0), **floats)[0])(params)

        return jax.tree.map(jnp.subtract, values(make(), **ONES), values(VAE, beta=1.0, free_bits=0.0))

    draws = jax.vmap(jax.vmap(difference), axis_name=AXIS)
    differences = jax.jit(draws)(jax.random.split(jax.random.key(3), (1, 4000)))

    def near_zero(leaf):
        deviation = leaf[0].std(axis=0) / math.sqrt(4000)
        assert np.all(np.abs(leaf[0].mean(axis=0)) < 5 * deviation + 1e-6)

    jax.tree.map(near_zero, differences)


def test_each_weight_is_on_its_own_part(params):
    _, terms, _ = over_devices(make(), params, **ONES)
    loss, _, _ = over_devices(make(), params, alpha=2.0, beta=5.0, gamma=0.5)
    expected = terms["distortion"] + 2 * terms["mutual_information"] + 5 * terms["total_correlation"]
    np.testing.assert_allclose(loss, np.mean(expected + 0.5 * terms["dimension_wise_kl"]), rtol=1e-5)
    np.testing.assert_allclose(terms["elbo"], -terms["distortion"] - terms["rate"], rtol=1e-6)


@pytest.mark.parametrize(
    ("estimator", "devices"), [pytest.param("mss", 2, marks=pytest.mark.full), ("mss", 4), ("mws", 2)]
)
def test_devices_agree_with_one(estimator, devices, params):
    one = over_devices(make(estimator), params, **WEIGHTS)
    many = over_devices(make(estimator), params, devices, **WEIGHTS)
    assert_close(one, many)


def test_the_size_of_the_dataset_moves_no_gradient_of_the_weighted_estimator(params):
    losses, _, gradients = zip(
        *(over_devices(make("mws"), params, size=size, **WEIGHTS) for size in (BATCH, 10**6)), strict=True
    )
    assert_close(*gradients)
    # MI gains log N', TC (L - 1) log N' and DWKL -L log N', N' = N over the batch's own size.
    np.testing.assert_allclose(losses[1] - losses[0], (1 + 6 * 2 - 3) * math.log(10**6 / BATCH), rtol=1e-4)


@pytest.mark.parametrize("estimator", tcvae.ESTIMATORS)
def test_finite_at_extremes(estimator):
    def total(mean, logvar):
        posterior = Gaussian(mean, logvar)
        z = mean + jnp.exp(0.5 * logvar)
        return sum(map(jnp.sum, tcvae.decompose(z, jnp.arange(4), posterior, posterior, estimator, 60)))

    spreads, logvars = np.float32(list(itertools.product((0, 1, 1e4), (-60, -10, 0, 10, 40)))).T.reshape(2, -1, 1, 1)
    means = spreads * np.arange(12.0, dtype=np.float32).reshape(1, 4, 3)
    values = jax.jit(jax.vmap(jax.value_and_grad(total, (0, 1))))(means, np.broadcast_to(logvars, means.shape))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))


@pytest.mark.parametrize("estimator", tcvae.ESTIMATORS)
def test_a_batch_of_one_is_finite(estimator):
    posterior = Gaussian(jnp.ones((1, 3)), jnp.zeros((1, 3)))
    parts = decompose(jnp.zeros((1, 3)), posterior, estimator)
    assert all(np.isfinite(part).all() for part in parts)


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"^estimator: 'mis' is unknown.*did you mean"):
        make("mis")


def trained(seed, steps=400, **floats):
    """Six latents on digits: the exact TC on the training images, and what the last steps logged."""
    dataset = digits.load()
    nets = mlp.make((8, 8, 1), 6, 1, hidden=(128,))
    variant = tcvae.make(bernoulli.make(), estimator="mss")
    optimizer = make_optimizer()
    fetch = partial(data.make_batch, jax.device_put(dataset.train), data.sample_pixels)
    step = make_train_step(nets, variant, optimizer, fetch)
    hyper = Hyper(jnp.float32(2e-3), {name: jnp.float32(value) for name, value in floats.items()})
    key = randomness.root_key(seed)

    def run(state, indices):
        return jax.lax.scan(lambda state, share: step(state, share, key, hyper), state, indices)

    state = init_state(key, nets, variant, optimizer, (8, 8, 1), 6, 0.0)
    indices = data.index_stream(seed, 0, steps, dataset.train.size, 128)
    state, metrics = tiny_vae.over_axis(run, None, 0, **tiny_vae.COMPILER_OPTIONS)(state, jnp.asarray(indices)[None])
    images = jnp.asarray(dataset.train.fetch(np.arange(dataset.train.size)), jnp.float32) / 255
    last = {name: float(np.mean(metrics[name][-50:])) for name in ("total_correlation", "distortion")}
    return exact_total_correlation(nets, state.params, images), last


@pytest.mark.full
def test_a_weight_on_total_correlation_lowers_it_on_digits():
    (plain, plain_terms), (weighed, weighed_terms) = (
        trained(0, alpha=1.0, beta=weight, gamma=1.0) for weight in (1.0, 6.0)
    )
    assert weighed < 0.85 * plain  # two seeds gave 0.65 and 0.49
    assert weighed_terms["total_correlation"] < 0.7 * plain_terms["total_correlation"]
    assert weighed_terms["distortion"] < plain_terms["distortion"] + 0.5  # and not by saying less
